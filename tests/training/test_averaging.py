import math
from collections.abc import Set
from pathlib import Path
from typing import Any

import pytest
import torch

import picolm
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.training.averaging import WeightAverage
from picolm.training.trainer import Trainer

Overrides = dict[str, Any]
RUN, SKIP = torch.zeros(()), torch.ones(())


def average_of(values: list[float], *, decay: float, start: int, skipped: Set[int] = frozenset()) -> float:
    """The average of one weight that starts at `values[0]` and has `values[i]` after update i."""
    weight = torch.nn.Linear(1, 1, bias=False).double()
    weight.weight.data.fill_(values[0])
    average = WeightAverage(weight, schema.Average(decay=decay, start=start))
    for done, value in enumerate(values[1:], start=1):
        weight.weight.data.fill_(value)
        average.update(done, skip=SKIP if done in skipped else RUN)
    return average.weights["weight"].item()


def by_hand(values: list[float], decay: float) -> float:
    mean = values[0]
    for t, value in enumerate(values[1:]):
        keep = min(decay, (1 + t) / (10 + t))
        mean = keep * mean + (1 - keep) * value
    return mean


def test_the_average_is_the_ramped_recurrence() -> None:
    values = [5.0, 1.0, -2.0, 0.5, 3.0, 3.5, 1.25]
    for decay in (0.2, 0.9):
        assert average_of(values, decay=decay, start=0) == pytest.approx(by_hand(values, decay), rel=1e-6)
        assert average_of(values, decay=decay, start=3) == pytest.approx(by_hand(values[3:], decay), rel=1e-6)


def test_far_from_the_start_it_is_the_geometric_mean_of_its_name() -> None:
    values = [math.sin(step) for step in range(400)]
    geometric = sum(0.1 * 0.9**age * value for age, value in enumerate(reversed(values)))
    assert average_of(values, decay=0.9, start=0) == pytest.approx(geometric, rel=1e-5)


def test_a_skipped_update_is_not_averaged_and_not_counted() -> None:
    assert average_of([5.0, 1.0, math.inf, math.nan, 2.0], decay=0.9, start=0, skipped={2, 3}) == average_of(
        [5.0, 1.0, 2.0], decay=0.9, start=0
    )


def test_in_place_exchanges_weights_and_puts_them_back() -> None:
    layer = torch.nn.Linear(3, 2)
    average = WeightAverage(layer, schema.Average())
    start = layer.weight.detach().clone()
    layer.weight.data += 1
    parameter, own = layer.weight, layer.weight.detach().clone()
    with average.in_place():
        assert layer.weight is parameter and torch.equal(layer.weight, start)
    assert torch.equal(layer.weight, own) and torch.equal(average.weights["weight"], start)


def train(overrides: Overrides, directory: Path, name: str) -> RunDirectory:
    return picolm.train(picolm.load_config(None, overrides), name=name, runs_dir=directory)


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """The same run without and with averages."""
    directory = tmp_path_factory.mktemp("averaged")
    base = {
        "data.sources": [str(corpus)],
        "data.cache": str(directory / "cache"),
        "data.sequence_length": 32,
        "tokenizer.vocab_size": 300,
        "model": {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 48, "dropout": 0.1},
        "training": {"steps": 12, "batch_size": 8, "device": "cpu"},
        "schedule.warmup_steps": 2,
        "optimizer.learning_rate": 0.01,
        "validation.every": 5,
    }
    ema = {
        "ema": {**base, "training.ema": {"decay": 0.8}},
        "late": {**base, "training.ema": {"decay": 0.8, "start": 6}},
    }
    return {name: train(overrides, directory, name) for name, overrides in {"plain": base, **ema}.items()}


def test_an_average_changes_no_byte_of_the_training(runs: dict[str, RunDirectory]) -> None:
    def record(run: RunDirectory) -> list[dict[str, Any]]:
        return [{key: value for key, value in line.items() if key != "ema"} for line in run.log]

    weights = [(run.checkpoints[-1].path / "model.safetensors").read_bytes() for run in runs.values()]
    assert weights[0] == weights[1] == weights[2]
    assert record(runs["plain"]) == record(runs["ema"]) == record(runs["late"])


def test_the_log_has_both_figures_from_the_start_of_the_average_on(runs: dict[str, RunDirectory]) -> None:
    for name, first in (("plain", math.inf), ("ema", 0), ("late", 6)):
        lines = [line for line in runs[name].log if line["event"] == "validation"]
        assert [("ema" in line) for line in lines] == [line["step"] >= first for line in lines]
    untrained, *_, last = [line for line in runs["ema"].log if line["event"] == "validation"]
    assert untrained["ema"]["loss"] == untrained["loss"]
    assert last["ema"]["loss"] != last["loss"]
    assert set(last["ema"]["domains"]) == set(last["domains"]) == {"up", "down"}


def test_the_averaged_model_is_saved_whole_and_opens(runs: dict[str, RunDirectory], monkeypatch: Any) -> None:
    checkpoint = runs["ema"].checkpoints[-1]
    assert checkpoint.damaged() == []
    assert "ema/model.safetensors" in checkpoint.manifest["files"]
    assert not (runs["plain"].checkpoints[-1].path / "ema").exists()
    raw, _ = picolm.open_model(checkpoint.path)
    averaged, tokenizer = picolm.open_model(checkpoint.path / "ema")
    assert not torch.equal(raw.embedding.weight, averaged.embedding.weight)
    assert picolm.generate(checkpoint.path / "ema", "one two", max_tokens=4, seed=1)
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    twin = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.path / "ema")
    assert transformers.AutoTokenizer.from_pretrained(checkpoint.path / "ema").eos_token_id == tokenizer.separator_id
    ids = torch.tensor([tokenizer.encode("three four five").tolist()])
    with torch.no_grad():
        torch.testing.assert_close(averaged.logits(averaged(ids)), twin(ids).logits, rtol=0, atol=1e-5)


def test_the_saved_average_is_that_of_the_weights_after_each_update(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history: list[torch.Tensor] = []
    original = Trainer.update

    def remembering(trainer: Trainer, step: int, views: Any) -> None:
        embedding = trainer.structure.objective.model.get_parameter("embedding.weight")
        if step == 0:
            history.append(embedding.detach().clone())
        original(trainer, step, views)
        history.append(embedding.detach().clone())

    monkeypatch.setattr(Trainer, "update", remembering)
    run = train({**small_run, "training.ema.decay": 0.7, "training.steps": 6}, tmp_path, "run")
    expected = history[0].double()
    for t, weights in enumerate(history[1:]):
        keep = min(0.7, (1 + t) / (10 + t))
        expected = keep * expected + (1 - keep) * weights
    averaged, _ = picolm.open_model(run.checkpoints[-1].path / "ema")
    torch.testing.assert_close(averaged.embedding.weight.double(), expected, rtol=1e-5, atol=1e-6)


def test_an_average_that_would_never_begin_is_refused() -> None:
    with pytest.raises(PicoLMError, match=r"ema\.start 20 leaves no update to average over in training\.steps 20"):
        picolm.load_config(None, {"training.steps": 20, "schedule.warmup_steps": 1, "training.ema.start": 20})
