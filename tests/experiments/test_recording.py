"""From findings to a record: every number is that of the statistics, whatever the verdict says."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from picolm.experiments.design import Design, base_of
from picolm.experiments.findings import Findings, PlanVersion
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.record import Record
from picolm.experiments.recording import Provenance, provenance_of, record_of
from picolm.runs.software import picolm_version

from .found import DIGEST, PLAIN, SMOOTHED, findings, sweep_findings

MADE_BY = Provenance("0.1.0", "abc+", "a processor, 2 cores, cpu")


def recorded(found: Findings, **words: Any) -> Record:
    return record_of(found, MADE_BY, date=date(2026, 2, 3), command="picolm experiment run it.yaml", **words)


def test_numbers_are_those_of_scipy() -> None:
    record = recorded(findings())
    one = record.primary
    plain, smoothed = list(PLAIN.values()), list(SMOOTHED.values())
    test = stats.ttest_rel(smoothed, plain)
    interval = test.confidence_interval(0.95)
    assert one is not None and one.interval == pytest.approx((interval.low, interval.high))
    assert one.estimate == pytest.approx(0.205) and one.p == pytest.approx(test.pvalue) and one.n == 4
    (noise,) = record.noise
    assert (noise.mean, noise.sd, noise.n) == pytest.approx((sum(plain) / 4, stats.tstd(plain), 4))


@pytest.mark.parametrize(("direction", "verdict"), [("higher", "supported"), ("lower", "refuted")])
def test_a_negative_result_is_kept_like_any_other(direction: str, verdict: str) -> None:
    record = recorded(findings(direction=direction))
    assert record.primary is not None and record.primary.verdict == verdict
    assert record.primary.estimate == pytest.approx(0.205) and len(record.numbers) == 2
    assert record.numbers[1].verdict is None and record.numbers[1].missing == "no run has it"


def test_what_was_changed_and_when_is_in_it() -> None:
    versions = (
        PlanVersion("cd" * 32, "2026-02-01", (), 0),
        PlanVersion(DIGEST, "2026-02-02", ("plan.seeds: 3 -> 4",), 6),
    )
    record = recorded(findings(versions=versions))
    assert record.plan == DIGEST and record.registered == "2026-02-01"
    assert record.deviations == ("2026-02-02, after 6 runs had begun: plan.seeds: 3 -> 4",)
    assert record.change == {"smoothed": {"interventions": ([], ["label_smoothing"])}}
    assert (record.finished, record.runs, record.seeds.numbers) == (8, 8, (0, 1, 2, 3))


def test_a_sweep_keeps_its_best_point_and_those_that_are_as_good() -> None:
    record = recorded(sweep_findings())
    (best,) = record.best
    # Its first point is no baseline.
    assert record.primary is None and record.change == {} and record.noise == ()
    assert best.point == {"model.d_ffn": 128} and best.mean == pytest.approx(3.005) and (best.n, best.of) == (2, 3)
    assert best.as_good == ({"model.qk_norm": None},)


def test_by_what_and_on_what_runs_were_made(tmp_path: Path) -> None:
    plan = findings().plan
    folder = ExperimentFolder(tmp_path / "smoothing")
    folder.register(Design(plan, base_of(plan, Path())), "text")
    assert provenance_of(folder).picolm == picolm_version() and provenance_of(folder).commit == ""
    machine = {"cpu": "fast", "cores": 2, "device": "cpu", "picolm": "0.1.0"}
    for name, commit, diff in (("plain.seed0", "a" * 40, None), ("plain.seed1", "a" * 40, None), ("x", "b", "changed")):
        path = folder.run_path(name)
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({"format": 1, "kind": "picolm-run"}))
        line = {**machine, "commit": commit, "diff_sha256": diff}
        (path / "attempts.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    found = provenance_of(folder)
    assert found.machine == "fast, 2 cores, cpu" and found.picolm == "0.1.0"
    assert set(found.commit.split("; ")) == {"a" * 40, "b+"}
