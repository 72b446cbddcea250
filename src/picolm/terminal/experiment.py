"""Experiments for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size


def print_outline(found: Mapping[str, Any]) -> None:
    """Print `experiments.outline.Outline` as plain data."""
    sweep = found["sweep"]
    heading = found["claim"] or "no claim"
    if sweep is not None:
        varied = f"{sweep['points']} points of {', '.join(sweep['keys'])}"
        heading = f"a sweep, {sweep['kind']}: {varied}; best is the {sweep['choose']} {sweep['measure']}"
    print(printable(f"{found['name']}: {heading}"))
    rows, as_it_is = [], "baseline" if sweep is None else "nothing"
    for name, arm in found["arms"].items():
        differs = [f"{key}: {inline(left)} -> {inline(right)}" for key, (left, right) in arm["differs"].items()]
        cost = arm["cost_of_a_run"]
        took = [f"{cost['flops']:.2e}", readable_duration(cost["seconds"]), readable_size(cost["disk_bytes"])]
        rows.append([name, f"{arm['steps']:,}", *took, "; ".join(differs) or as_it_is])
    print_table(["arm" if sweep is None else "point", "steps", "FLOP", "time", "disk", "differs in"], rows)
    if found["predictions"]:
        print_table(
            ["prediction", "of", "expected", "at least"],
            [
                [
                    ("primary: " if one["primary"] else "") + one["measure"],
                    f"{one['arm']} less {one['against']}" + (f", {one['size']}" if one["size"] else ""),
                    one["direction"],
                    f"{one['smallest']:g}",
                ]
                for one in found["predictions"]
            ],
        )
    total = found["total"]
    print(
        f"{len(found['runs'])} runs: {total['flops']:.2e} FLOP, about {readable_duration(total['seconds'])} of "
        f"training (rough: from a short measurement of this device), {readable_size(total['disk_bytes'])} on disk"
    )
    for sentence in found["warnings"]:
        print(f"mind: {printable(sentence)}")
