import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import picolm
from picolm.cli import main
from picolm.errors import PicoLMError
from picolm.evaluation.perplexity import Perplexity
from picolm.runs.digest import sha256_of_file
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import EVALUATIONS, Evaluated, read_evaluations
from picolm.runs.verification import verify_run

PAIRS = "bootstrap=50"


def values(rows: list[Evaluated], task: str, metric: str, subset: str = "all") -> list[float]:
    return [row.value for row in rows if (row.task.split()[0], row.metric, row.subset) == (task, metric, subset)]


def test_every_checkpoint_is_asked_every_task(trained: RunDirectory, pairs_file: Path, tmp_path: Path) -> None:
    asked: list[str] = []
    rows = picolm.evaluate(
        trained.path,
        [f"pairs:{pairs_file} {PAIRS}", "perplexity"],
        checkpoints="all",
        out=tmp_path / "eval",
        progress=lambda phase, done, total: asked.append(phase),
    )
    assert list(dict.fromkeys(row.step for row in rows)) == [0, 4, 8]
    losses = values(rows, "perplexity", "loss")
    assert losses[0] > losses[1] > losses[2]
    accuracies = values(rows, "pairs:pairs", "accuracy")
    untrained = values(rows, "pairs:pairs", "accuracy_untrained")
    assert len(accuracies) == 3 and set(untrained) == {accuracies[0]}, "an untrained twin is the model of step 0"
    assert set(values(rows, "pairs:pairs", "accuracy_constant")) == {50.0}
    assert list(dict.fromkeys(asked)) == [
        f"step {step}, {task}" for step in (0, 4, 8) for task in (f"pairs:pairs {PAIRS}", "perplexity")
    ]
    table = read_evaluations(tmp_path / "eval")
    assert table.schema.equals(EVALUATIONS)
    assert [Evaluated(**row) for row in table.to_pylist()] == sorted(rows, key=lambda row: (row.step, row.task[:5]))
    assert not list((tmp_path / "eval").glob(".*"))


def test_held_out_perplexity_is_near_what_training_measured(trained: RunDirectory, tmp_path: Path) -> None:
    """Validation packs documents and scores their ends too, so the two agree only roughly."""
    rows = picolm.evaluate(trained.path, ["perplexity"], out=tmp_path)
    (validation,) = [line for line in trained.log if line["event"] == "validation" and line["step"] == 8]
    assert values(rows, "perplexity", "loss")[0] == pytest.approx(validation["loss"], rel=0.1)
    assert {row.subset for row in rows} == {"all", "domain/down", "domain/up"}


