"""Evaluation while a run goes on."""

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import picolm
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.evaluation.pairs import MinimalPairs
from picolm.evaluation.perplexity import Perplexity
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import read_evaluations
from picolm.runs.verification import verify_run
from picolm.seams import Observer
from picolm.training.interruption import Interruption

TASK = "perplexity tokens_per_domain=200"


@pytest.fixture
def configured(corpus: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    def make(**changes: Any) -> schema.Config:
        values = {
            "data.sources": [str(corpus)],
            "data.cache": str(tmp_path_factory.getbasetemp() / "evaluation-cache"),
            "data.sequence_length": 32,
            "data.validation_fraction": 0.2,
            "tokenizer.vocab_size": 300,
            "model": {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ffn": 48, "max_length": 64},
            "schedule.warmup_steps": 2,
            "training.steps": 8,
            "training.batch_size": 4,
            "training.device": "cpu",
            "validation.every": 0,
            "samples.prompts": [],
            "checkpoints.model": {"every": 0, "per_doubling": 0, "at": []},
            "checkpoints.state.every": 3,
            "evaluation": {"tasks": [f"pairs:{pairs_file} bootstrap=50", TASK], "at": [0, 4, 6]},
            **changes,
        }
        return picolm.load_config("demo", values)

    return make


def figures(run: RunDirectory) -> list[Mapping[str, Any]]:
    return [line for line in run.log if line["event"] == "evaluation"]


def test_what_a_run_measures_is_what_evaluate_measures(
    configured: Callable[..., schema.Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured()
    run = picolm.train(config, name="asked", runs_dir=tmp_path)
    assert [(line["step"], line["task"].partition(":")[0].split()[0]) for line in figures(run)] == [
        (step, task) for step in (0, 4, 6, 8) for task in ("pairs", "perplexity")
    ]
    assert [checkpoint.step for checkpoint in run.checkpoints] == [0, 4, 6, 8], "what is asked is saved"
    assert verify_run(run).damage == []
    table = read_evaluations(run.path / "eval")
    fresh = picolm.evaluate(run.path, config.evaluation.tasks, checkpoints="all", out=tmp_path / "fresh")
    assert sorted(map(str, table.to_pylist())) == sorted(str(row._asdict()) for row in fresh)
    # And `evaluate` finds it done.
    monkeypatch.setattr("picolm.assembly.evaluating.open_model", lambda *_, **__: pytest.fail("a model was opened"))
    picolm.evaluate(run.path, config.evaluation.tasks, checkpoints="all")


def test_training_is_the_same_with_and_without(configured: Callable[..., schema.Config], tmp_path: Path) -> None:
    asked = picolm.train(configured(), name="asked", runs_dir=tmp_path)
    alone = picolm.train(configured(evaluation={"tasks": []}), name="alone", runs_dir=tmp_path)
    lines = [line for line in asked.log if line["event"] != "evaluation"]
    assert lines == list(alone.log)
    weights = "checkpoints/step-00000008/model.safetensors"
    assert (asked.path / weights).read_bytes() == (alone.path / weights).read_bytes()


@pytest.mark.parametrize("task", [MinimalPairs, Perplexity])
def test_a_signal_ends_an_evaluation_and_a_resume_makes_it_again(
    configured: Callable[..., schema.Config], tmp_path: Path, task: type[Any]
) -> None:
    whole = picolm.train(configured(), name="whole", runs_dir=tmp_path)
    interruption = Interruption()

    class Impatient(Observer):
        def evaluating(self, what: str, done: int, total: int) -> None:
            if what.startswith(f"step 6, {task.kind}"):
                interruption.signal = signal.SIGTERM

    run = picolm.train(configured(), name="cut", runs_dir=tmp_path, observers=[Impatient()], interruption=interruption)
    assert max(line["step"] for line in figures(run)) == 4, "nothing is said of what was not finished"
    assert run.checkpoints[-1].step == 6 and run.checkpoints[-1].has_state
    picolm.resume(run.path)
    assert run.log_path.read_bytes() == whole.log_path.read_bytes()


def test_a_kill_between_checkpoint_and_questions_leaves_nothing_out(
    configured: Callable[..., schema.Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured()
    whole = picolm.train(config, name="whole", runs_dir=tmp_path)

    class KilledError(BaseException):
        pass

    def kill(*_: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Perplexity, "measure", kill)
        with pytest.raises(KilledError):
            picolm.train(configured(**{"evaluation.at": [3]}), name="killed", runs_dir=tmp_path)
    run = picolm.resume(tmp_path / "killed")
    assert {line["step"] for line in figures(run)} == {3, 8}
    ends = [(line["task"], line["figures"]) for line in figures(run)][-2:]
    assert ends == [(line["task"], line["figures"]) for line in figures(whole)][-2:]


def test_a_fork_asks_with_its_own_settings(configured: Callable[..., schema.Config], tmp_path: Path) -> None:
    parent = picolm.train(configured(), name="parent", runs_dir=tmp_path)
    child = picolm.fork(parent.path, 6, overrides=[f"evaluation.tasks=['{TASK} window=16']"], name="child")
    assert [(line["step"], line["task"]) for line in figures(child)] == [
        (6, f"{TASK.replace(' tokens', ' window=16 tokens')}"),
        (8, f"{TASK.replace(' tokens', ' window=16 tokens')}"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"tasks": ["pears:x"]}}, "did you mean 'pairs'"),
        ({"evaluation": {"tasks": ["pairs:nowhere.jsonl"]}}, "there is no file of pairs 'nowhere.jsonl'"),
        ({"evaluation": {"tasks": ["perplexity", "perplexity"]}}, "two tasks are called 'perplexity'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_made(
    configured: Callable[..., schema.Config], tmp_path: Path, changes: Any, message: str
) -> None:
    with pytest.raises(PicoLMError, match=message):
        picolm.train(configured(**changes), name="wrong", runs_dir=tmp_path)
    assert not (tmp_path / "wrong").exists()


def test_steps_without_tasks_are_refused(configured: Callable[..., schema.Config]) -> None:
    with pytest.raises(PicoLMError, match="there are steps but no `tasks`"):
        configured(evaluation={"every": 3})


def test_the_side_file_does_not_say_where_it_was_measured(
    configured: Callable[..., schema.Config], tmp_path: Path
) -> None:
    run = picolm.train(configured(**{"evaluation.at": []}), name="once", runs_dir=tmp_path)
    picolm.evaluate(run.path, configured().evaluation.tasks, out=tmp_path / "out")
    identities = [
        sorted(str(json.loads(file.read_text())["identity"]) for file in folder.glob("*.json"))
        for folder in (run.path / "eval", tmp_path / "out")
    ]
    assert identities[0] == identities[1]
