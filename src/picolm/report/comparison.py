"""Several runs on one page: their curves in the same plots, what they differ in, boxes to choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from picolm.config.difference import ABSENT, difference
from picolm.errors import PicoLMError
from picolm.report import numbers, sections
from picolm.report.document import document, require_place, write_page
from picolm.report.evaluations import evaluation_figures
from picolm.report.figures import COLOURS, LOGARITHMIC_STEPS, STEPS, Figure, Trace, View, loss_unit
from picolm.report.insides import Compared
from picolm.report.markup import Markup, data_table, element, join
from picolm.report.metrics import metric_figures
from picolm.report.overlay import dash, overlaid, titles
from picolm.report.record import Record, table
from picolm.report.representations import inside_figures
from picolm.report.series import Series, number
from picolm.runs.directory import RunDirectory

_NOTHING = Compared()
Curve = Callable[[Record], Series]


def write_comparison(runs: Sequence[RunDirectory], out: Path, compared: Compared = _NOTHING) -> Path:
    """Write one self-contained page about several runs.

    Args:
        runs: two or more, in the order of their colours.
        out: the file to write.
        compared: what was computed from their checkpoints and captures, to be drawn too.

    Returns:
        The file.

    Raises:
        PicoLMError: a run is named twice, a file of one is damaged, the page cannot be written, or `out` is a file that
            is no page of PicoLM.
    """
    require_place(out)
    write_page(out, _page(read_records(runs), compared))
    return out


def read_records(runs: Sequence[RunDirectory]) -> list[Record]:
    """Read all runs.

    Raises:
        PicoLMError: a run is named twice, or a file of one is damaged.
    """
    places = [run.path.resolve() for run in runs]
    for place in places:
        if places.count(place) > 1:
            raise PicoLMError(f"run {place} is named twice; a page compares different runs")
    return [Record.read(run) for run in runs]


def comparison_figures(records: Sequence[Record], compared: Compared = _NOTHING) -> list[Figure]:
    """Everything that is drawn of several runs: a colour for each run, heat maps side by side.

    Args:
        records: of the runs.
        compared: what was computed from their checkpoints and captures.
    """
    inside = inside_figures(compared, titles(records))
    return [*_losses(records), *evaluation_figures(records), *metric_figures(records), *inside]


def _page(records: Sequence[Record], compared: Compared) -> str:
    figures = comparison_figures(records, compared)
    plots = {figure.key: sections.plot(figure) for figure in figures}
    body = join(
        (
            sections.section("Runs", [_summary(records)]),
            sections.section("Differences", [_differences(records)]),
            sections.section("Loss", sections.beginning(plots, "loss", "domains")),
            sections.section("Evaluation", sections.beginning(plots, "evaluation-")),
            sections.section("Metrics", _grid("pairs", sections.beginning(plots, "map-", "metric-"))),
            sections.section("Representations", _representations(records, compared, plots)),
        )
    )
    return document(
        kind="Comparison of runs",
        name=", ".join(titles(records)),
        summary=f"{len(records)} training runs.",
        cards=Markup(),
        body=body,
        figures=figures,
        picker=_picker(records),
    )


def _representations(records: Sequence[Record], compared: Compared, plots: Mapping[str, Markup]) -> list[Markup]:
    left_out: dict[str, list[str]] = {}
    for title, insides in zip(titles(records), compared.of_runs, strict=False):
        for note in insides.notes:
            left_out.setdefault(note, []).append(title)
    notes = [f"{', '.join(of)}: {note}" for note, of in left_out.items()]
    return [
        *_grid("insides", sections.beginning(plots, "inside-")),
        *(element("p", note, class_="note") for note in notes),
    ]


def _grid(kind: str, plots: Sequence[Markup]) -> list[Markup]:
    return [element("div", *plots, class_=f"row {kind}")] if plots else []


def _picker(records: Sequence[Record]) -> Markup:
    boxes = (
        element("label", Markup(f'<input type="checkbox" checked data-run="{place}">'), _swatch(place), title)
        for place, title in enumerate(titles(records))
    )
    return element("fieldset", element("legend", "Runs that are shown"), *boxes, id="picker")


def _swatch(place: int) -> Markup:
    return element("span", class_=f"swatch run-{place % COLOURS + 1} {dash(place)}", aria_hidden="true")


def _summary(records: Sequence[Record]) -> Markup:
    head = ("Run", "Parameters", "Steps", "Tokens seen", "Train loss", "Validation loss", "Time")
    rows = []
    for title, record in zip(titles(records), records, strict=True):
        total = number(table(record.identity, "parameters").get("total"))
        seen, final = sections.tokens_seen(record), record.final_train_loss
        losses = [loss for line in record.validation if (loss := number(line.get("loss"))) is not None]
        rows.append(
            [
                title,
                "" if total is None else numbers.count(total),
                "" if record.last_step is None else numbers.whole(record.last_step),
                "" if seen is None else numbers.count(seen),
                "" if final is None else numbers.loss(final[0]),
                numbers.loss(losses[-1]) if losses else "",
                "" if record.seconds is None else numbers.duration(record.seconds),
            ]
        )
    return data_table(head, rows, range(1, len(head)))


def _differences(records: Sequence[Record]) -> Markup:
    """A row for each key in which one run at least is not as the first."""
    described = [_described(record) for record in records]
    changed: dict[str, dict[int, Any]] = {}
    for place, values in enumerate(described[1:], start=1):
        for change in difference(described[0], values):
            row = changed.setdefault(change.key, {0: change.left})
            row[place] = change.right
    if not changed:
        return element("p", "The runs have the same configuration, data and interventions.")
    rows = [
        # A run that has no change there has the value of the first.
        [key, *(_written(row.get(place, row[0])) for place in range(len(records)))]
        for key, row in changed.items()
    ]
    return data_table(["Key", *titles(records)], rows)


def _described(record: Record) -> dict[str, Any]:
    listed = record.identity.get("interventions")
    own = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    config = {key: value for key, value in record.config.items() if key != "interventions"}
    return {
        **config,
        "data fingerprint": table(record.identity, "data").get("fingerprint"),
        "parent": table(record.identity, "parent").get("name"),
        "interventions": {str(item.get("name")): item for item in own},
    }


def _written(value: Any) -> str:
    if value == ABSENT or isinstance(value, str):
        return str(value)
    return "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _losses(records: Sequence[Record]) -> list[Figure]:
    units = list(dict.fromkeys(loss_unit(record) for record in records))
    unit = units[0] if len(units) == 1 else "loss (nats)"
    views = []
    for name, curve in (("Validation", _validation), ("Training, smoothed", _training)):
        if traces := _traces(records, curve, ".4f", marked=curve is _validation):
            views += [
                View(name, traces, {"title": {"text": unit}}, STEPS),
                View(f"{name}, logarithmic steps", traces, {"title": {"text": unit}}, LOGARITHMIC_STEPS),
            ]
    figures = [Figure("loss", "Loss", views)] if views else []
    domains = list(dict.fromkeys(domain for record in records for domain in record.domains))
    of_domains = [
        View(domain, traces, {"title": {"text": unit}}, STEPS)
        for domain in domains
        if (traces := _traces(records, _of_domain(domain), ".4f"))
    ]
    return [*figures, Figure("domains", "Validation loss of each domain", of_domains)] if of_domains else figures


def _training(record: Record) -> Series:
    series = Series.of(record.train, "loss")
    return series.smoothed(max(1, len(series.steps) // 50))


def _validation(record: Record) -> Series:
    return Series.of(record.validation, "loss")


def _of_domain(domain: str) -> Curve:
    return lambda record: Series.of(record.validation, "domains", domain, "loss")


def _traces(records: Sequence[Record], curve: Curve, decimals: str, *, marked: bool = True) -> list[Trace]:
    return overlaid(titles(records), [curve(record) for record in records], decimals, marked=marked)
