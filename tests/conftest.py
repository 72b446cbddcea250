"""What all tests share. Each worker computes on one thread: two workers on two cores would otherwise fight for them."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["COLUMNS"] = "120"

import pytest
from hypothesis import settings

# A busy machine is no reason for a test to fail.
settings.register_profile("picolm", deadline=None)
settings.load_profile("picolm")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora that stands beside the project in continuous integration."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the corpora in {SHARED / 'data'}, which are not here")
    return SHARED / "data"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small JSONL corpus of two domains with something to learn: counting in words, forwards and backwards."""
    import json

    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    file = tmp_path_factory.mktemp("corpus") / "counting.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for number in range(120):
            forwards = number % 2 == 0
            start = number % len(words)
            order = [words[(start + (i if forwards else -i)) % len(words)] for i in range(20 + number % 7)]
            record = {"text": " ".join(order), "domain": "up" if forwards else "down", "number": number}
            out.write(json.dumps(record) + "\n")
    return file


@pytest.fixture(scope="session")
def small_training(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Overrides that make a small model and quick steps; the prepared data are shared by all tests of a worker."""
    return {
        "data.sources": [str(corpus)],
        "data.cache": str(tmp_path_factory.getbasetemp() / "cache"),
        "data.sequence_length": 32,
        "data.validation_fraction": 0.1,
        "tokenizer.vocab_size": 300,
        "model.d_model": 32,
        "model.n_layers": 2,
        "model.n_heads": 4,
        "model.n_kv_heads": 2,
        "model.d_ffn": 48,
        "model.max_length": 64,
        "optimizer.learning_rate": 5e-3,
        "schedule.warmup_steps": 3,
        "training.steps": 8,
        "training.batch_size": 8,
        "training.device": "cpu",
        "samples.max_tokens": 5,
        "checkpoints.model.per_doubling": 0,
    }


@pytest.fixture
def small_run(small_training: dict[str, object]) -> dict[str, object]:
    """Overrides that make a run of a second or two."""
    return {
        **small_training,
        "training.steps": 12,
        "training.flush_every": 5,
        "validation.every": 5,
        "checkpoints.model.at": [],
    }
