"""What was changed about the training of a run, and when it acted."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from picolm.report import numbers
from picolm.report.markup import Markup, data_table
from picolm.report.record import Line, Record

_NOT_SETTINGS = ("use", "name", "sha256")


def interventions(record: Record) -> Markup:
    """A row for each intervention: its settings, and the events that it left in the log."""
    listed = record.identity.get("interventions")
    if not isinstance(listed, list) or not listed:
        return Markup()
    events = _events(record)
    rows = [
        [str(item.get("name", "")), str(item.get("use", "")), _settings(item), "; ".join(events[item.get("name")])]
        for item in listed
        if isinstance(item, dict)
    ]
    return data_table(("Name", "From", "Settings", "In the log"), rows)


def _events(record: Record) -> dict[Any, list[str]]:
    """By intervention: each event with the steps at which it happened."""
    steps: dict[tuple[Any, Any], list[int]] = defaultdict(list)
    for line in record.train:
        found = line.get("interventions")
        for event in found if isinstance(found, list) else ():
            if isinstance(event, dict):
                steps[event.get("intervention"), event.get("event")].append(line["step"])
    texts: dict[Any, list[str]] = defaultdict(list)
    for (name, event), at in steps.items():
        texts[name].append(f"{event} {_span(at)}")
    return texts


def _span(steps: list[int]) -> str:
    if len(steps) == 1:
        return f"at step {numbers.whole(steps[0])}"
    return f"{numbers.whole(len(steps))} times, steps {numbers.whole(steps[0])} to {numbers.whole(steps[-1])}"


def _settings(item: Line) -> str:
    return ", ".join(f"{key} = {value}" for key, value in item.items() if key not in _NOT_SETTINGS)
