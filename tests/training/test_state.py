"""What is saved of training comes back as it was, bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.huggingface import SpecialTokens, save_weights
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel
from picolm.objective.causal import CausalFormulation
from picolm.seams import Objective, Term
from picolm.training.averaging import WeightAverage
from picolm.training.optimizer import build_optimizer, parameter_groups
from picolm.training.state import MODEL, STATE, TrainingState, memory_copy, optimizer_tensors, restore_optimizer
from picolm.training.writer import host_copy

SHAPE: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ffn": 24, "vocab_size": 30}
MUON = schema.Muon(learning_rate=0.02)


def trained(
    *, tied: bool = True, rule: schema.AdamW | schema.Muon | None = None, steps: int = 3
) -> tuple[Objective, torch.optim.AdamW, WeightAverage]:
    """A model after some updates, with its optimizer and its average."""
    rule = rule or schema.AdamW()
    model = build_model(schema.Model(**SHAPE, tied=tied), seed=0)
    objective = Objective(model, CausalFormulation().terms())
    optimizer = build_optimizer(parameter_groups(model, objective.heads, rule), rule)
    average = WeightAverage(objective, schema.Average(decay=0.9, start=1))
    for step in range(steps):
        update(objective, optimizer, step)
        average.update(step + 1, skip=torch.zeros(()))
    return objective, optimizer, average


def update(objective: Objective, optimizer: torch.optim.Optimizer, step: int) -> None:
    """An update whose gradients depend on the step and the weights only."""
    for number, parameter in enumerate(objective.parameters()):
        generator = torch.Generator().manual_seed(100 * step + number)
        parameter.grad = torch.randn(parameter.shape, generator=generator) + parameter.detach()
    optimizer.step()


def state_of(objective: Objective, optimizer: torch.optim.Optimizer, average: WeightAverage) -> TrainingState:
    return TrainingState(
        step=3,
        skipped=2,
        parameters=host_copy(objective.state_dict()),
        optimizer=host_copy(optimizer_tensors(optimizer)),
        average=host_copy(average.tensors()),
        interventions={"one": {"count": 3, "names": ["a", "b"], "table": torch.arange(4)}, "two": {}},
    )


def written(state: TrainingState, path: Path, model: LanguageModel, saved: dict[str, Tensor] | None = None) -> Path:
    """A checkpoint of the state, with the model as it is exported; by default as it is trained."""
    plain = {name.removeprefix(MODEL): t for name, t in state.parameters.items() if name.startswith(MODEL)}
    saved = plain if saved is None else saved
    (path / STATE).mkdir(parents=True)
    save_weights(model.config, saved, path, SpecialTokens(0, 1, None))
    state.write(path / STATE, saved)
    return path


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rule", [schema.AdamW(), MUON], ids=["adamw", "muon"])
def test_everything_comes_back_as_it_was(tmp_path: Path, tied: bool, rule: schema.AdamW | schema.Muon) -> None:
    objective, optimizer, average = trained(tied=tied, rule=rule)
    state = state_of(objective, optimizer, average)
    again = TrainingState.read(written(state, tmp_path / "checkpoint", objective.model))
    assert (again.step, again.skipped) == (3, 2)
    assert_same(again.parameters, state.parameters)
    assert_same(again.optimizer, state.optimizer)
    assert_same(again.average, state.average)
    assert again.average["updates"] == 2
    assert again.interventions["one"].pop("table").tolist() == [0, 1, 2, 3]
    assert again.interventions == {"one": {"count": 3, "names": ["a", "b"]}, "two": {}}


@pytest.mark.parametrize("rule", [schema.AdamW(), MUON], ids=["adamw", "muon"])
def test_training_goes_on_from_it_as_if_nothing_had_been(tmp_path: Path, rule: schema.AdamW | schema.Muon) -> None:
    objective, optimizer, average = trained(rule=rule)
    path = written(state_of(objective, optimizer, average), tmp_path / "checkpoint", objective.model)
    state = TrainingState.read(path)
    other, fresh, mean = trained(rule=rule, steps=0)
    other.load_state_dict(state.parameters)
    restore_optimizer(fresh, state.optimizer)
    mean.restore(state.average)
    for step in (3, 4):
        for one, moved, averaged in ((objective, optimizer, average), (other, fresh, mean)):
            update(one, moved, step)
            averaged.update(step + 1, skip=torch.zeros(()))
    assert_same(dict(other.state_dict()), dict(objective.state_dict()))
    assert_same(optimizer_tensors(fresh), optimizer_tensors(optimizer))
    assert_same(mean.tensors(), average.tensors())


def test_what_the_saved_model_holds_is_not_written_twice(tmp_path: Path) -> None:
    objective, optimizer, average = trained()
    path = written(state_of(objective, optimizer, average), tmp_path / "checkpoint", objective.model)
    assert not (path / STATE / "live.safetensors").exists()


def test_a_tied_matrix_stands_once_and_is_tied_again(tmp_path: Path) -> None:
    objective, optimizer, average = trained(tied=True)
    path = written(state_of(objective, optimizer, average), tmp_path / "checkpoint", objective.model)
    shape = list(objective.model.output_matrix.shape)
    assert [list(t.shape) for t in load_file(path / "model.safetensors").values()].count(shape) == 1
    other, _, _ = trained(tied=True, steps=0)
    other.load_state_dict(TrainingState.read(path).parameters)
    assert torch.equal(other.model.output_matrix, objective.model.output_matrix)
    assert sum(parameter is other.model.output_matrix for parameter in other.model.parameters()) == 1


def test_what_an_export_changed_is_kept_in_its_live_form(tmp_path: Path) -> None:
    """Merged adapters: the saved matrix is another one, the adapter is in no saved model."""
    objective, optimizer, average = trained()
    state = state_of(objective, optimizer, average)
    name = "model.layers.0.mlp.up_proj.weight"
    saved = {key.removeprefix(MODEL): tensor for key, tensor in state.parameters.items()}
    saved[name.removeprefix(MODEL)] = saved[name.removeprefix(MODEL)] + 1
    state.parameters["model.layers.0.mlp.up_proj.adapter"] = torch.ones(2, 3)
    path = written(state, tmp_path / "checkpoint", objective.model, saved)
    live = load_file(path / STATE / "live.safetensors")
    assert set(live) == {name, "model.layers.0.mlp.up_proj.adapter"}
    assert_same(TrainingState.read(path).parameters, state.parameters)


class Head(torch.nn.Linear):
    """A term that is trained along."""

    def forward(self, model: Any, hidden: Any, tensors: Any = None) -> Tensor:  # type: ignore[override]
        raise NotImplementedError


def test_a_head_that_is_in_no_saved_model_comes_back(tmp_path: Path) -> None:
    model = build_model(schema.Model(**SHAPE), seed=0)
    objective = Objective(model, {"extra": Term("causal", Head(16, 4))})
    rule = schema.AdamW()
    optimizer = build_optimizer(parameter_groups(model, objective.heads, rule), rule)
    update(objective, optimizer, 0)
    state = TrainingState(1, 0, host_copy(objective.state_dict()), host_copy(optimizer_tensors(optimizer)), {}, {})
    again = TrainingState.read(written(state, tmp_path / "checkpoint", model))
    assert_same(again.parameters, state.parameters)
    assert "heads.extra.weight" in again.parameters and "heads.extra.bias/exp_avg" in again.optimizer


def test_without_an_average_and_without_moments_there_are_none(tmp_path: Path) -> None:
    model = build_model(schema.Model(**SHAPE), seed=0)
    parameters = host_copy(Objective(model, CausalFormulation().terms()).state_dict())
    path = written(TrainingState(0, 0, parameters, {}, {}, {}), tmp_path / "checkpoint", model)
    again = TrainingState.read(path)
    assert (again.optimizer, again.average, again.interventions) == ({}, {}, {})
    assert [file.name for file in (path / STATE).iterdir()] == ["state.json"]


def test_moments_are_found_by_name_whatever_the_order_of_the_groups() -> None:
    _, optimizer, _ = trained(tied=False)
    kept = optimizer_tensors(optimizer)
    assert {key.rpartition("/")[2] for key in kept} == {"exp_avg", "exp_avg_sq", "step"}
    model = build_model(schema.Model(**SHAPE, tied=False), seed=1)
    named = list(reversed(list(model.named_parameters())))
    other = torch.optim.AdamW([{"names": [name for name, _ in named], "params": [p for _, p in named]}])
    restore_optimizer(other, kept)
    assert_same(optimizer_tensors(other), kept)


def test_a_parameter_of_which_nothing_was_kept_begins_anew_and_the_rest_goes_on() -> None:
    _, optimizer, _ = trained()
    kept = host_copy(optimizer_tensors(optimizer))
    gone = [key for key in kept if key.startswith("layers.1.mlp.down_proj.weight/")]
    assert len(gone) == 3
    for key in gone:
        del kept[key]
    _, fresh, _ = trained(steps=0)
    restore_optimizer(fresh, {**kept, "adapter/exp_avg": torch.ones(2)})
    assert_same(optimizer_tensors(fresh), kept)


def test_restored_moments_are_copies() -> None:
    objective, optimizer, _ = trained()
    kept = host_copy(optimizer_tensors(optimizer))
    before = {key: tensor.clone() for key, tensor in kept.items()}
    restore_optimizer(optimizer, kept)
    update(objective, optimizer, 9)
    assert_same(kept, before)


def test_a_copy_of_what_an_intervention_remembers_does_not_follow_it() -> None:
    memory: dict[str, Any] = {"seen": [1], "by": {"a": {"b": 2}}, "table": torch.zeros(2)}
    copied = memory_copy(memory)
    memory["seen"].append(2)
    memory["by"]["a"]["b"] = 3
    memory["table"] += 1
    assert copied["seen"] == [1] and copied["by"] == {"a": {"b": 2}} and copied["table"].tolist() == [0, 0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    objective, optimizer, average = trained(steps=2)
    return written(state_of(objective, optimizer, average), tmp_path / "checkpoint", objective.model)


def test_a_newer_format_is_refused(checkpoint: Path) -> None:
    file = checkpoint / STATE / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(PicoLMError, match=r"state\.json has format 2, this PicoLM reads up to 1: upgrade PicoLM"):
        TrainingState.read(checkpoint)


UNREADABLE = [
    None,
    b"",
    b"[]",
    b"{}",
    b"\xff",
    b'{"format": 1, "step": "x", "skipped": 0, "interventions": {}}',
    b'{"format": 1, "step": 3, "skipped": 0}',
    b'{"format": 1, "step": 3, "skipped": 0, "interventions": {"one": 3}}',
]


@pytest.mark.parametrize("content", UNREADABLE)
def test_facts_that_cannot_be_read_are_one_sentence(checkpoint: Path, content: bytes | None) -> None:
    file = checkpoint / STATE / "state.json"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(PicoLMError, match=r"state\.json is damaged"):
        TrainingState.read(checkpoint)


def test_damaged_tensors_are_one_sentence(checkpoint: Path) -> None:
    file = checkpoint / STATE / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(PicoLMError, match=r"optimizer\.safetensors' is damaged"):
        TrainingState.read(checkpoint)


def test_nothing_in_a_state_is_a_pickle(checkpoint: Path) -> None:
    names = {file.name for file in checkpoint.rglob("*") if file.is_file()}
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
