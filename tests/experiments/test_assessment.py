"""Findings of an experiment as a whole: what it took, its curves, its search, and a common past."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.experiments.synthetic import (
    FLOPS_PER_TOKEN,
    STEPS,
    TOKENS_PER_STEP,
    Made,
    design_of,
    ending_at,
    make,
    register,
    write_run,
)

from picolm.experiments.assessment import assess
from picolm.experiments.choosing import choose
from picolm.experiments.curves import RunCurves
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.findings import Cost, CurvePanel, Findings
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.making import settle
from picolm.experiments.reading import parse_plan

LINE = {0: 5.0, 25: 4.0, 50: 3.5, STEPS: 3.0}
"""The baseline's curve; repetitions and arms shift it."""


def shift(run: PlannedRun) -> float:
    number = int(run.repetition.removeprefix("seed"))
    return 0.1 * number - (0.5 + 0.01 * number**2) * (run.arm == "hot")


def shifted(run: PlannedRun) -> Made:
    own = {step: loss + shift(run) for step, loss in LINE.items()}
    return Made(own, training={50: 4.0, STEPS: 3.0}, seconds=[(50, 5.0), (STEPS, 10.0)])


def panel(findings: Findings, words: str, over: str) -> CurvePanel:
    return next(one for one in findings.panels if (one.words, one.over) == (words, over))


def test_what_it_took_is_the_sum_over_runs_of_the_steps_they_made(tmp_path: Path) -> None:
    def outcome(run: PlannedRun) -> Made | None:
        half = Made({0: 5.0}, training={50: 4.0}, until=50, seconds=[(50, 5.0)])
        return {"hot.seed1": None, "hot.seed0": half}.get(run.name, shifted(run))

    folder = make(tmp_path / "e", outcome, seeds=2)
    folder.expect(Cost(1.0, 2.0, 3))
    findings = assess(folder)
    assert findings.took.flops == pytest.approx(2.5 * STEPS * TOKENS_PER_STEP * FLOPS_PER_TOKEN)
    assert findings.took.seconds == pytest.approx(25.0) and findings.forecast == Cost(1.0, 2.0, 3)
    files = [file for file in (folder.path / "runs").rglob("*") if file.is_file()]
    assert findings.took.disk_bytes == sum(file.stat().st_size for file in files)
    states = {run.name: (run.state, run.steps, run.cost is None) for run in findings.runs}
    assert states["hot.seed0"] == ("stopped", 50, False) and states["hot.seed1"] == ("waiting", 0, True)


def test_time_is_that_of_the_processes_where_their_ends_were_noted(tmp_path: Path) -> None:
    folder = make(tmp_path / "e", shifted, seeds=1)
    times = [
        ("started", "00:00:00"),
        ("started", "00:01:00"),
        ("ended", "00:01:30"),
        ("started", "00:02:00"),
        ("ended", "00:02:15"),
    ]
    lines = [
        f'{{"event":"{event}","run":"hot.seed0","time":"2026-01-01T{time}+00:00","code":0}}\n' for event, time in times
    ]
    (folder.path / "launches.jsonl").write_text("".join(lines))
    costs = {run.name: run.cost for run in assess(folder).runs}
    # The first process was killed: nobody knows when.
    assert costs["hot.seed0"] is not None and costs["hot.seed0"].seconds == 45.0
    assert costs["cool.seed0"] is not None and costs["cool.seed0"].seconds == 10.0


def test_a_run_that_failed_is_named_with_its_code(tmp_path: Path) -> None:
    folder = make(tmp_path / "e", lambda run: None if run.name == "hot.seed1" else shifted(run))
    folder.note("ended", "hot.seed1", code=1)
    findings = assess(folder)
    failed = next(run for run in findings.runs if run.name == "hot.seed1")
    assert failed.state == "failed" and "code 1" in failed.notes[0] and "hot.seed1.txt" in failed.notes[0]
    assert "1 of 8 runs failed: hot.seed1" in findings.warnings
    assert findings.judged[0].difference is not None and len(findings.judged[0].difference.differences) == 3


def test_panels_have_every_run_bands_of_paired_differences_and_areas(tmp_path: Path) -> None:
    findings = assess(make(tmp_path / "e", shifted))
    found = panel(findings, "validation loss", "steps")
    assert {arm: list(runs) for arm, runs in found.runs.items()} == {
        arm: [f"seed{n}" for n in range(4)] for arm in ("cool", "hot")
    }
    mean = np.array(list(LINE.values())) + 0.15
    assert found.bands["cool"].x.tolist() == list(LINE) and found.bands["cool"].mean == pytest.approx(mean)
    differences = [-(0.5 + 0.01 * n**2) for n in range(4)]
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    band = found.differences["hot"]
    assert band.low is not None and band.high is not None
    assert band.low == pytest.approx(np.full(4, low)) and band.high == pytest.approx(np.full(4, high))
    # Curves that are a constant apart: the area over the length of the axis is that constant.
    assert list(found.areas["hot"].differences.values()) == pytest.approx(differences)
    assert panel(findings, "training loss", "steps").past is None and findings.lineage is None