def test_what_is_done_is_not_done_again(
    trained: RunDirectory, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = f"pairs:{pairs_file} {PAIRS}"
    first = picolm.evaluate(trained.path, [task], checkpoints=[4], out=tmp_path / "eval")
    opened: list[Any] = []
    real = picolm.open_model
    monkeypatch.setattr(
        "picolm.assembly.evaluating.open_model", lambda target, **rest: opened.append(target) or real(target, **rest)
    )
    assert picolm.evaluate(trained.path, [task], checkpoints=[4], out=tmp_path / "eval") == first
    assert opened == [], "not even a model is opened"
    assert picolm.evaluate(trained.path, [task], checkpoints=[4], out=tmp_path / "eval", again=True) == first
    picolm.evaluate(trained.path, [task], checkpoints=[4, 8], out=tmp_path / "eval")
    assert [path.name for path in opened] == ["step-00000004", "step-00000008"]
    # Other settings and other data are other parts.
    picolm.evaluate(trained.path, [f"{task} reduction=mean"], checkpoints=[4], out=tmp_path / "eval")
    pairs_file.write_text(pairs_file.read_text().replace("one", "two"))
    picolm.evaluate(trained.path, [task], checkpoints=[4], out=tmp_path / "eval")
    assert len(list((tmp_path / "eval").glob("step-00000004.*.parquet"))) == 3


def test_the_side_file_says_how_it_was_measured(trained: RunDirectory, pairs_file: Path, tmp_path: Path) -> None:
    picolm.evaluate(trained.path, [f"pairs:{pairs_file} first_token=none {PAIRS}"], out=tmp_path)
    (file,) = tmp_path.glob("*.json")
    facts = json.loads(file.read_text())
    identity = facts["identity"]
    assert (identity["first_token"], identity["reduction"], identity["leading_space"]) == ("none", "sum", "as_is")
    assert identity["unigram"]["origin"] == "the run's training tokens"
    assert identity["data_sha256"] == sha256_of_file(pairs_file)
    assert facts["sources"]["data"] == str(pairs_file)
    assert facts["made"]["packages"]["torch"] and facts["step"] == 8
    assert pq.read_table(file.with_suffix(".parquet")).num_rows > 0


def test_a_part_that_is_half_written_is_never_seen(trained: RunDirectory, pairs_file: Path, tmp_path: Path) -> None:
    task = f"pairs:{pairs_file} {PAIRS}"
    out = tmp_path / "eval"
    rows = picolm.evaluate(trained.path, [task], out=out)
    (part,) = out.glob("*.parquet")
    (beside,) = out.glob("*.json")
    whole, facts = part.read_bytes(), beside.read_bytes()
    beside.unlink()
    assert read_evaluations(out).num_rows == 0, "a kill between the two files"
    assert picolm.evaluate(trained.path, [task], out=out) == rows
    assert read_evaluations(out).num_rows == len(rows)
    part.write_bytes(whole[: len(whole) // 2])
    assert read_evaluations(out).num_rows == 0, "a damaged part"
    assert picolm.evaluate(trained.path, [task], out=out) == rows
    assert part.read_bytes() == whole and json.loads(beside.read_bytes())["hash"] == json.loads(facts)["hash"]


def test_an_interruption_leaves_finished_parts_whole(
    trained: RunDirectory, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Perplexity, "measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            picolm.evaluate(trained.path, [f"pairs:{pairs_file} {PAIRS}", "perplexity"], out=tmp_path / "eval")
    assert set(read_evaluations(tmp_path / "eval")["task"].to_pylist()) == {f"pairs:pairs {PAIRS}"}
    rows = picolm.evaluate(trained.path, [f"pairs:{pairs_file} {PAIRS}", "perplexity"], out=tmp_path / "eval")
    assert {row.task for row in rows} == {f"pairs:pairs {PAIRS}", "perplexity"}


def test_a_run_stays_whole_and_its_ledger_untouched(trained: RunDirectory, pairs_file: Path) -> None:
    ledger = (trained.path / "ledger.jsonl").read_bytes()
    picolm.evaluate(trained.path, [f"pairs:{pairs_file} {PAIRS}"])
    assert len(list((trained.path / "eval").glob("step-00000008.pairs.*.parquet"))) == 1
    assert (trained.path / "ledger.jsonl").read_bytes() == ledger
    assert verify_run(trained).damage == []


def test_a_checkpoint_is_a_step_of_its_run(trained: RunDirectory, pairs_file: Path, tmp_path: Path) -> None:
    task = f"pairs:{pairs_file} {PAIRS}"
    by_path = picolm.evaluate(trained.checkpoint_path(4), [task], out=tmp_path / "a")
    assert by_path == picolm.evaluate(trained.path, [task], checkpoints=4, out=tmp_path / "b")


def test_a_damaged_checkpoint_is_named_and_left_out(
    trained: RunDirectory, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(trained.path, run)
    weights = run / "checkpoints" / "step-00000004" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    rows = picolm.evaluate(run, [f"pairs:{pairs_file} {PAIRS}"], checkpoints="all", out=tmp_path / "eval")
    assert {row.step for row in rows} == {0, 8}
    assert "step 4 is left out" in capsys.readouterr().err
    with pytest.raises(PicoLMError, match=r"model.safetensors"):
        picolm.evaluate(run, [f"pairs:{pairs_file}"], checkpoints=[4])


def test_any_model_directory_is_evaluated(model_directory: Path, pairs_file: Path, tmp_path: Path) -> None:
    task = f"pairs:{pairs_file} {PAIRS}"
    rows = picolm.evaluate(model_directory, [task])
    assert {row.step for row in rows} == {None} and not (model_directory / "eval").exists()
    assert picolm.evaluate(model_directory, [task], out=tmp_path / "out") == rows
    (file,) = (tmp_path / "out").glob("*.json")
    assert file.name.startswith("model.pairs.")
    assert json.loads(file.read_text())["identity"]["unigram"]["origin"] == "the sentences of the task"
    with pytest.raises(PicoLMError, match="no held-out documents: name a source"):
        picolm.evaluate(model_directory, ["perplexity"])
    with pytest.raises(PicoLMError, match="is no run: it has no checkpoints"):
        picolm.evaluate(model_directory, [task], checkpoints=[3])


def test_the_token_that_begins_a_text_is_the_directorys_own(
    model_directory: Path, pairs_file: Path, tmp_path: Path
) -> None:
    task = f"pairs:{pairs_file} {PAIRS}"
    config = json.loads((model_directory / "config.json").read_text())
    (model_directory / "config.json").write_text(json.dumps({**config, "bos_token_id": 9}))
    picolm.evaluate(model_directory, [task], out=tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.json")
    assert json.loads(file.read_text())["identity"]["bos"] == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "pairs:none.jsonl"], "there is no file of pairs 'none.jsonl'"),
        ([], "name at least one task"),
        (["--task", "perplexity", "--task", "perplexity"], "two tasks are called 'perplexity'"),
        (["--task", "perplexity", "--checkpoints", "first"], "--checkpoints 'first' is neither"),
        (["--task", "perplexity", "--checkpoints", "5"], "has no checkpoint of step 5; it has those of 0, 4, 8"),
        (["--task", "perplexity", "--precision", "fp8"], "--precision 'fp8' is neither"),
    ],
)
def test_mistakes_end_with_code_2_and_one_sentence(
    trained: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["picolm", "evaluate", str(trained.path), *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert exit_.value.code == 2 and message in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_the_command_prints_tables_and_json(
    trained: RunDirectory,
    pairs_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*arguments: str) -> tuple[str, str]:
        command = ["picolm", "evaluate", str(trained.path), "--out", str(tmp_path / "eval"), *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0
        printed = capsys.readouterr()
        return printed.out, printed.err

    tasks = ("--task", f"pairs:{pairs_file} {PAIRS}", "--task", "perplexity")
    text, progress = call(*tasks, "--checkpoints", "all")
    for word in ("accuracy", "unigram", "length", "constant", "untrained", "ties", "counting", "bits per byte", "down"):
        assert word in text, word
    assert "from_even" not in text and "pico mean sequence perplexity" in text
    assert progress.count(f"step 4, pairs:pairs {PAIRS}: 10 of 10\n") == 1
    assert progress.count(f"step 0, pairs:pairs {PAIRS}: 20 of 20\n") == 1, "with the untrained twin"
    text, progress = call(*tasks, "--paradigms")
    assert "from_even" in text and progress == "", "nothing is left to do"
    rows = json.loads(call(*tasks, "--json")[0])
    assert {tuple(row) for row in rows} == {("step", "task", "subset", "metric", "value", "se", "n")}


def test_masked_runs_are_evaluated(small_run: dict[str, object], pairs_file: Path, tmp_path: Path) -> None:
    masked = {
        "model.attention": "bidirectional",
        "objective.kind": "masked",
        "training.steps": 3,
        "samples.prompts": [],
    }
    run = picolm.train(picolm.load_config("demo", {**small_run, **masked}), name="masked", runs_dir=tmp_path / "runs")
    rows = picolm.evaluate(run.path, [f"pairs:{pairs_file} {PAIRS}"])
    assert (
        values(rows, "pairs:pairs", "accuracy_constant") == [50.0] and len(values(rows, "pairs:pairs", "accuracy")) == 1
    )
    with pytest.raises(PicoLMError, match="is a masked model, which has no perplexity"):
        picolm.evaluate(run.path, ["perplexity"])


def test_an_evaluation_of_a_newer_format_is_refused(trained: RunDirectory, pairs_file: Path, tmp_path: Path) -> None:
    task = f"pairs:{pairs_file} {PAIRS}"
    picolm.evaluate(trained.path, [task], out=tmp_path / "eval")
    (beside,) = (tmp_path / "eval").glob("*.json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "format": 2}))
    with pytest.raises(PicoLMError, match="format 2"):
        read_evaluations(tmp_path / "eval")
    with pytest.raises(PicoLMError, match="format 2"):
        picolm.evaluate(trained.path, [task], out=tmp_path / "eval")


def test_several_tasks_open_a_model_once(
    trained: RunDirectory, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    real = picolm.open_model
    monkeypatch.setattr(
        "picolm.assembly.evaluating.open_model", lambda target, **rest: opened.append(target) or real(target, **rest)
    )
    rows = picolm.evaluate(trained.path, [f"pairs:{pairs_file} {PAIRS}", "perplexity"], out=tmp_path / "eval")
    assert len(opened) == 1 and np.isfinite([row.value for row in rows]).all()


def test_a_task_can_be_named(trained: RunDirectory, pairs_file: Path, tmp_path: Path) -> None:
    rows = picolm.evaluate(trained.path, [f"pairs:{pairs_file} {PAIRS} name=order"], out=tmp_path / "eval")
    assert {row.task for row in rows} == {"order"}
    with pytest.raises(PicoLMError, match="name=3 is no name"):
        picolm.evaluate(trained.path, [f"pairs:{pairs_file} name=3"])
