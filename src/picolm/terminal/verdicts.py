"""What an experiment found, for people: verdicts first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picolm.terminal.tables import print_table, printable

if TYPE_CHECKING:
    from picolm.experiments.findings import Findings, Judged
    from picolm.experiments.statistics.verdict import Verdict


def print_findings(found: Findings) -> None:
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
