"""Experiments for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size

if TYPE_CHECKING:
    from picolm.experiments.findings import PlanVersion
    from picolm.experiments.outline import Outline


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
    together = f", {found['at_once']} at once" if found["at_once"] > 1 else ""
    source = "as short runs showed" if found["measured"] else "rough: off by a factor of two or three, or more"
    print(
        f"{len(found['runs'])} runs: {total['flops']:.2e} FLOP, about {readable_duration(found['wall_seconds'])}"
        f"{together} ({source}), {readable_size(total['disk_bytes'])} on disk"
    )
    for sentence in found["warnings"]:
        print(f"mind: {printable(sentence)}")


def print_status(found: Mapping[str, Any]) -> None:
    """Print `experiments.status.plain_status`."""
    rows = []
    for run in found["runs"]:
        rate = run["tokens_per_second"] if run["state"] == "running" else None
        speed = "" if rate is None else f"{rate:,.0f}"
        rows.append([run["name"], run["state"], f"{run['step']:,}/{run['steps']:,}", speed])
    print_table(["run", "state", "step", "tokens/s"], rows)
    print(printable(f"{found['path']}: " + ", ".join(f"{n} {state}" for state, n in found["states"].items())))
    for run in found["runs"]:
        if run["state"] == "failed":
            print(printable(f"why {run['name']} failed: {run['log']}"))


def calibration_line(runs: int, seconds: float) -> str:
    """What is said before short runs are made."""
    return (
        f"{runs} short run{'s show' if runs > 1 else ' shows'} what the runs take, for very roughly "
        f"{readable_duration(seconds)}; --quick does without"
    )


def opening_lines(found: Outline, versions: Sequence[PlanVersion]) -> list[str]:
    """What is said before the runs of a plan are made."""
    total = found.total
    lines = [
        f"{len(found.runs)} runs, {total.flops:.2e} FLOP, about {readable_duration(found.wall_seconds)}"
        f"{'' if found.measured else ' (rough)'}, {readable_size(total.disk_bytes)} on disk"
    ]
    lines += [f"mind: {sentence}" for sentence in found.warnings]
    newest = versions[-1]
    if newest.after_runs:
        lines.append(f"the plan was changed after {newest.after_runs} runs had begun, which the page says:")
        lines += [f"  {change}" for change in newest.changes]
        lines.append("runs that it no longer has as they were are kept in superseded/")
    return [printable(line) for line in lines]
