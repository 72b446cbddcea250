"""Experiments for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size


def print_outline(found: Mapping[str, Any]) -> None:
    """Print `experiments.outline.Outline` as plain data."""
    print(printable(f"{found['name']}: {found['claim'] or 'no claim'}"))
    rows = []
    for name, arm in found["arms"].items():
        differs = [f"{key}: {inline(left)} -> {inline(right)}" for key, (left, right) in arm["differs"].items()]
        cost = arm["cost_of_a_run"]
        took = [f"{cost['flops']:.2e}", readable_duration(cost["seconds"]), readable_size(cost["disk_bytes"])]
        rows.append([name, f"{arm['steps']:,}", *took, "; ".join(differs) or "baseline"])
    print_table(["arm", "steps", "FLOP", "time", "disk", "differs in"], rows)
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
    together = f", {found['at_once']} at once" if found["at_once"] > 1 else ""
    source = "as short runs showed" if found["measured"] else "rough: off by a factor of two or three, or more"
    print(
        f"{len(found['runs'])} runs: {total['flops']:.2e} FLOP, about {readable_duration(found['wall_seconds'])}"
        f"{together} ({source}), {readable_size(total['disk_bytes'])} on disk"
    )
    for sentence in found["warnings"]:
        print(f"mind: {printable(sentence)}")


def calibration_line(runs: int, seconds: float) -> str:
    """What is said before short runs are made."""
    return (
        f"{runs} short run{'s show' if runs > 1 else ' shows'} what the runs take, for very roughly "
        f"{readable_duration(seconds)}; --quick does without"
    )
