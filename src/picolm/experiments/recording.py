"""From what an experiment found to its record in the lab notebook."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date as Date

from picolm.experiments.findings import Findings, Judged, PlanVersion
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.ranking import Ranking, rankings
from picolm.experiments.record import Record, RecordedBest, RecordedCost, RecordedNoise, RecordedVerdict
from picolm.runs.software import picolm_version


@dataclass(frozen=True, slots=True)
class Provenance:
    """By what, and on what, runs were made; several are joined by commas.

    Attributes:
        picolm: versions.
        commit: of the sources; with + where they were changed.
        machine: processors, cores and devices. Names of machines and users are kept nowhere.
    """

    picolm: str
    commit: str
    machine: str


def provenance_of(folder: ExperimentFolder) -> Provenance:
    """What the runs of an experiment say of their starts."""
    runs = (folder.run(name) for name in dict.fromkeys(folder.begun()))
    attempts = [line for run in runs if run is not None for line in run.attempts]
    changed = [(line.get("commit"), "+" if line.get("diff_sha256") else "") for line in attempts]
    return Provenance(
        picolm=_joined(line.get("picolm") for line in attempts) or picolm_version(),
        commit=_joined(f"{commit}{sign}" for commit, sign in changed if commit),
        machine=_joined(_machine(line.get("cpu"), line.get("cores"), line.get("device")) for line in attempts)
        or platform.machine(),
    )


def record_of(
    findings: Findings,
    provenance: Provenance,
    *,
    date: Date,
    command: str,
    report: str | None = None,
    question: str = "",
    lesson: str = "",
) -> Record:
    """Make the record of an experiment, at any stage.

    Args:
        findings: what it found.
        provenance: by what and on what its runs were made.
        date: of the record.
        command: what makes the runs again.
        report: the page, from the folder of the record.
        question: the author's words.
        lesson: the author's words.
    """
    plan, took = findings.plan, findings.took
    return Record(
        record=1,
        name=plan.name,
        date=date.isoformat(),
        claim=plan.claim,
        question=question,
        lesson=lesson,
        numbers=tuple(_verdict(one) for one in findings.judged),
        best=() if plan.sweep is None else tuple(filter(None, map(_best, rankings(plan, findings.runs)))),
        change={arm: {key: (left, right) for key, (left, right) in keys.items()} for arm, keys in _differing(findings)},
        sizes=tuple(plan.sizes),
        seeds=plan.seeds,
        equal=plan.equal,
        noise=_noise(findings),
        finished=sum(run.state == "finished" for run in findings.runs),
        runs=len(findings.runs),
        plan=findings.versions[-1].digest,
        registered=findings.versions[0].written,
        deviations=tuple(_deviation(version) for version in findings.deviations),
        warnings=findings.warnings,
        cost=RecordedCost(flops=took.flops, seconds=round(took.seconds, 1), disk_bytes=took.disk_bytes),
        picolm=provenance.picolm,
        commit=provenance.commit,
        machine=provenance.machine,
        command=command,
        report=report,
    )


def _verdict(one: Judged) -> RecordedVerdict:
    verdict, prediction = one.verdict, one.prediction
    estimate = None if verdict is None else verdict.claim.estimate
    interval = None if verdict is None else verdict.interval
    return RecordedVerdict(
        measure=prediction.measure.words,
        says=prediction.says,
        arm=one.arm,
        against=one.against,
        size=prediction.size,
        direction=prediction.direction,
        smallest=prediction.smallest,
        primary=prediction.primary,
        verdict=None if verdict is None else verdict.outcome,
        estimate=None if estimate is None or not math.isfinite(estimate.value) else estimate.value,
        interval=None if interval is None else (interval.low, interval.high),
        p=one.p_value,
        n=None if estimate is None else estimate.seeds,
        scale=one.scale,
        missing=one.missing,
    )


def _best(ranking: Ranking) -> RecordedBest | None:
    best = ranking.best
    if best is None or best.mean is None:
        return None
    as_good = {one.arm: one.point for one in ranking.points}
    return RecordedBest(
        size=ranking.size or None,
        measure=ranking.measure,
        choose=ranking.choose,
        point=best.point,
        mean=best.mean,
        sd=best.sd,
        n=best.n,
        of=sum(one.whole for one in ranking.points),
        as_good=tuple(as_good[arm] for arm in ranking.as_good),
    )


def _differing(findings: Findings) -> Iterable[tuple[str, dict[str, tuple[object, object]]]]:
    """Arms that differ; those of a sweep are its points, which its plan has."""
    if findings.plan.sweep is not None:
        return []
    return [(arm, dict(keys)) for arm, keys in findings.differs.items() if keys]


def _noise(findings: Findings) -> tuple[RecordedNoise, ...]:
    """One floor for each number and size, though several arms may stand beside it; a sweep has no baseline."""
    if findings.plan.sweep is not None:
        return ()
    found = {
        (effect.words, effect.size): RecordedNoise(
            measure=effect.words,
            size=effect.size or None,
            mean=effect.noise.estimate.value,
            sd=effect.noise.sd,
            n=len(effect.noise.seeds),
        )
        for effect in findings.effects
        if effect.noise is not None
    }
    return tuple(found.values())


def _deviation(version: PlanVersion) -> str:
    changes = "; ".join(version.changes) or "what it stands for changed"
    return f"{version.written}, after {version.after_runs} runs had begun: {changes}"


def _machine(cpu: object, cores: object, device: object) -> str:
    parts = [str(cpu) if cpu else "", f"{cores} cores" if cores else "", str(device) if device else ""]
    return ", ".join(part for part in parts if part)


def _joined(words: Iterable[str | None]) -> str:
    return "; ".join(dict.fromkeys(word for word in words if word))
