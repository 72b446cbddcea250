"""The lab notebook for people."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.experiments.record import Record, RecordedBest, RecordedVerdict
from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size

_UNJUDGED = "no verdict"


def print_records(records: Sequence[Record]) -> None:
    """Print a line for each record, in the order given."""
    if not records:
        print("the lab notebook is empty: `picolm experiment record EXPERIMENT` adds an experiment")
        return
    print_table(
        ["date", "experiment", "claim", "verdict", "effect"],
        [[one.date, one.name, one.claim or one.question or "a sweep", *_outcome(one)] for one in records],
    )


def print_record(record: Record) -> None:
    """Print one record: verdicts first, then what was changed, then what it took."""
    print(printable(f"{record.name}, {record.date}: {record.claim or 'a sweep'}"))
    for key in ("question", "lesson"):
        if getattr(record, key):
            print(printable(f"{key}: {getattr(record, key)}"))
    if record.numbers:
        print_table(["prediction", "of", "expected", "verdict", "effect", "p", "seeds"], _verdicts(record.numbers))
    if record.best:
        print_table(["best", "mean", "sd", "seeds", "of points", "values", "as good"], _best(record.best))
    if record.noise:
        rows = [[_at(one.measure, one.size), f"{one.mean:.4g}", f"{one.sd:.2g}", str(one.n)] for one in record.noise]
        print_table(["noise floor", "mean", "sd", "seeds"], rows)
    changes = [
        [arm, key, inline(left), inline(right)]
        for arm, keys in record.change.items()
        for key, (left, right) in keys.items()
    ]
    if changes:
        print_table(["arm", "key", "baseline", "own"], changes)
    for sentence in (*_facts(record), *(f"deviation: {one}" for one in record.deviations)):
        print(printable(sentence))
    for sentence in record.warnings:
        print(printable(f"mind: {sentence}"))


def _outcome(record: Record) -> list[str]:
    primary = record.primary
    if primary is not None:
        return [primary.verdict or _UNJUDGED, _effect(primary)]
    if not record.best:
        return [_UNJUDGED, "-"]
    return ["best", "; ".join(_at(_values(one.point), one.size) for one in record.best)]


def _effect(one: RecordedVerdict) -> str:
    if one.estimate is None:
        return "-"
    interval = "" if one.interval is None else " ({:+.4g} to {:+.4g})".format(*one.interval)
    return f"{one.estimate:+.4g}{interval}" + (" in log ratio" if one.scale == "log ratio" else "")


def _verdicts(numbers: Sequence[RecordedVerdict]) -> list[list[str]]:
    return [
        [
            ("primary: " if one.primary else "") + _at(one.measure, one.size),
            f"{one.arm} less {one.against}",
            _expected(one),
            (one.verdict or _UNJUDGED) + (f" ({one.missing})" if one.missing else ""),
            _effect(one),
            "-" if one.p is None else f"{one.p:.2g}",
            "-" if one.n is None else str(one.n),
        ]
        for one in numbers
    ]


def _expected(one: RecordedVerdict) -> str:
    return f"{one.direction}, {'within' if one.direction == 'same' else 'by more than'} {one.smallest:g}"


def _best(found: Sequence[RecordedBest]) -> list[list[str]]:
    return [
        [
            _at(f"{one.choose} {one.measure}", one.size),
            f"{one.mean:.4f}",
            "-" if one.sd is None else f"{one.sd:.4f}",
            str(one.n),
            str(one.of),
            _values(one.point),
            " | ".join(map(_values, one.as_good)) or "-",
        ]
        for one in found
    ]


def _facts(record: Record) -> list[str]:
    cost = record.cost
    took = "" if cost is None else f", {cost.flops:.2e} FLOP, {readable_duration(cost.seconds)}, "
    disk = "" if cost is None else f"{readable_size(cost.disk_bytes)} on disk"
    begun = f", kept {record.registered}" if record.registered else ""
    found = [f"{record.finished} of {record.runs} runs{took}{disk}", f"plan {record.plan[:12]}{begun}"]
    made = [f"PicoLM {record.picolm}" if record.picolm else "", record.commit[:12], record.machine]
    found += ["made by " + ", ".join(part for part in made if part)] if any(made) else []
    found += [f"again: {record.command}"] if record.command else []
    return found + ([f"report: {record.report}"] if record.report else [])


def _values(point: dict[str, object]) -> str:
    return ", ".join(f"{key}: {inline(value)}" for key, value in point.items())


def _at(words: str, size: str | None) -> str:
    return f"{words}, {size}" if size else words