def test_curves_over_an_axis_that_a_prediction_asks_for_are_compared_where_all_of_them_go(tmp_path: Path) -> None:
    def outcome(run: PlannedRun) -> Made:
        made = shifted(run)
        made.tokens = 2 * TOKENS_PER_STEP if run.arm == "hot" else TOKENS_PER_STEP
        made.validation = {step: 5 - step / 50 - (run.arm == "hot") for step in (0, 33, 66, STEPS)}
        return made

    measure = {"validation": "loss", "summary": "area", "over": "tokens"}
    predictions = [{"measure": measure, "direction": "lower", "primary": True}]
    found = panel(assess(make(tmp_path / "e", outcome, predictions=predictions)), "validation loss", "tokens")
    band = found.differences["hot"]
    assert band.x[-1] == STEPS * TOKENS_PER_STEP
    # After n tokens the treatment has made half as many steps.
    assert band.mean == pytest.approx(-1 + band.x / TOKENS_PER_STEP / 100)


def test_effects_have_every_number_at_every_size_predicted_or_not(tmp_path: Path) -> None:
    sizes = {"small": {}, "large": {"model.d_model": 256}}
    prediction = {"measure": {"validation": "loss"}, "direction": "lower", "size": "large", "primary": True}
    findings = assess(make(tmp_path / "e", shifted, sizes=sizes, predictions=[prediction]))
    told = {(one.arm, one.size): one for one in findings.effects}
    assert list(told) == [(arm, size) for size in sizes for arm in ("cool", "hot")]
    assert told["hot", "large"].predicted and not told["hot", "small"].predicted
    noise = told["cool", "small"].noise
    assert noise is not None and noise.sd == pytest.approx(np.std([0.0, 0.1, 0.2, 0.3], ddof=1))
    assert list(findings.differs) == ["hot.small", "hot.large"]
    assert findings.differs["hot.small"] == {"optimizer.learning_rate": (0.003, 0.006)}


def test_what_a_plan_without_a_claim_shows_has_curves_and_numbers_of_every_run(tmp_path: Path) -> None:
    show = [{"logged": "gradient_norm", "summary": "area"}, {"validation": "loss", "reaches": 3.45}]
    folder = make(tmp_path / "e", shifted, predictions=[], claim="", show=show, seeds=2)
    findings = assess(folder)
    area, reaches = (quantity.words for quantity in findings.plan.show)
    # The norm is half of the training loss: from 2.0 to 1.5 in a straight line.
    assert [run.values[area].value for run in findings.runs] == pytest.approx([1.75] * 4)
    # 3.5 to 3.0 over 50 steps, shifted down by 0.5: reached at once, or a tenth of the way.
    cool = next(run for run in findings.runs if run.name == "cool.seed0")
    assert cool.values[reaches].value == pytest.approx(55)
    shown = panel(findings, "training gradient norm", "steps")
    assert {arm: len(runs) for arm, runs in shown.runs.items()} == {"cool": 2, "hot": 2}
    assert not findings.judged and {one.predicted for one in findings.effects} == {False}
    assert area in {one.words for one in findings.effects}


def test_few_seeds_are_told_once_by_the_verdict_or_before_it(tmp_path: Path) -> None:
    losses = {"hot": [2.0, 3.4, 2.4], "cool": [3.0, 3.0, 3.0]}

    def outcome(run: PlannedRun) -> Made:
        return ending_at(losses[run.arm][int(run.repetition.removeprefix("seed"))])

    findings = assess(make(tmp_path / "e", outcome, seeds=3))
    verdict = findings.judged[0].verdict
    assert verdict is not None and verdict.to_settle is not None
    assert not any("standard deviations of paired differences" in one for one in findings.warnings)
    waiting = assess(
        make(tmp_path / "waiting", lambda run: outcome(run) if run.repetition == "seed0" else None, seeds=3)
    )
    assert any("3 seeds tell an effect only where it lies" in one for one in waiting.warnings)
    single = assess(make(tmp_path / "single", outcome, seeds=1))
    assert any("a single seed has no noise floor" in one for one in single.warnings)
    assert single.judged[0].verdict is not None and single.judged[0].verdict.outcome == "inconclusive"


def test_what_the_search_chose_stands_beside_its_runs(tmp_path: Path) -> None:
    design = design_of(tune={"grid": {"optimizer.weight_decay": [0.0, 0.2]}})
    folder = register(tmp_path / "e", design)
    assert assess(folder).choices == {} and len(assess(folder).search) == 4
    for run in design.search():
        made = ending_at(3.0 - run.choice["optimizer.weight_decay"])
        write_run(folder.run_path(run.name), run.config.model_dump(mode="json"), made)
    folder.choose(choose(folder, design))
    findings = assess(folder)
    assert findings.choices == {arm: {"optimizer.weight_decay": 0.2} for arm in ("cool", "hot")}
    assert [round(run.values["final validation loss"].value, 3) for run in findings.search] == [3.0, 2.8] * 2


