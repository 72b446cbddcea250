import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import picolm
from picolm.assembly.evaluating import open_engine
from picolm.cli import main
from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory

from .choice_records import RECORDS
from .conftest import TEXTS

Write = Callable[..., Path]


class Request:
    """What the bridge reads of a request of the harness."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def bridge(target: Path, **changes: Any) -> Any:
    from picolm.assembly.harness import HarnessTarget

    return HarnessTarget(str(target), **changes)


@pytest.fixture
def task_folder(tmp_path: Path, write_jsonl: Write) -> Path:
    """A task as a user of the harness writes one: YAML beside local records."""
    file = write_jsonl(RECORDS["arc"], "science.jsonl")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "science.yaml").write_text(f"""
task: science
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
  cache_dir: {tmp_path / "cache"}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
""")
    return folder


@pytest.fixture
def own_tasks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness then makes no index of the thousands of tasks that come with it, which takes seconds."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager.__init__.__defaults__", (None, None, False, None))


@pytest.mark.usefixtures("own_tasks_only")
def test_the_command_gives_the_figures_of_the_task_choices(
    trained: RunDirectory, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    out = tmp_path / "results"
    arguments = ["--tasks", str(task_folder / "science.yaml"), "--output_path", str(out), "--log_samples"]
    command = ["picolm", "lm-eval", str(trained.path), *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0 and sys.argv == command
    assert "science" in capfd.readouterr().out
    (file,) = out.rglob("results_*.json")
    theirs = json.loads(file.read_text())
    assert theirs["config"]["model"] == "picolm"
    rows = picolm.evaluate(trained.path, [f"choices:{tmp_path / 'science.jsonl'}"], out=tmp_path / "eval")
    ours = {row.metric: row.value for row in rows if row.subset == "all"}
    assert 100 * theirs["results"]["science"]["acc,none"] == pytest.approx(ours["accuracy"])
    assert 100 * theirs["results"]["science"]["acc_norm,none"] == pytest.approx(ours["accuracy_norm"])


def test_a_model_is_opened_by_its_name(trained: RunDirectory, tmp_path: Path) -> None:
    """As in `simple_evaluate(model="picolm", model_args={"target": ...})`."""
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    import picolm.assembly.harness

    records = [{"text": text} for text in TEXTS]
    task = {
        "task": "texts",
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(records)},
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    found = lm_eval.simple_evaluate(
        model="picolm",
        model_args={"target": str(trained.path), "batch_tokens": 64},
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = picolm.evaluate(trained.path, [f"perplexity:{file} stride=64"], out=tmp_path / "eval")
    (ours,) = [row.value for row in rows if (row.subset, row.metric) == ("all", "bits_per_byte")]
    assert found["results"]["texts"]["bits_per_byte,none"] == pytest.approx(ours, rel=1e-5)


def test_sampled_texts_are_reproducible_and_repeats_differ(model_directory: Path) -> None:
    settings = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8, "until": ["zz"]}
    asked = [Request("one two", settings), Request("a", settings), Request("one two", settings)]
    first = bridge(model_directory).generate_until(asked)
    assert first == bridge(model_directory).generate_until(asked) and first[0] != first[2]
    assert bridge(model_directory, seed=1).generate_until(asked) != first
    assert bridge(model_directory).generate_until(asked[1:]) == [first[1], first[0]], (
        "texts of other contexts decide nothing"
    )
    greedy = {"do_sample": False, "max_gen_toks": 8, "until": []}
    texts = bridge(model_directory).generate_until([Request("one two", greedy), Request("one two", greedy)])
    assert texts[0] == texts[1]


def test_many_requests_are_put_back_in_order(model_directory: Path) -> None:
    model = bridge(model_directory)
    short, long = ({"max_gen_toks": count, "until": []} for count in (2, 5))
    asked = [Request(f"{number} {TEXTS[number % 3]}", short if number % 2 else long) for number in range(40)]
    assert model.generate_until(asked) == [model.generate_until([one])[0] for one in asked]


def test_what_has_no_room_is_said(model_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = bridge(model_directory)
    model.loglikelihood([Request("one two " * 60, "three"), Request("one", " two")], disable_tqdm=True)
    assert "1 of 2 requests are longer than the window of 96 tokens" in capsys.readouterr().err
    with pytest.raises(PicoLMError, match="the task asks for 256 tokens, but the model's window has 96"):
        model.generate_until([Request("one", {"until": []})])
    with pytest.raises(PicoLMError, match="has no token of its own"):
        model.loglikelihood([Request("one", "")], disable_tqdm=True)


def test_a_context_of_white_space_is_scored_behind_what_begins_a_text(model_directory: Path) -> None:
    model = bridge(model_directory)
    blank, empty = model.loglikelihood([Request("  ", "two"), Request("", "  two")], disable_tqdm=True)
    assert blank == pytest.approx(empty)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precison": "bf16"}, "takes no argument 'precison'; did you mean 'precision'"),
        ({"pretrained": "gpt2"}, "takes no argument 'pretrained'; valid names: batch_tokens, precision"),
        ({"precision": "fp8"}, "precision=fp8 is neither fp32 nor bf16"),
    ],
)
def test_arguments_that_are_none_are_refused(model_directory: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PicoLMError, match=message):
        bridge(model_directory, **changes)


def test_masked_models_are_refused(saved: Write) -> None:
    with pytest.raises(PicoLMError, match="is a masked model, which continues no text: lm-eval cannot ask it"):
        bridge(saved(attention="bidirectional"))


def test_without_the_harness_one_sentence_says_how_to_install_it(
    trained: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval" or name.endswith(".harness")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr(sys, "argv", ["picolm", "lm-eval", str(trained.path), "--tasks", "arc_easy"])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr().err
    assert exit_.value.code == 2
    assert printed == "picolm: lm-evaluation-harness is not installed: pip install 'picolm[lm-eval]'\n"


@pytest.mark.usefixtures("own_tasks_only")
def test_what_the_harness_refuses_is_one_sentence(trained: RunDirectory) -> None:
    from picolm.assembly.harness import run_harness

    own = list(sys.argv)
    with pytest.raises(PicoLMError, match="lm-evaluation-harness says: Tasks not found: science"):
        run_harness(str(trained.path), ["--tasks", "science"])
    assert sys.argv == own


def test_nothing_else_loads_the_harness(tmp_path: Path) -> None:
    code = (
        "import sys, picolm.cli, picolm.assembly.evaluating, picolm.evaluation.choices, picolm.evaluation.generation\n"
        "sys.exit('lm_eval' in sys.modules or 'datasets' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_the_token_that_begins_a_text_is_the_directorys_own(model_directory: Path) -> None:
    config = json.loads((model_directory / "config.json").read_text())
    (model_directory / "config.json").write_text(json.dumps({**config, "bos_token_id": 9}))
    assert bridge(model_directory).prefix_token_id == 9
    assert open_engine(model_directory)[1].bos == 9
