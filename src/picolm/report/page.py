"""The report of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picolm.report import sections
from picolm.report.changes import interventions
from picolm.report.document import document, require_place, write_page
from picolm.report.evaluations import evaluation_figures, evaluation_tables
from picolm.report.figures import (
    Figure,
    domain_figure,
    gradient_figure,
    learning_rate_figure,
    loss_figure,
    speed_figure,
)
from picolm.report.insides import Compared, Insides
from picolm.report.markup import Markup, element, join
from picolm.report.metrics import metric_figures
from picolm.report.record import Record
from picolm.report.representations import inside_figures
from picolm.runs.directory import RunDirectory
from picolm.runs.verification import REPORT

_NOTHING = Insides()


def write_run_report(run: RunDirectory, out: Path | None = None, insides: Insides = _NOTHING) -> Path:
    """Write one self-contained page about a run, finished or not.

    Args:
        run: the run; what it does not have (a validation, samples) is left out of the page.
        out: the file to write; `report.html` in the run directory by default.
        insides: what was computed from its checkpoints and captures, to be drawn too.

    Returns:
        The file.

    Raises:
        PicoLMError: a file of the run is damaged, a newer PicoLM wrote it, the page cannot be written, or `out` is a
            file that is no page of PicoLM.
    """
    # The run's own page is replaced whatever became of it: `picolm verify` says so where it is damaged.
    path = run.path / REPORT if out is None else out
    if out is not None:
        require_place(out)
    write_page(path, _page(Record.read(run), insides))
    return path


def run_figures(record: Record, insides: Insides = _NOTHING) -> list[Figure]:
    """Everything that is drawn of a run."""
    built = (domain_figure, learning_rate_figure, gradient_figure, speed_figure)
    figures = [figure for build in (loss_figure, *built) if (figure := build(record))]
    return [
        *figures,
        *evaluation_figures([record]),
        *metric_figures([record]),
        *inside_figures(Compared([insides]), [record.name]),
    ]


def _page(record: Record, insides: Insides) -> str:
    figures = run_figures(record, insides)
    return document(
        kind="Training run",
        name=record.name,
        summary=sections.summary(record),
        cards=sections.cards(record),
        body=_body(record, {figure.key: sections.plot(figure) for figure in figures}, insides.notes),
        figures=figures,
        picker=Markup(),
    )


def _body(record: Record, plots: dict[str, Markup], notes: Sequence[str]) -> Markup:
    small = join(plots.get(key, "") for key in ("rate", "gradient", "speed"))
    metrics, insides = (join(sections.beginning(plots, kind)) for kind in ("metric-", "inside-"))
    left_out = [element("p", note, class_="note") for note in notes]
    return join(
        (
            sections.section("Interventions", [interventions(record)]),
            sections.section("Loss", [plots.get("loss", Markup())]),
            sections.section("Domains", [plots.get("domains", Markup()), sections.domain_table(record)]),
            sections.section("Evaluation", [*sections.beginning(plots, "evaluation-"), evaluation_tables(record)]),
            sections.section("Metrics", [element("div", metrics, class_="row maps")] if metrics else []),
            sections.section(
                "Representations", [element("div", insides, class_="row maps"), *left_out] if insides else []
            ),
            sections.section("Optimization", [element("div", small, class_="row")] if small else []),
            sections.section("Samples", [sections.samples(record)]),
            sections.section("Configuration", [sections.identity(record), sections.configuration(record)]),
            sections.section("Environment", [sections.environment(record), sections.attempts(record)]),
            sections.section("Checkpoints", [sections.checkpoints(record)]),
        )
    )
