"""What a user can get wrong: each gets one clear sentence that names it, exit code 2, and no traceback."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import picolm
from picolm.cli import main
from picolm.runs.lock import RunLock

Overrides = dict[str, object]
World = dict[str, Path]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Iterator[World]:
    """A folder with one small run, prepared data, and files that are wrong in one way each."""
    root = tmp_path_factory.mktemp("world")
    config = picolm.load_config(
        "demo",
        {
            "data.sources": [str(corpus)],
            "data.cache": str(root / "cache"),
            "data.sequence_length": 16,
            "tokenizer.vocab_size": 280,
            "model.d_model": 16,
            "model.n_layers": 1,
            "training.steps": 2,
            "training.batch_size": 2,
            "schedule.warmup_steps": 1,
            "samples.max_tokens": 1,
        },
    )
    run = picolm.train(config, name="run", runs_dir=root)
    prepared = next((root / "cache").iterdir())
    files = {
        "empty.txt": b"",
        "blank.txt": b"  \n\n ",
        "latin.txt": "caf\xe9".encode("latin-1"),
        "words.doc": b"hello",
        "broken.jsonl": b'{"text": "fine"}\n{"text": "torn\n',
        "list.jsonl": b'["not", "an", "object"]\n',
        "fields.jsonl": b'{"txt": "hello"}\n',
        "number.jsonl": b'{"text": 3}\n',
        "torn.jsonl.gz": gzip.compress(corpus.read_bytes())[:-200],
        "notgzip.jsonl.gz": b"plain text",
        "broken.yaml": b"training: {steps: 3",
        "twice.yaml": b"seeds: {init: 1, init: 2}",
        "list.yaml": b"- training",
        "loop.yaml": b"preset: loop.yaml",
        "tokenizer.json": b'{"model": 3}',
        "one.jsonl": b'{"text": "only one document"}\n',
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    (root / "nothing here").mkdir()
    for name in ("flipped", "newer"):
        shutil.copytree(prepared, root / name)
    shard = next((root / "flipped" / "train").glob("*.bin"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    manifest = json.loads((root / "newer" / "manifest.json").read_text())
    (root / "newer" / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    shutil.copytree(run.path, root / "damaged")
    for weights in (root / "damaged").rglob("model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    for name in ("held", "later"):
        shutil.copytree(run.path, root / name)
    identity = json.loads((root / "later" / "run.json").read_text())
    (root / "later" / "run.json").write_text(json.dumps({**identity, "format": 99}))
    with RunLock(root / "held"):
        yield {"root": root, "run": run.path, "corpus": corpus, "prepared": prepared}


def train(*arguments: str) -> Callable[[World], list[str]]:
    return lambda world: [
        "train",
        "demo",
        *(a.format(**world) for a in arguments),
        "--runs-dir",
        str(world["root"] / "new"),
    ]


def command(*arguments: str) -> Callable[[World], list[str]]:
    return lambda world: [a.format(**world) for a in arguments]


def source(name: str) -> Callable[[World], list[str]]:
    return train("--data", "{root}/" + name, "data.cache={root}/cache")


CASES: dict[str, tuple[Callable[[World], list[str]], str]] = {
    # configuration
    "unknown preset": (command("train", "demmo"), "there is no preset 'demmo'; did you mean 'demo'?"),
    "missing file": (command("train", "{root}/brokn.yaml"), "did you mean 'broken.yaml'?"),
    "file that is not YAML": (command("train", "{root}/broken.yaml"), "broken.yaml is not valid YAML at line 1"),
    "key that stands twice": (command("train", "{root}/twice.yaml"), "key 'init' stands twice"),
    "list instead of sections": (command("train", "{root}/list.yaml"), "must hold sections such as `training:`"),
    "preset that inherits from itself": (command("train", "{root}/loop.yaml"), "inherits from itself"),
    "unknown key": (train("training.stepps=3"), "unknown key 'training.stepps'; did you mean 'training.steps'?"),
    "unknown section": (train("trainer.steps=3"), "unknown key 'trainer'; did you mean 'training'?"),
    "key of another section": (train("training.learning_rate=1e-3"), "did you mean 'optimizer.learning_rate'?"),
    "key of another tool": (train("training.lr=1e-3"), "did you mean 'optimizer.learning_rate'?"),
    "override without =": (train("training.steps"), "is not an override; write key.path=value"),
    "word for a number": (train("training.steps=many"), "training.steps must be a whole number, not 'many'"),
    "fraction of a step": (train("training.steps=1.5"), "training.steps must be a whole number, not 1.5"),
    "number below its range": (
        train("training.batch_size=0"),
        "training.batch_size must be greater than or equal to 1",
    ),
    "number that is not finite": (train("optimizer.learning_rate=.inf"), "must be a finite number"),
    "word that is no choice": (
        train("schedule.kind=cosin"),
        "schedule.kind must be one of 'cosine', 'linear', 'constant', 'wsd'",
    ),
    "unknown objective": (train("objective.kind=maskd"), "objective.kind must be one of 'causal', 'masked'"),
    "heads that do not divide": (train("model.n_heads=7"), "d_model 128 is not a multiple of n_heads 7"),
    "pico init with tying": (train("model.init.scheme=pico"), "far too large for a tied output matrix"),
    "masked and causal": (train("objective.kind=masked"), "objective.kind=masked needs model.attention=bidirectional"),
    "row longer than the model": (train("data.sequence_length=512"), "is longer than model.max_length 256"),
    "warm-up longer than the run": (
        train("training.steps=5"),
        "schedule.warmup_steps 30 is beyond the step at which the decay ends, 5; for example, schedule.warmup_steps=1",
    ),
    "vocabulary too small": (
        train("--data", "{corpus}", "data.cache={root}/cache", "model.vocab_size=100"),
        "model.vocab_size 100 is smaller than the tokenizer's",
    ),
    # sources
    "no source": (train("data.sources=[]"), "`sources` is empty"),
    "sources and prepared data": (train("data.prepared={prepared}", "data.sources=[a.txt]"), "not both"),
    "missing source": (source("empti.txt"), "empty.txt'?"),
    "glob without match": (source("*.nope"), "*.nope"),
    "folder without text": (source("nothing here"), "nothing here"),
    "unknown kind of file": (source("words.doc"), ".jsonl"),
    "empty source": (source("empty.txt"), "empty.txt"),
    "nothing but white space": (source("blank.txt"), "blank.txt"),
    "not UTF-8": (source("latin.txt"), "latin.txt"),
    "torn JSON": (source("broken.jsonl"), "broken.jsonl"),
    "record that is no object": (source("list.jsonl"), "list.jsonl"),
    "missing text field": (source("fields.jsonl"), "'txt'"),
    "text that is no text": (source("number.jsonl"), "number.jsonl"),
    "torn gzip": (source("torn.jsonl.gz"), "torn.jsonl.gz"),
    "gzip that is none": (source("notgzip.jsonl.gz"), "notgzip.jsonl.gz"),
    "unknown embedded corpus": (train("--data", "embedded:englich"), "english"),
    "single document": (source("one.jsonl"), "validation"),
    "too little text": (
        train("--data", "{root}/one.jsonl", "data.validation_fraction=0", "data.cache={root}/cache"),
        "too few for one row",
    ),
    "tokenizer that is none": (
        train("--data", "{corpus}", "tokenizer.kind=file", "tokenizer.path={root}/tokenizer.json"),
        "tokenizer.json",
    ),
    "file tokenizer without a path": (train("tokenizer.kind=file"), "`path` and `kind: file` go together"),
    # prepared data
    "no prepared directory": (train("data.prepared={root}/nothing here"), "nothing here"),
    "other bytes in a shard": (train("data.prepared={root}/flipped"), "other bytes under the same name"),
    "newer data": (train("data.prepared={root}/newer"), "pgrade"),
    "output that holds something else": (
        command("data", "prepare", "{corpus}", "--out", "{root}/nothing here/..", "--tokenizer", "bpe:300"),
        "choose another --out",
    ),
    "unknown tokenizer": (
        command("data", "prepare", "{corpus}", "--out", "{root}/x", "--tokenizer", "bpe:many"),
        "--tokenizer 'bpe:many' is none of",
    ),
    # runs and models
    "name that is taken": (
        command("train", "demo", "--name", "run", "--runs-dir", "{root}"),
        "exists; choose another --name",
    ),
    "name that is a path": (command("train", "demo", "--name", "a/b"), "'a/b' cannot name a run"),
    "missing run": (command("show", "{root}/rum"), "did you mean 'run'?"),
    "folder that is no run": (command("show", "{root}/cache"), "is not a run: it has no run.json"),
    "nothing to resume": (command("resume", "{root}/rum"), "there is no run"),
    "file to resume": (command("resume", "{root}/one.jsonl"), "one.jsonl is not a run: it has no run.json"),
    "folder to resume": (command("resume", "{root}/cache"), "is not a run: it has no run.json"),
    "checkpoint to resume": (command("resume", "{run}/checkpoints/step-00000002"), "is not a run: it has no run.json"),
    "run without a whole state": (command("resume", "{root}/damaged"), "has no whole checkpoint that it could resume"),
    "run in use": (command("resume", "{root}/held"), "is in use by process"),
    "run of a newer PicoLM": (command("resume", "{root}/later"), "has format 99, this PicoLM reads up to 1"),
    "nothing to verify": (command("verify", "{root}/rum"), "did you mean 'run'?"),
    "file to verify": (command("verify", "{root}/one.jsonl"), "one.jsonl is not a run: it has no run.json"),
    "nothing to show": (command("show", "{root}/cache/none"), "there is no run"),
    "run to import": (command("import", "{run}", "--out", "{root}/new"), "it has no config.json"),
    "nothing to import": (command("import", "{root}/nowhere", "--out", "{root}/new"), "there is no directory"),
    "unknown precision": (command("export", "{run}", "--out", "{root}/new", "--dtype", "fp8"), "fp32 or bf16"),
    "export to a place that is taken": (command("export", "{run}", "--out", "{root}/cache"), "exists already"),
    "empty stop string": (command("generate", "{run}", "--stop", ""), "a stop string must not be empty"),
    "no file of prompts": (command("generate", "{run}", "--file", "{root}/none.txt"), "none.txt"),
    "file without prompts": (command("generate", "{run}", "--file", "{root}/blank.txt"), "holds no prompt"),
    "prompts that are not UTF-8": (command("generate", "{run}", "--file", "{root}/latin.txt"), "are not UTF-8"),
    "damaged weights": (command("generate", "{root}/damaged"), "model.safetensors"),
    "neither preset nor run": (command("diff", "demo", "demmo"), "'demmo' is neither a preset"),
    "device that is not there": (train("training.device=mps"), "training.device is 'mps', but this machine offers"),
}


def test_there_are_thirty_kinds_and_more() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_sentence_and_exit_code_two(
    case: str, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, expected = CASES[case]
    monkeypatch.setattr("sys.argv", ["picolm", *arguments(world)])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert exit_.value.code == 2, printed.err
    *progress, sentence = printed.err.strip().splitlines()
    assert expected in sentence
    assert sentence.startswith("picolm: ") and "Traceback" not in printed.err
    assert not any(line.startswith("picolm:") for line in progress)
    assert not printed.out
    assert not (world["root"] / "new").exists() or not any((world["root"] / "new").iterdir())
