"""`picolm evaluate`: what the models of a run know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from picolm.commands.arguments import AsJson, ModelPath, Trust, With, trusted
from picolm.errors import PicoLMError

KINDS = (
    "KIND: choices, classification, generation, lexical, ner, nominalization, pairs, perplexity, tokens or words; "
    "may be repeated."
)


def evaluate(
    target: ModelPath,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="'KIND:PATH key=value ...'",
            help=KINDS,
        ),
    ] = None,
    checkpoints: Annotated[str, typer.Option("--checkpoints", help="last, all, or steps: 100,200.")] = "last",
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; default: eval/ of the run, nowhere for other targets.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what is there already.")] = False,
    precision: Annotated[str, typer.Option("--precision", help="fp32, or bf16 for matrix products.")] = "fp32",
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", min=1, help="Positions read at once; changes nothing but speed.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    paradigms: Annotated[
        bool, typer.Option("--paradigms", help="Show every paradigm, not only larger groups.")
    ] = False,
    with_: With = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Ask models what they know: minimal pairs, perplexity, named entities, classification, choices, words.

    Examples:
        picolm evaluate runs/demo --task pairs:blimp.jsonl.gz --task perplexity

        picolm evaluate runs/demo --checkpoints all --task "pairs:blimp.jsonl.gz pairs_per_paradigm=100"

        picolm evaluate some-llama --task "perplexity:corpus.jsonl stride=256" --out scores
    """
    from picolm.assembly.evaluating import evaluate as evaluate_target
    from picolm.terminal.evaluation import EvaluationProgress, print_evaluations
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    with EvaluationProgress(messages()) as progress:
        rows = evaluate_target(
            target,
            tasks or [],
            checkpoints=_steps(checkpoints),
            out=out,
            again=again,
            precision=_precision(precision),
            batch_tokens=batch_tokens,
            device=device,
            progress=progress,
            trusted=trusted(with_),
            trust=trust,
        )
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        print_evaluations(rows, paradigms=paradigms)


def _steps(text: str) -> Literal["all", "last"] | list[int]:
    if text == "all":
        return "all"
    if text == "last":
        return "last"
    try:
        return [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        raise PicoLMError(f"--checkpoints '{text}' is neither last, all nor steps such as 100,200") from None


def _precision(text: str) -> Literal["fp32", "bf16"]:
    if text == "fp32":
        return "fp32"
    if text == "bf16":
        return "bf16"
    raise PicoLMError(f"--precision '{text}' is neither fp32 nor bf16")
