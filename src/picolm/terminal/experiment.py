"""Experiments for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size

if TYPE_CHECKING:
    from picolm.experiments.findings import Findings, Judged
    from picolm.experiments.statistics.verdict import Verdict


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


def print_verdicts(found: Findings) -> None:
    """Print what an experiment found: verdicts, the noise floor, what a reader must know."""
    done = sum(run.state == "finished" for run in found.runs)
    print(printable(f"{found.plan.name}: {found.plan.claim or 'no claim'}"))
    print(f"{done} of {len(found.runs)} runs finished")
    for one in found.judged:
        print()
        for line in _verdict_lines(one):
            print(printable(line))
    print()
    floors = [one for one in found.effects if one.noise is not None and one.arm == found.plan.control]
    if floors:
        print_table(
            ["noise floor of", "size", "mean", "sd over seeds"],
            [
                [one.words, one.size, f"{one.noise.estimate.value:.4g}", f"{one.noise.sd:.2g}"]
                for one in floors
                if one.noise
            ],
        )
    for version in found.deviations:
        print(
            f"the plan was changed after {version.after_runs} runs had begun: {printable('; '.join(version.changes))}"
        )
    for sentence in found.warnings:
        print(f"mind: {printable(sentence)}")


def _verdict_lines(one: Judged) -> list[str]:
    """What was predicted, what was found, and what would settle it."""
    prediction, verdict = one.prediction, one.verdict
    outcome = "no verdict yet" if verdict is None else verdict.outcome
    size = f" at {prediction.size}" if prediction.size else ""
    said = f"{prediction.measure.words}{size}, {one.arm} less {one.against}: {prediction.direction}"
    if prediction.smallest:
        said += f" by {prediction.smallest:g}" + (" or more" if prediction.direction != "same" else " at most")
    lines = [f"{outcome.upper()}  {'primary: ' if prediction.primary else ''}{said}"]
    if verdict is not None:
        lines.append(
            f"  {one.scale} {_estimate(verdict)}" + ("" if one.p_value is None else f", p = {one.p_value:.2g}")
        )
        if verdict.to_settle is not None:
            settles = verdict.to_settle
            lines.append(f"  {settles}" + ("" if settles.seeds is None else " in all would settle it"))
    if one.missing is not None:
        lines.append(f"  {one.missing}")
    return lines


def _estimate(verdict: Verdict) -> str:
    estimate, interval = verdict.claim.estimate, verdict.interval
    between = (
        "" if interval is None else f" [{interval.low:+.4g}, {interval.high:+.4g}] at {100 * interval.confidence:.3g} %"
    )
    return f"{estimate.value:+.4g}{between}, {estimate.seeds} seed{'' if estimate.seeds == 1 else 's'}"