@pytest.fixture
def forked(tmp_path: Path) -> ExperimentFolder:
    base = design_of().base.model_dump(mode="json")
    base["training"]["steps"] = STEPS
    parent = tmp_path / "parent"
    write_run(parent, base, Made(LINE, training={25: 4.5, 50: 4.0, STEPS: 3.0}))
    run = RunCurves(parent).run
    text = (
        "{experiment: 1, claim: Later is better., fork: {run: parent, at: 50}, arms: {cool: {}, "
        "hot: {set: {optimizer.learning_rate: 0.006}}}, seeds: {numbers: 3, vary: [dropout]}, "
        "predictions: [{measure: {validation: loss}, direction: lower, primary: true}]}"
    )
    plan = parse_plan(text, origin="plan", name="plan")
    design = Design(plan, design_of(**{"set": {"training.steps": STEPS}}).config("cool", ""))
    folder = register(tmp_path / "e", design, parent)
    for one in design.comparison():
        path = folder.run_path(one.name)
        origin = {"path": "../../../parent", "step": 50, "config_hash": run.identity["config_hash"], "name": "parent"}
        made = Made({75: 2.5 + shift(one), STEPS: 2.0 + shift(one)}, training={75: 3.5, STEPS: 3.0})
        write_run(path, one.config.model_dump(mode="json"), made, origin)
    return folder


def test_forks_of_one_run_have_its_past_and_are_no_replicates(forked: ExperimentFolder) -> None:
    findings = assess(forked)
    found = panel(findings, "validation loss", "steps")
    assert found.past is not None and found.past.x.tolist() == [0, 25, 50] and found.past.y.tolist() == [5, 4, 3.5]
    assert found.bands["hot"].x.tolist() == [50, 75, STEPS]
    assert found.differences["hot"].mean[0] == 0.0 and found.differences["hot"].low is not None
    assert findings.lineage is not None and findings.lineage.at == 50 and findings.lineage.run.endswith("parent")
    assert "no replicates of the whole training" in findings.warnings[0]
    # Each made half of the steps itself.
    assert findings.took.flops == pytest.approx(6 * STEPS / 2 * TOKENS_PER_STEP * FLOPS_PER_TOKEN)


def test_where_the_parent_is_gone_the_forks_still_say_what_it_was(forked: ExperimentFolder) -> None:
    (forked.path.parent / "parent").rename(forked.path.parent / "elsewhere")
    before = RunCurves(forked.path.parent / "elsewhere").run.identity["config_hash"]
    findings = assess(forked)
    assert findings.lineage is not None and findings.lineage.config_hash == before
    assert panel(findings, "validation loss", "steps").past is None
    assert any("the past is not shown" in one for one in findings.warnings)


def test_progress_is_told_run_by_run(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    assess(make(tmp_path / "e", shifted), lambda phase, done, total: told.append((done, total)))
    assert told == [(done, 8) for done in range(1, 9)]


def test_runs_of_an_earlier_version_of_the_plan_are_none_of_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "e", shifted)
    for run in folder.design().comparison():
        settle(folder, run)
    assert assess(folder).complete
    register(folder.path, design_of(arms={"cool": {}, "hot": {"set": {"optimizer.learning_rate": 0.009}}}))
    findings = assess(folder)
    assert [run.state for run in findings.runs] == ["finished", "waiting"] * 4
    assert "earlier version of the plan" in findings.runs[1].notes[0]
    assert findings.judged[0].verdict is None and len(findings.deviations) == 1


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("run.json", "{", "cannot be read"),
        ("log.jsonl", '{"event": "validation"}\n', "files were changed: KeyError('step')"),
        ("log.jsonl", "{}\n{\n{}\n", "line 2 is not a whole JSON object"),
        ("log.jsonl", "", "has no validation"),
        ("timings.jsonl", '{"step": "x"}\n', "files were changed"),
    ],
)
def test_a_run_with_a_damaged_file_is_left_out_by_name(tmp_path: Path, file: str, content: str, told: str) -> None:
    folder = make(tmp_path / "e", shifted, predictions=[TIMED])
    (folder.run_path("hot.seed2") / file).write_text(content)
    findings = assess(folder)
    damaged = next(run for run in findings.runs if run.name == "hot.seed2")
    assert told in " ".join(damaged.notes) and not damaged.values
    judged = findings.judged[0]
    assert judged.difference is not None and len(judged.difference.differences) == 3
    assert "hot.seed2" in str(judged.missing)


TIMED = {
    "measure": {"validation": "loss", "summary": "area", "over": "seconds"},
    "direction": "lower",
    "primary": True,
}
