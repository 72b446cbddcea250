"""`picolm lm-eval`: the tasks of lm-evaluation-harness."""

from __future__ import annotations

import typer

from picolm.commands.arguments import ModelPath, Trust, With, trusted
from picolm.errors import PicoLMError


def lm_eval(context: typer.Context, target: ModelPath, with_: With = None, trust: Trust = False) -> None:
    """Let lm-evaluation-harness ask a model; all other options are its own, as `lm_eval run --help` lists them.

    Examples:
        picolm lm-eval runs/demo --tasks arc_easy,piqa --num_fewshot 5

        picolm lm-eval runs/demo --tasks mine --include_path tasks --limit 100 --output_path results

        picolm lm-eval runs/demo --tasks arc_easy --model_args precision=bf16,batch_tokens=8192
    """
    try:
        from picolm.assembly.harness import run_harness
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise PicoLMError("lm-evaluation-harness is not installed: pip install 'picolm[lm-eval]'") from None
    run_harness(str(target), context.args, trusted=trusted(with_), trust=trust)
