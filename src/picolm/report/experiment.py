"""The report of an experiment: the claim, verdicts first, then the plan, then the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from picolm.experiments.findings import Findings
from picolm.report import evidence, numbers, registration
from picolm.report.arms import arm_table
from picolm.report.bands import area_table, curve_figures
from picolm.report.document import document, require_place, write_page
from picolm.report.experiment_runs import runs_table, status
from picolm.report.figures import Figure
from picolm.report.markup import Markup, element, join
from picolm.report.pairs import pair_figures
from picolm.report.sections import beginning, plot, section
from picolm.report.sweep import ranking_tables, sweep_figures
from picolm.report.trend import trend_figures
from picolm.report.verdicts import SIGNS, verdict_cards


def write_experiment_report(findings: Findings, path: Path, runs: Path | None = None) -> Path:
    """Write one self-contained page about an experiment, complete or not.

    Args:
        findings: what was found, as far as it is.
        path: the file to write.
        runs: the folder of its runs, to whose own pages the page leads; `runs` beside the page by default.

    Returns:
        The file.

    Raises:
        PicoLMError: a file is there that is no page of PicoLM, or the page cannot be written.
    """
    require_place(path)
    write_page(path, _page(findings, path, path.parent / "runs" if runs is None else runs))
    return path


def experiment_figures(findings: Findings) -> list[Figure]:
    """Everything that is drawn of an experiment."""
    if findings.plan.sweep is not None:
        return [*sweep_figures(findings), *curve_figures(findings)]
    return [*pair_figures(findings), *trend_figures(findings), *curve_figures(findings)]


def _page(findings: Findings, path: Path, runs: Path) -> str:
    figures = experiment_figures(findings)
    plan = findings.plan
    return document(
        kind="Experiment" if plan.sweep is None else "Sweep",
        name=plan.name,
        summary=plan.claim or "It claims nothing: its runs are shown side by side.",
        cards=join(_card(*card) for card in _cards(findings)),
        body=_body(findings, {figure.key: plot(figure) for figure in figures}, path, runs),
        figures=figures,
        picker=Markup(),
    )


def _card(name: str, value: str, note: str, kind: str = "") -> Markup:
    said = element("dd", element("strong", value), element("span", note, class_="note"))
    return element("div", element("dt", name), said, class_=f"card {kind}".strip())


def _cards(findings: Findings) -> Iterator[tuple[str, ...]]:
    complete = "complete" if findings.complete else "not complete"
    yield "Status", complete, status(findings)
    for judged in findings.judged:
        if judged.prediction.primary:
            outcome = judged.verdict.outcome if judged.verdict else None
            shown = f"{SIGNS[outcome]} {outcome}" if outcome else "no verdict"
            yield "Primary prediction", shown, judged.prediction.measure.words, outcome or ""
    repetitions = len({run.repetition for run in findings.runs})
    yield "Repetitions", str(repetitions), f"of {len(findings.plan.arms)} arms"
    if findings.took.seconds:
        yield "Took", numbers.duration(findings.took.seconds), numbers.flops(findings.took.flops)


def _body(findings: Findings, plots: dict[str, Markup], path: Path, runs: Path) -> Markup:
    first = _verdicts(findings) if findings.plan.claim else _unclaimed(findings, plots)
    return join(
        (
            first,
            section("Plan", registration.plan_parts(findings)),
            *(section(title, parts) for title, parts in _evidence(findings, plots)),
            section("Runs", [runs_table(findings, findings.runs, path, runs)]),
            section("Runs of the search", [runs_table(findings, findings.search, path, runs)]),
        )
    )


def _verdicts(findings: Findings) -> Markup:
    cards = verdict_cards(findings)
    missing = element("p", "No prediction has been judged yet.") if not cards else Markup()
    return section("Verdicts", [*cards, missing, registration.warnings(findings), registration.deviations(findings)])


def _unclaimed(findings: Findings, plots: dict[str, Markup]) -> Markup:
    dots = beginning(plots, "sweep-")
    grid = element("div", *dots, class_="row maps") if dots else Markup()
    alerts = [registration.warnings(findings), registration.deviations(findings)]
    if findings.plan.sweep is None:
        return section("Side by side", [arm_table(findings), *_learning(findings, plots), *alerts])
    return section("Sweep", [*ranking_tables(findings), grid, *alerts])


def _evidence(findings: Findings, plots: dict[str, Markup]) -> Iterator[tuple[str, Sequence[Markup]]]:
    exploration = "What no prediction is about is exploration: among many numbers some differ by chance."
    all_effects = evidence.effect_table(findings)
    yield "Noise floor", [evidence.noise_table(findings)]
    yield "Paired differences", _row(beginning(plots, "pairs", "paired-"))
    yield "All effects", [all_effects, element("p", exploration, class_="note")] if all_effects else []
    yield "Items crossed with seeds", [evidence.items_table(findings)]
    yield "Effects by size", [*evidence.interaction_tables(findings), *_row(beginning(plots, "trend-"))]
    yield "Secondary predictions, by Holm", [evidence.holm_table(findings)]
    if findings.plan.claim or findings.plan.sweep is not None:
        yield "Learning curves", _learning(findings, plots)
    yield "Getting there", [evidence.reach_table(findings)]


def _learning(findings: Findings, plots: dict[str, Markup]) -> Sequence[Markup]:
    return [*beginning(plots, "curves-"), area_table(findings)]


def _row(parts: Sequence[Markup]) -> Sequence[Markup]:
    return [element("div", *parts, class_="row maps")] if parts else []
