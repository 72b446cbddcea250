"""The report of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from string import Template

from picolm.report import sections
from picolm.report.changes import interventions
from picolm.report.evaluations import evaluation_figures, evaluation_tables
from picolm.report.figures import (
    domain_figure,
    gradient_figure,
    learning_rate_figure,
    loss_figure,
    speed_figure,
)
from picolm.report.markup import Markup, element, join, script_json, text
from picolm.report.record import Record
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import write_text
from picolm.runs.software import picolm_version
from picolm.runs.verification import REPORT, sealed_page


def write_run_report(run: RunDirectory, out: Path | None = None) -> Path:
    """Write one self-contained page about a run, finished or not.

    Args:
        run: the run; what it does not have (a validation, samples) is left out of the page.
        out: the file to write; `report.html` in the run directory by default.

    Returns:
        The file.

    Raises:
        PicoLMError: a file of the run is damaged, a newer PicoLM wrote it, or the page cannot be written.
    """
    path = run.path / REPORT if out is None else out
    write_text(path, sealed_page(_page(Record.read(run))))
    return path


def _page(record: Record) -> str:
    from plotly.offline import get_plotlyjs

    figures = [
        figure
        for build in (loss_figure, domain_figure, learning_rate_figure, gradient_figure, speed_figure)
        if (figure := build(record))
    ]
    figures += evaluation_figures(record)
    # A page without a plot does not carry 5 MB of plotting.
    plotting = get_plotlyjs() if figures else ""
    theme = _resource("theme.js")
    return Template(_resource("template.html")).substitute(
        policy=_policy(plotting, theme),
        style=_resource("style.css"),
        plotting=plotting,
        theme=theme,
        figures=script_json([figure.as_json() for figure in figures]),
        name=text(record.name),
        summary=text(sections.summary(record)),
        cards=sections.cards(record),
        body=_body(record, {figure.key: sections.plot(figure) for figure in figures}),
        written_by=text(f"PicoLM {picolm_version()}"),
    )


def _body(record: Record, plots: dict[str, Markup]) -> Markup:
    small = join(plots.get(key, "") for key in ("rate", "gradient", "speed"))
    return join(
        (
            sections.section("Interventions", [interventions(record)]),
            sections.section("Loss", [plots.get("loss", Markup())]),
            sections.section("Domains", [plots.get("domains", Markup()), sections.domain_table(record)]),
            sections.section("Evaluation", [*_evaluation_plots(plots), evaluation_tables(record)]),
            sections.section("Optimization", [element("div", small, class_="row")] if small else []),
            sections.section("Samples", [sections.samples(record)]),
            sections.section("Configuration", [sections.identity(record), sections.configuration(record)]),
            sections.section("Environment", [sections.environment(record), sections.attempts(record)]),
            sections.section("Checkpoints", [sections.checkpoints(record)]),
        )
    )


def _evaluation_plots(plots: dict[str, Markup]) -> list[Markup]:
    return [plot for key, plot in plots.items() if key.startswith("evaluation-")]


def _policy(*scripts: str) -> str:
    # By hash and not 'unsafe-inline': even if a script in the run's text got into the page, it would not run.
    # Plotly writes its own style rules. Saving a plot as a picture makes a blob.
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return resources.files("picolm.report").joinpath(name).read_text(encoding="utf-8")
