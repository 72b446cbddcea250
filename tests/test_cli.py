import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import picolm
from picolm.cli import main
from picolm.runs.directory import RunDirectory
from picolm.runs.manifest import verify
from picolm.training.trainer import Trainer


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, exit_code: int = 0
) -> str:
    monkeypatch.setattr("sys.argv", ["picolm", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert exit_.value.code == exit_code, printed.err
    return printed.out


@pytest.fixture
def picolm_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **options: call(monkeypatch, capsys, *arguments, **options)


def as_overrides(values: dict[str, object]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def test_help_and_version_name_every_command(picolm_cli: Any) -> None:
    text = picolm_cli("--help")
    commands = ("train", "resume", "verify", "evaluate", "generate", "import", "export", "show", "diff", "report")
    for command in (*commands, "config", "data"):
        assert f" {command} " in text
    assert picolm_cli("--version") == f"picolm {picolm.__version__}\n"
    for command in commands:
        assert "Example" in picolm_cli(command, "--help"), command
    for command in ("config show", "data prepare", "data show", "data trace"):
        assert "Example" in picolm_cli(*command.split(), "--help"), command


def test_config_show_prints_yaml_that_is_the_same_configuration(picolm_cli: Any, tmp_path: Path) -> None:
    text = picolm_cli("config", "show", "small", "training.steps=77000")
    (tmp_path / "again.yaml").write_text(text)
    assert picolm.load_config(tmp_path / "again.yaml") == picolm.load_config("small", {"training.steps": 77000})
    assert json.loads(picolm_cli("config", "show", "small", "--json"))["model"]["d_model"] == 384


def test_config_list_prints_the_published_counts(picolm_cli: Any) -> None:
    counts = {row["preset"]: row["parameters"] for row in json.loads(picolm_cli("config", "list", "--json"))}
    assert counts["tiny"] == 11_282_784 and counts["large"] == 569_808_384
    assert "11,282,784" in picolm_cli("config", "list")


def test_diff_of_presets_files_and_runs(picolm_cli: Any, tmp_path: Path, small_run: dict[str, object]) -> None:
    changes = json.loads(picolm_cli("diff", "tiny", "small", "--json"))
    assert {c["key"]: (c["left"], c["right"]) for c in changes} == {
        "model.d_model": (96, 384),
        "model.d_ffn": (384, 1536),
        "training.micro_batch_size": (16, 8),
    }
    assert picolm_cli("diff", "tiny", "tiny") == "no difference\n"
    for name, rate in (("one", 1e-3), ("two", 2e-3)):
        config = picolm.load_config(None, {**small_run, "training.steps": 3, "optimizer.learning_rate": rate})
        picolm.train(config, name=name, runs_dir=tmp_path / "runs")
    (change,) = json.loads(picolm_cli("diff", "runs/one", "runs/two", "--json"))
    assert change == {"key": "optimizer.learning_rate", "left": 0.001, "right": 0.002}
    table = picolm_cli("diff", "runs/one", "runs/two")
    assert "optimizer.learning_rate" in table and "0.002" in table


def test_train_show_generate_and_report(picolm_cli: Any, tmp_path: Path, small_run: dict[str, object]) -> None:
    summary = json.loads(picolm_cli("train", "demo", *as_overrides(small_run), "--json"))
    assert summary["name"] == "demo" and summary["step"] == summary["steps"] == 12
    assert summary == json.loads(picolm_cli("show", "runs/demo", "--json"))
    run = RunDirectory.open(tmp_path / "runs" / "demo")
    assert summary["validation"]["last"] == [line for line in run.log if line["event"] == "validation"][-1]
    shown = picolm_cli("show", "runs/demo")
    for part in ("12 of 12", "bits per byte", "step-00000012", "vocabulary 300"):
        assert part in shown
    text = picolm_cli("generate", "runs/demo", "one two", "--max-tokens", "6", "--seed", "3")
    assert text.startswith("one two")
    assert text == picolm_cli("generate", str(run.checkpoints[-1].path), "one two", "--max-tokens", "6", "--seed", "3")
    (tmp_path / "prompts.txt").write_text("three\n\nfour\n")
    many = ("generate", "runs/demo", "one", "two", "--file", "prompts.txt", "--count", "2", "--max-tokens", "6")
    texts = json.loads(picolm_cli(*many, "--json"))
    assert [(t["prompt"], t["key"]) for t in texts] == [(p, k) for p in ("one", "two", "three", "four") for k in (0, 1)]
    assert texts[0]["text"] != texts[1]["text"]
    assert texts == json.loads(picolm_cli(*many, "--batch-size", "3", "--json"))
    (alone,) = json.loads(picolm_cli("generate", "runs/demo", "three", "--max-tokens", "6", "--json"))
    assert alone == texts[4] and picolm_cli(*many).startswith(f"one{texts[0]['text']}\n\none{texts[1]['text']}\n\ntwo")
    stop = alone["text"][1:3]
    (stopped,) = json.loads(picolm_cli("generate", "runs/demo", "three", "--max-tokens", "6", "--stop", stop, "--json"))
    assert stopped["text"] == alone["text"].partition(stop)[0] and stopped["ended"] == "stop"
    assert (
        Path(picolm_cli("report", "runs/demo", "--out", "page.html").strip()).read_text().startswith("<!doctype html>")
    )
    # A second run of the same configuration takes the next free name.
    assert json.loads(picolm_cli("train", "demo", *as_overrides(small_run), "--json"))["name"] == "demo-2"
    assert picolm_cli("report", "runs/demo", "runs/demo-2", "--figures", "figures") == "report.html\nfigures\n"
    assert "demo, demo-2" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "figures" / "loss-validation.svg").is_file()


def stopped_run(overrides: dict[str, object], folder: Path) -> Path:
    """A run whose process died after seven updates; it had saved its state after six."""

    class Dies(Exception):
        pass

    original = Trainer.update

    def mortal(trainer: Trainer, step: int, views: Any) -> None:
        if step == 7:
            raise Dies
        original(trainer, step, views)

    config = picolm.load_config(None, {**overrides, "checkpoints.state.every": 3})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Dies):
        patch.setattr(Trainer, "update", mortal)
        picolm.train(config, name="run", runs_dir=folder)
    return folder / "run"


def test_resume_goes_on_to_the_end_and_then_leaves_the_run_alone(
    picolm_cli: Any, tmp_path: Path, small_run: dict[str, object]
) -> None:
    path = stopped_run(small_run, tmp_path / "runs")
    held = [(c["step"], c["holds"]) for c in json.loads(picolm_cli("show", "runs/run", "--json"))["checkpoints"]]
    assert held == [(3, ["model", "state"]), (6, ["model", "state"])]
    summary = json.loads(picolm_cli("resume", "runs/run", "--json"))
    assert summary == json.loads(picolm_cli("show", "runs/run", "--json"))
    assert summary["step"] == summary["steps"] == 12 and len(summary["samples"]) == 1
    assert [(c["step"], c["holds"], c["damage"]) for c in summary["checkpoints"]] == [
        (9, ["model", "state"], []),
        (12, ["model", "state"], []),
    ]
    assert [line["from_checkpoint"] for line in RunDirectory.open(path).attempts] == [None, 6]
    ledger = (path / "ledger.jsonl").read_bytes()
    assert "12 of 12" in picolm_cli("resume", "runs/run")
    assert (path / "ledger.jsonl").read_bytes() == ledger


def test_verify_tells_damage_from_what_a_kill_left(
    picolm_cli: Any, tmp_path: Path, small_run: dict[str, object]
) -> None:
    path = stopped_run(small_run, tmp_path / "runs")
    found = json.loads(picolm_cli("verify", "runs/run", "--json"))
    assert set(found) == {"path", "files", "damage", "notes"}
    assert (found["path"], found["damage"], found["notes"]) == ("runs/run", [], []) and found["files"] > 10
    assert picolm_cli("verify", "runs/run") == f"runs/run: {found['files']} files, whole\n"
    (path / "checkpoints" / ".step-00000009.partial-x-1-2").mkdir()
    noted = picolm_cli("verify", "runs/run").splitlines()
    assert noted[0].startswith("note: ") and noted[1].endswith("files, whole")
    weights = path / "checkpoints" / "step-00000006" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (sentence,) = json.loads(picolm_cli("verify", "runs/run", "--json", exit_code=1))["damage"]
    assert "step-00000006/model.safetensors has" in sentence
    said = picolm_cli("verify", "runs/run", exit_code=1).splitlines()
    assert said[0] == f"damaged: {sentence}" and said[-1].endswith("files, 1 damage")
    damages = [c["damage"] for c in json.loads(picolm_cli("show", "runs/run", "--json"))["checkpoints"]]
    assert damages == [[], [sentence]]


def test_resume_says_what_it_put_aside(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    small_run: dict[str, object],
) -> None:
    path = stopped_run(small_run, tmp_path)
    (path / "checkpoints" / "step-00000006" / "state" / "state.json").unlink()
    monkeypatch.setattr("sys.argv", ["picolm", "resume", str(path), "--json"])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert exit_.value.code == 0 and json.loads(printed.out)["step"] == 12
    said = [line for line in printed.err.splitlines() if line.startswith("picolm: ")]
    assert said[0].endswith("state.json is missing") and said[1].endswith("was put aside as step-00000006.damaged")
    assert call(monkeypatch, capsys, "verify", str(path)).endswith("whole\n")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_model_is_exported_with_a_card_and_imported_again(
    picolm_cli: Any, tmp_path: Path, small_run: dict[str, object], dtype: str
) -> None:
    picolm.train(picolm.load_config(None, {**small_run, "training.steps": 5}), name="run", runs_dir=tmp_path / "runs")
    assert picolm_cli("export", "runs/run", "--out", "copy", "--dtype", dtype) == "copy\n"
    original, _ = picolm.open_model("runs/run")
    copy, _ = picolm.open_model("copy")
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    for name, parameter in original.named_parameters():
        assert torch.equal(parameter.to(precision), copy.get_parameter(name))
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["dtype"] == str(precision).removeprefix("torch.")
    assert verify(tmp_path / "copy") == []
    run = RunDirectory.open(tmp_path / "runs" / "run")
    validation = [line for line in run.log if line["event"] == "validation"][-1]
    card = (tmp_path / "copy" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["picolm"]}
    for part in (
        f"{run.identity['parameters']['total']:,} parameters",
        f"step 5 of 5 |\n| data | {run.identity['data']['splits']['train']['tokens']:,} tokens",
        "| tokens seen | 1,280 |",
        run.identity["data"]["fingerprint"],
        f"| up | {validation['domains']['up']['loss']:.4f} |",
        "learning_rate: 0.005",
        dtype,
    ):
        assert part in card, part
    # Folders name people and machines.
    assert str(tmp_path) not in card and "counting.jsonl" in card and str(small_run["data.cache"]) not in card
    again = json.loads(picolm_cli("import", "copy", "--out", "again", "--json"))
    assert again["parameters"] == run.identity["parameters"]["total"] and len(again["notes"]) == (dtype == "bf16")
    assert "parameters of a 'llama' model" in picolm_cli("import", "copy", "--out", "third")
    picolm_cli("export", "again", "--out", "fourth")
    assert "Training" not in (tmp_path / "fourth" / "README.md").read_text()
    assert (tmp_path / "fourth" / "tokenizer_config.json").read_text() == (
        tmp_path / "copy" / "tokenizer_config.json"
    ).read_text()


def test_data_prepare_and_train_on_it(picolm_cli: Any, corpus: Path, small_run: dict[str, object]) -> None:
    arguments = ("data", "prepare", str(corpus), "--out", "counting", "--tokenizer", "characters")
    first = json.loads(picolm_cli(*arguments, "--json"))
    assert set(first["splits"]["train"]["domains"]) == {"up", "down"}
    assert json.loads(picolm_cli(*arguments, "--json")) == first
    shown = picolm_cli("data", "show", "counting", "--samples", "1")
    assert "bytes per token" in shown and "counting.jsonl" in shown
    overrides = {key: value for key, value in small_run.items() if key not in ("data.sources", "tokenizer.vocab_size")}
    summary = json.loads(
        picolm_cli("train", "demo", *as_overrides({**overrides, "data.prepared": "counting"}), "--json")
    )
    assert summary["data"]["tokenizer"]["vocab_size"] < 60


HEAVY = ("torch", "transformers", "numpy", "pyarrow", "plotly")


def heavy_modules_after(statement: str) -> str:
    """What a fresh interpreter has loaded after a statement, as the last line that it prints."""
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "import picolm; picolm.load_config('tiny'); dir(picolm)",
        "from picolm.cli import app; from typer.testing import CliRunner; CliRunner().invoke(app, ['--help'])",
        "from picolm.cli import app; from typer.testing import CliRunner; CliRunner().invoke(app, ['config', 'list'])",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(statement: str) -> None:
    assert heavy_modules_after(statement) == "[]"


def test_show_loads_nothing_heavy(small_run: dict[str, object], tmp_path: Path) -> None:
    run = picolm.train(picolm.load_config(None, {**small_run, "training.steps": 3}), name="run", runs_dir=tmp_path)
    arguments = ["picolm", "show", str(run.path), "--json"]
    assert (
        heavy_modules_after(f"sys.argv = {arguments}; from picolm.cli import app; app(standalone_mode=False)") == "[]"
    )


def test_text_from_a_model_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from picolm.terminal.progress import Typewriter
    from picolm.terminal.tables import print_table, printable

    hostile = "a\x1b]0;title\x07b\x1b[2Jc\u202ed\ttab\nline caf\xe9 \U0001f600"
    assert printable(hostile) == "a\\x1b]0;title\\x07b\\x1b[2Jc\\u202ed\ttab\nline caf\xe9 \U0001f600"
    typewriter = Typewriter("")
    typewriter(hostile)
    typewriter.end(hostile + "\x9b31m")
    print_table(["a"], [[hostile]])
    assert not set(capsys.readouterr().out) & set("\x1b\x07\x9b\u202e")


def test_generated_text_appears_as_it_grows_and_whole_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    from picolm.terminal.progress import Typewriter

    typewriter = Typewriter("Once")
    for text in (" up", " up caf\ufffd", " up caf\xe9"):
        typewriter(text)
    typewriter.end(" up caf\xe9.")
    assert capsys.readouterr().out == "Once up caf\xe9.\n"


def test_an_unknown_attribute_of_the_package_is_named() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        picolm.trian  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_name_is_there() -> None:
    for name in picolm.__all__:
        assert getattr(picolm, name) is not None


def test_trace_of_a_step_and_of_a_document(picolm_cli: Any, small_run: dict[str, object]) -> None:
    overrides = as_overrides(small_run)
    found = json.loads(picolm_cli("data", "trace", "demo", *overrides, "--step", "3", "--json"))
    assert [sequence["place"] for sequence in found["sequences"]] == list(range(8))
    first = found["sequences"][0]["documents"][0]
    assert first["id"] in picolm_cli("data", "trace", "demo", *overrides, "--step", "3")
    seen = json.loads(picolm_cli("data", "trace", "demo", *overrides, "--document", first["id"], "--json"))
    assert [3, 0] in [[draw["step"], draw["place"]] for draw in seen["documents"][0]["draws"]]
    draws = len(seen["documents"][0]["draws"])
    assert f"drawn {draws} times in 12 steps" in picolm_cli(
        "data", "trace", "demo", *overrides, "--document", first["id"]
    )


@pytest.mark.parametrize("choice", [[], ["--step", "1", "--document", "x"]])
def test_trace_wants_a_step_or_a_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any, choice: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["picolm", "data", "trace", "demo", *choice])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert "give either --step N or --document ID" in capsys.readouterr().err
