"""Small models with random weights, in float64 where they are compared with a computation by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import picolm
from picolm.config import schema
from picolm.evaluation.scoring import Engine
from picolm.evaluation.task import Material
from picolm.model.huggingface import SpecialTokens, save_model
from picolm.model.initialization import build_model
from picolm.model.transformer import Transformer
from picolm.runs.directory import RunDirectory
from picolm.text.tokenizer import Tokenizer

TEXTS = [
    "The cats that the dog sees are here.",
    "The cats that the dog sees is here.",
    "a",
    "Zoë's naïve café costs 12 €, dépêche-toi!",
    "猫が好きです 🙂",
    "one two three four five six seven eight nine ten eleven twelve thirteen",
    "unbelievably, antidisestablishmentarianism",
    "A: Where is it?\nB: There.",
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe(TEXTS * 2, 330)


def tiny_model(tokenizer: Tokenizer, **changes: Any) -> Transformer:
    values = {
        "vocab_size": tokenizer.vocab_size,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_ffn": 48,
        "max_length": 96,
        # Large, so that scores differ much.
        "init": {"std": 0.3},
        **changes,
    }
    return build_model(schema.Model.model_validate(values), seed=1)


@pytest.fixture(scope="session")
def causal(tokenizer: Tokenizer) -> Transformer:
    return tiny_model(tokenizer).double()


@pytest.fixture(scope="session")
def masked(tokenizer: Tokenizer) -> Transformer:
    return tiny_model(tokenizer, attention="bidirectional").double()


def engine(model: Transformer, **changes: Any) -> Engine:
    return Engine(model, torch.device("cpu"), **changes)


def material(model: Transformer, tokenizer: Tokenizer, **changes: Any) -> Material:
    values: dict[str, Any] = {
        "name": "a model",
        "tokenizer": tokenizer,
        "bos": tokenizer.separator_id,
        "window": model.config.max_length,
        "is_causal": model.config.attention == "causal",
        "training": lambda: None,
        "held_out": lambda: None,
        "untrained": lambda: build_model(model.config, 0),
        "untrained_seed": 0,
        **changes,
    }
    return Material(**values)


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    def write(records: Sequence[Any], name: str = "pairs.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return write


@pytest.fixture
def pairs_file(write_jsonl: Callable[..., Path]) -> Path:
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    records = [
        {
            "sentence_good": " ".join(numbers[i : i + 4]),
            "sentence_bad": " ".join(reversed(numbers[i : i + 4])),
            "field": "order",
            "linguistics_term": "counting",
            "UID": f"from_{'even' if i % 2 == 0 else 'odd'}",
            "pairID": str(i),
        }
        for i in range(5)
    ]
    return write_jsonl(records)


@pytest.fixture
def model_directory(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A model that is no run."""
    directory = tmp_path / "some-llama"
    directory.mkdir()
    special = SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id)
    save_model(tiny_model(tokenizer), directory, special)
    tokenizer.save(directory, 96)
    return directory


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Path]:
    """Writes a model, with changes, as a directory that transformers opens too."""

    def save(**changes: Any) -> Path:
        directory = tmp_path / "model"
        directory.mkdir()
        special = SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id)
        model = tiny_model(tokenizer, **changes)
        save_model(model, directory, special)
        tokenizer.save(directory, model.config.max_length)
        return directory

    return save


@pytest.fixture(scope="session")
def trained(small_training: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with several checkpoints; tests write to their own `out`."""
    changes = {
        **small_training,
        "data.validation_fraction": 0.2,
        "validation.every": 8,
        "samples.prompts": [],
        "checkpoints.model.at": [0, 4],
    }
    config = picolm.load_config("demo", changes)
    return picolm.train(config, name="trained", runs_dir=tmp_path_factory.mktemp("runs"))
