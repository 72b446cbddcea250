"""`picolm experiment run`, `one`, `status`, `report`: whole experiments in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from picolm.experiments.folder import ExperimentFolder
from picolm.runs.directory import RunDirectory
from picolm.runs.lock import RunLock
from picolm.runs.verification import verify_run

Call = Callable[..., tuple[int, str, str]]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def plan(small_training: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two arms, two seeds, four steps each; the second arm changes nothing but its steps' size."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(nested(small_training)))
    return written(tmp_path, {"hot": {"set": {"optimizer.learning_rate": 5e-2}}})


def nested(values: dict[str, object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return found


def written(folder: Path, arms: dict[str, Any], **changes: Any) -> Path:
    path = folder / "test.yaml"
    values = {
        "experiment": 1,
        "claim": "Hot runs are worse.",
        "base": "base.yaml",
        "set": {"training.steps": 4, "schedule.warmup_steps": 1, "validation.every": 2, "samples.prompts": []},
        "arms": {"plain": {}, **arms},
        "seeds": 2,
        "predictions": [{"measure": {"validation": "loss"}, "direction": "higher", "smallest": 0.01, "primary": True}],
        **changes,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}, sort_keys=False))
    return path


def picolm(*arguments: str, **keywords: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "picolm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
        **keywords,
    )


def test_an_experiment_from_its_plan_to_its_page(call: Call, plan: Path, tmp_path: Path) -> None:
    code, out, err = call("experiment", "run", str(plan), "--at-once", "2", "--quick", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["complete"] and found["deviations"] == 0 and len(found["runs"]) == 4
    folder = ExperimentFolder.open(tmp_path / "experiments" / "test")
    values: dict[str, dict[str, float]] = {"plain": {}, "hot": {}}
    for run in found["runs"]:
        directory = RunDirectory.open(folder.run_path(run["name"]))
        assert not verify_run(directory).damage
        last = [line for line in directory.log if line["event"] == "validation"][-1]
        assert last["step"] == 4
        assert run["values"]["final validation loss"]["value"] == last["loss"]
        values[run["arm"]][run["repetition"]] = last["loss"]
    differences = [values["hot"][seed] - values["plain"][seed] for seed in ("seed0", "seed1")]
    assert found["verdicts"][0]["estimate"] == pytest.approx(sum(differences) / 2)
    assert "Hot runs are worse." in folder.report_path.read_text()
    # The same data in the same order, and the same initial weights, seed by seed.
    logs = {run["name"]: RunDirectory(folder.run_path(run["name"])).log for run in found["runs"]}
    first = {name: next(line["loss"] for line in log if line["event"] == "train") for name, log in logs.items()}
    assert first["plain.seed0"] == first["hot.seed0"] != first["plain.seed1"] == first["hot.seed1"]
    before = sorted((path, path.stat().st_mtime_ns) for path in (folder.path / "runs").rglob("*.safetensors"))
    code, out, _ = call("experiment", "run", str(plan))
    assert code == 0 and "4 of 4 runs finished" in out
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (folder.path / "runs").rglob("*.safetensors"))
    code, out, _ = call("experiment", "status", "experiments/test")
    assert code == 0 and "4 finished" in out and "4/4" in out


def test_an_experiment_is_made_by_one_process_at_a_time(call: Call, plan: Path, tmp_path: Path) -> None:
    place = ExperimentFolder.make(tmp_path / "experiments" / "test")
    with RunLock(place.path):
        code, _, err = call("experiment", "run", str(plan), "--quick")
    assert code == 2 and "experiment experiments/test is in use by process" in err
    assert not (place.path / "plans.jsonl").exists()


def test_the_scripts_of_a_cluster_make_the_runs(call: Call, plan: Path, tmp_path: Path) -> None:
    code, out, err = call("experiment", "script", str(plan), "hot.seed1")
    assert code == 0, err
    assert out.count("#SBATCH --job-name=hot.seed1\n") == 1
    assert out.rstrip().endswith("-m picolm experiment one experiments/test hot.seed1")
    assert len(ExperimentFolder.open(tmp_path / "experiments" / "test").versions()) == 1
    code, _, err = call("experiment", "script", str(plan), "hot.sed1")
    assert code == 2 and "no run 'hot.sed1'; did you mean 'hot.seed1'" in err


def test_runs_are_measured_when_they_end(call: Call, plan: Path, tmp_path: Path) -> None:
    site = "delta(layers.*.mlp.down_proj; init)"
    asked = [{"metrics": ["per_over_noise"], "sites": [site]}]
    changes = {"training.steps": 4, "schedule.warmup_steps": 1, "samples.prompts": [], "checkpoints.model.at": [0]}
    prediction = {"measure": {"metric": "per_over_noise", "site": site}, "direction": "lower", "primary": True}
    arms = {"hot": {"set": {"optimizer.learning_rate": 5e-2}}}
    written(tmp_path, arms, seeds=[0], set=changes, analyze=asked, predictions=[prediction])
    code, out, err = call("experiment", "run", str(plan), "--quick", "--json")
    assert code == 0, err
    (verdict,) = json.loads(out)["verdicts"]
    assert verdict["estimate"] is not None
    asked[0]["metrics"] = ["per_over_nose"]
    written(tmp_path, arms, seeds=[0], set=changes, analyze=asked, predictions=[prediction])
    code, _, err = call("experiment", "run", str(plan), "--quick")
    assert code == 2 and "'per_over_nose'; did you mean 'per_over_noise'" in err


def test_a_failed_run_is_named_and_the_others_are_made(call: Call, plan: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from picolm.seams import Intervention\n"
        "class Broken(Intervention):\n"
        "    def after_step(self, run):\n"
        "        raise RuntimeError('the dog ate it')\n"
    )
    arms = {"bad": {"with": ["broken.py:Broken"]}}
    written(tmp_path, arms, seeds=[0])
    code, _, err = call("experiment", "run", str(plan))
    assert code == 2 and "broken.py:Broken" in err and not (tmp_path / "experiments").exists()
    code, out, err = call("experiment", "run", str(plan), "--quick", "--with", "broken.py:Broken")
    assert code == 1
    assert "bad.seed0: failed" in err and "the dog ate it" in err and "plain.seed0: finished" in err
    code, out, _ = call("experiment", "status", "experiments/test", "--json")
    assert json.loads(out)["states"] == {"finished": 1, "failed": 1}


def test_forks_of_one_parent(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fork = {"run": str(run), "at": 3}
    arms = {"hot": {"set": {"optimizer.learning_rate": 5e-2}}, "smooth": {"with": ["label_smoothing alpha=0.1"]}}
    changes = {"training.steps": 6, "validation.every": 1, "samples.prompts": []}
    prediction = {"measure": {"validation": "loss"}, "arm": "hot", "direction": "higher", "primary": True}
    path = written(tmp_path, arms, base=None, fork=fork, set=changes, seeds=[7], predictions=[prediction])
    code, out, err = call("experiment", "run", str(path), "--quick", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["lineage"]["at"] == 3 and found["complete"]
    assert any("no replicates" in sentence for sentence in found["warnings"])
    folder = ExperimentFolder.open(tmp_path / "experiments" / "test")
    for name in ("plain.seed7", "hot.seed7", "smooth.seed7"):
        forked = RunDirectory.open(folder.run_path(name))
        assert forked.identity["parent"]["step"] == 3 and forked.identity["config"]["training"]["steps"] == 6
    assert RunDirectory.open(folder.run_path("smooth.seed7")).identity["config"]["interventions"]
    assert RunDirectory.open(folder.run_path("hot.seed7")).identity["config"]["optimizer"]["learning_rate"] == 5e-2
    page = folder.report_path.read_text()
    assert "no replicates" in page


def test_a_signal_saves_and_the_same_command_goes_on(plan: Path, tmp_path: Path) -> None:
    written(tmp_path, {}, seeds=[0, 1], set={"training.steps": 400, "samples.prompts": []}, claim="", predictions=[])
    process = picolm("experiment", "run", str(plan), "--quick", cwd=tmp_path)
    folder = ExperimentFolder(tmp_path / "experiments" / "test")
    wait_for(lambda: bool(RunDirectory(folder.run_path("plain.seed0")).timings), process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "ended early by SIGTERM; to go on: picolm experiment run" in said
    assert [line["code"] for line in folder.launches() if line["event"] == "ended"] == [143]
    assert RunDirectory.open(folder.run_path("plain.seed0")).latest_checkpoint()[0] is not None
    assert not folder.run_path("plain.seed1").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_survives_a_kill_and_its_page_opens(tmp_path: Path) -> None:
    """Done-when: under six minutes on two cores (told by the closing note, not asserted), with a kill -9 halfway."""
    process = picolm("experiment", "run", "demo", cwd=tmp_path, start_new_session=True)
    folder = ExperimentFolder(tmp_path / "experiments" / "demo")
    wait_for(lambda: step_of(folder, "plain.seed1") >= 50, process)
    process.kill()
    process.communicate()
    # The process that trains outlived it, and is killed too.
    for file in (folder.path / "runs").glob("*/.lock"):
        if owner := file.read_text().strip():
            os.kill(int(owner), signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in folder.run_path("plain.seed0").rglob("*.safetensors")}
    again = picolm("experiment", "run", "demo", "--json", cwd=tmp_path)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert "plain.seed1: goes on" in said and "plain.seed0: " not in said
    assert before == {path: path.stat().st_mtime_ns for path in folder.run_path("plain.seed0").rglob("*.safetensors")}
    found = json.loads(said[said.index("\n{\n") :])
    assert found["complete"] and len(found["versions"]) == 1
    assert all(one["outcome"] in ("supported", "refuted", "inconclusive") for one in found["verdicts"])
    if CHROMIUM is not None:
        check_page(folder.report_path, tmp_path, [one["outcome"] for one in found["verdicts"]])


def check_page(page: Path, folder: Path, outcomes: Sequence[str]) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder}/c"]
    shown = subprocess.run(
        [str(CHROMIUM), *options, "--virtual-time-budget=8000", "--dump-dom", page.as_uri()],
        capture_output=True,
        check=True,
        timeout=120,
    )
    document = shown.stdout.decode()
    assert "CONSOLE" not in shown.stderr.decode(errors="replace")
    assert "data-drawn" in document
    for outcome in outcomes:
        assert outcome in document.lower()


def step_of(folder: ExperimentFolder, name: str) -> int:
    lines = RunDirectory(folder.run_path(name)).timings
    return int(lines[-1]["step"]) if lines else 0


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not there():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
