"""A card beside each model of an experiment: what it is, what it came to, its learning curves.

    cards/w32.seed0.md                            the card, as an exported model has it, with the numbers of the plan
    cards/w32-seed0-validation-loss.svg, .png     one for each learning curve

A run is never written to: its files are those of its manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from picolm.config.loading import build_config
from picolm.errors import PicoLMError
from picolm.experiments.findings import CurvePanel, Findings, RunRecord
from picolm.report.bands import colour_of
from picolm.report.card import model_card
from picolm.report.experiment_runs import value_words
from picolm.report.figures import LOGARITHMIC_STEPS, Figure, Trace, View
from picolm.report.markup import label
from picolm.report.paper import write_figures
from picolm.report.series import Series, number
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import make_parents, write_text

_OURS = "tags: [picolm]"


def write_cards(
    findings: Findings, folder: Path, runs: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Path]:
    """Write the cards of all runs that have come to their end.

    Args:
        findings: of the experiment.
        folder: where cards and curves go; made when it is not there.
        runs: the folder of its runs.
        progress: is told (what, done, total).

    Returns:
        The cards, in the order of the runs.

    Raises:
        PicoLMError: a file is in the way that is no card of PicoLM, a run is damaged, or one cannot be written.
    """
    finished = [run for run in findings.runs if run.state == "finished"]
    paths = [folder / f"{run.name}.md" for run in finished]
    for path in paths:
        if path.exists() and _OURS not in path.read_text(encoding="utf-8", errors="replace")[:200]:
            raise PicoLMError(f"{path} is there and is no card that PicoLM wrote: move it")
    drawn = [(run, _figures(findings, run)) for run in finished]
    pictures = write_figures([figure for _, own in drawn for figure in own], folder, progress)
    # Two files for each, of which the second is the SVG.
    vectors = iter([path.name for path in pictures if path.suffix == ".svg"])
    for path, (run, own) in zip(paths, drawn, strict=True):
        curves = [f"![{figure.title}]({next(vectors)})\n" for figure in own]
        make_parents(path)
        write_text(path, "\n".join([_card(findings, run, runs / run.name), "## Learning curves\n", *curves]))
    return paths


def _card(findings: Findings, run: RunRecord, path: Path) -> str:
    directory = RunDirectory.open(path)
    model = build_config(directory.identity["config"]).model
    name = f"{findings.plan.name}: {run.name}"
    rows = [f"| {words} | {value_words(value)} |" for words, value in run.values.items()]
    card = model_card(model, name=name, dtype="fp32", run=directory, step=None)
    table = "## In the experiment\n\n" + "\n".join(["| number | value |", "| --- | --- |", *rows]) + "\n"
    return f"{card}\n{table}" if rows else card


def _figures(findings: Findings, run: RunRecord) -> list[Figure]:
    """One for each curve over steps that the run has, on a logarithmic axis: most happens early."""
    colour = colour_of(list(findings.plan.arms).index(run.arm))
    return [_figure(panel, run, colour) for panel in findings.panels if panel.over == "steps" and _has(panel, run)]


def _has(panel: CurvePanel, run: RunRecord) -> bool:
    # What was measured of its inside stands on the page of the experiment, beside the other models.
    return panel.quantity.metric is None and panel.size == run.size and run.repetition in panel.runs.get(run.arm, {})


def _figure(panel: CurvePanel, run: RunRecord, colour: str) -> Figure:
    curve = panel.runs[run.arm][run.repetition]
    series = Series(curve.x.tolist(), [number(value) for value in curve.y.tolist()])
    view = View(
        "Logarithmic", [Trace(run.name, series, colour)], {"title": {"text": label(panel.words)}}, LOGARITHMIC_STEPS
    )
    return Figure(f"{run.name}-{panel.words}", f"{panel.words} of {run.name}", [view])
