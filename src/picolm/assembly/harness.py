"""PicoLM as a model of lm-evaluation-harness: `model="picolm"`, and the harness's own command line.

Importing this module imports `lm_eval`, where `picolm` is then a model by name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, get_args

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model

from picolm.assembly.evaluating import Conditions, open_engine
from picolm.errors import PicoLMError, nearest
from picolm.evaluation.harness import HarnessModel
from picolm.evaluation.scoring import Precision

NAME = "picolm"
ARGUMENTS = ("target", "precision", "batch_tokens", "seed", "trusted", "trust")


@register_model(NAME)
class HarnessTarget(HarnessModel):
    """The model of a target, opened by the harness's `model_args`.

    Args:
        target: a run (its newest checkpoint), a checkpoint or a model directory.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: positions that are read at once; None: what suits the device.
        seed: of what is sampled.
        trusted: interventions outside of PicoLM whose code may run, as in `picolm.open_model`.
        trust: as in `picolm.open_model`.
        batch_size: what the harness hands to every model, asked or not: batches are made by `batch_tokens`.
        max_batch_size: likewise.
        device: likewise; it is chosen as everywhere in PicoLM.
        **others: are refused.

    Raises:
        PicoLMError: there is no such model, or it is masked.
    """

    def __init__(
        self,
        target: str,
        *,
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
        seed: int = 0,
        trusted: Sequence[str] = (),
        trust: bool = False,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **others: Any,
    ) -> None:
        for name in others:
            raise PicoLMError(f"a model of PicoLM's takes no argument '{name}'{nearest(name, ARGUMENTS)}")
        if precision not in get_args(Precision):
            raise PicoLMError(f"precision={precision} is neither fp32 nor bf16")
        conditions = Conditions(precision, batch_tokens, trusted=trusted, trust=trust)
        engine, material = open_engine(str(target), conditions)
        if not material.is_causal:
            raise PicoLMError(f"{target} is a masked model, which continues no text: lm-eval cannot ask it")
        super().__init__(engine, material.tokenizer, bos=material.bos, seed=seed)


def run_harness(target: str, arguments: Sequence[str], *, trusted: Sequence[str] = (), trust: bool = False) -> None:
    """Run `lm_eval run` with a model of PicoLM's.

    Args:
        target: as in `HarnessTarget`.
        arguments: the harness's own, such as `["--tasks", "arc_easy"]`.
        trusted: as in `HarnessTarget`.
        trust: as in `HarnessTarget`.

    Raises:
        PicoLMError: the harness refuses what it was asked, such as a task that it does not have.
    """
    # Quoted, so that the harness takes no part of a path for a number or for several arguments.
    opening = [f"target={target!r}", f"trusted={list(trusted)!r}", f"trust={trust}"]
    own, sys.argv = sys.argv, ["lm_eval", "run", "--model", NAME, "--model_args", *opening, *arguments]
    try:
        cli_evaluate()
    except PicoLMError:
        raise
    except ValueError as error:
        raise PicoLMError(f"lm-evaluation-harness says: {error}") from error
    finally:
        sys.argv = own
