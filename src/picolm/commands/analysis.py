"""`picolm analyze`: how a model's inside changes while it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from picolm.commands.arguments import AsJson, complete_run
from picolm.errors import PicoLMError

if TYPE_CHECKING:
    from picolm.analysis.pipeline import Analysis
    from picolm.runs.tables import Measured


def complete_metric(incomplete: str) -> list[str]:
    """Metrics that begin so, after the last comma."""
    from picolm.analysis.metric import REGISTRY

    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in REGISTRY if name.startswith(begun)]


def analyze(
    targets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TARGET...",
            help="Runs, checkpoints, original Pico runs, folders of revisions, or models.",
            autocompletion=complete_run,
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            metavar="NAME",
            help="What: per, cka, ...; may be repeated, or have commas between.",
            autocompletion=complete_metric,
        ),
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option(
            "--sites",
            metavar="PATTERN",
            help="Where: layers.*.attention.ov.*, residual.*, 'delta(SITE; previous)', 'gradient(SITE)'; may be "
            "repeated, or have commas between.",
        ),
    ] = None,
    steps: Annotated[str, typer.Option("--steps", help="all, last, log:20, or steps: 100,200.")] = "all",
    against: Annotated[
        str, typer.Option("--against", help="Metrics of pairs compare with: final, previous, a step, another suite.")
    ] = "final",
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            metavar="FILE",
            help="A text, or a probe's name in the run: activations and gradients are computed on it. Default: those "
            "that were captured.",
        ),
    ] = None,
    probe_rows: Annotated[int, typer.Option("--probe-rows", min=1, help="At most so many rows of the text.")] = 16,
    probe_length: Annotated[int, typer.Option("--probe-length", min=2, help="Positions of each row.")] = 128,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="Where tables go; default: metrics/ of the run, of other targets analysis/NAME/metrics."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what is there already.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show all metrics, and the sites of the targets.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure weights, updates, gradients, activations and attention at every checkpoint, into tidy tables.

    Examples:
        picolm analyze --list

        picolm analyze runs/demo --metrics per,condition_number --sites "layers.*.attention.ov.*"

        picolm analyze runs/demo --metrics cka --sites "residual.*" --probe text.txt --against final
    """
    from picolm.analysis.opening import open_source
    from picolm.analysis.pipeline import Analysis, Request, folder_of
    from picolm.terminal.analysis import print_analysis
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    if listed or metrics == ["list"]:
        _list(targets or [], probe, as_json)
        return
    if not targets:
        raise PicoLMError("name at least one target, for example runs/demo; --list shows all metrics")
    request = Request(
        _parted(metrics), _parted(sites), steps, against, probe, probe_rows=probe_rows, probe_length=probe_length
    )
    # All of them before the first is measured: a mistake in the last one would be found hours later.
    sources = [open_source(target) for target in targets]
    folders = [folder_of(source, _own(output, targets, source.path)) for source in sources]
    _refuse_one_place(targets, folders)
    analyses = [Analysis(source, request, folder) for source, folder in zip(sources, folders, strict=True)]
    for analysis in analyses:
        for note in analysis.source.notes:
            messages().print(note, highlight=False, markup=False, soft_wrap=True)
    rows = []
    with EvaluationProgress(messages()) as progress:
        for analysis in analyses:
            rows.append(analysis.rows(again=again, progress=progress))
    for analysis, found in zip(analyses, rows, strict=True):
        for name in analysis.without_values(found):
            sentence = f"{analysis.source.path}: '{name}' has no value: what it needs is there at none of the steps"
            messages().print(sentence, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json([_described(*one) for one in zip(analyses, rows, strict=True)])
        return
    for analysis, found in zip(analyses, rows, strict=True):
        print_analysis(analysis, found)


def _described(analysis: Analysis, rows: list[Measured]) -> dict[str, object]:
    # JSON has neither NaN nor infinities.
    plain = [{**row._asdict(), "value": row.value if math.isfinite(row.value) else None} for row in rows]
    return {"target": str(analysis.source.path), "tables": str(analysis.folder), "rows": plain}


def _list(targets: list[Path], probe: str | None, as_json: bool) -> None:
    from picolm.analysis.metric import REGISTRY, metric
    from picolm.analysis.opening import open_source
    from picolm.analysis.pipeline import sites_of
    from picolm.terminal.analysis import print_metrics, print_sites
    from picolm.terminal.tables import print_json

    metrics = [metric(name) for name in REGISTRY]
    sites = {str(target): sites_of(open_source(target), probe) for target in targets}
    if as_json:
        plain = [{"name": one.name, "takes": one.takes, "range": None, "means": one.summary} for one in metrics]
        for line, one in zip(plain, metrics, strict=True):
            line["range"] = [str(bound) if abs(bound) == float("inf") else bound for bound in one.range]  # type: ignore[assignment]
        print_json({"metrics": plain, "sites": sites})
        return
    print_metrics(metrics)
    for target, found in sites.items():
        print_sites(target, found)


def _parted(options: list[str] | None) -> list[str]:
    """What all options name: a comma parts two names, unless it stands within the brackets of a pattern."""
    found: list[str] = []
    for text in options or []:
        depth, begun = 0, ""
        for character in text:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if character == "," and depth == 0:
                found.append(begun.strip())
                begun = ""
            else:
                begun += character
        found.append(begun.strip())
    return [name for name in found if name]


def _own(output: Path | None, targets: list[Path], path: Path) -> Path | None:
    """Where a target's tables go: of several, each into a folder of its own."""
    return output if output is None or len(targets) == 1 else output / path.resolve().name


def _refuse_one_place(targets: list[Path], folders: list[Path]) -> None:
    for folder in folders:
        same = [other for other, place in zip(targets, folders, strict=True) if place.resolve() == folder.resolve()]
        if len(same) > 1:
            raise PicoLMError(f"the tables of {same[0]} and {same[1]} would both go to {folder}: analyze them apart")
