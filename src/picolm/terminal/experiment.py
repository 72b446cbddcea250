"""Experiments for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size

if TYPE_CHECKING:
    from picolm.experiments.findings import Findings, Judged


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
    if found.judged:
        print_table(
            ["verdict", "prediction", "effect", "interval", "p", "seeds"], [_verdict_row(one) for one in found.judged]
        )
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


def _verdict_row(one: Judged) -> list[str]:
    said = f"{one.prediction.measure.words}, {one.arm} less {one.against}: {one.prediction.direction}"
    if one.prediction.smallest:
        said += f" by {one.prediction.smallest:g} or more"
    name = ("primary: " if one.prediction.primary else "") + said
    verdict = one.verdict
    if verdict is None:
        return ["none yet", name, one.missing or "", "", "", ""]
    interval = verdict.interval
    p = "" if one.p_value is None else f"{one.p_value:.2g}"
    settle = "" if verdict.to_settle is None else f" ({verdict.to_settle} would settle it)"
    return [
        verdict.outcome,
        name,
        f"{verdict.claim.estimate.value:+.4g}",
        "" if interval is None else f"{interval.low:+.4g} to {interval.high:+.4g} ({interval.confidence:.1%})",
        p,
        f"{verdict.claim.estimate.seeds}{settle}",
    ]
