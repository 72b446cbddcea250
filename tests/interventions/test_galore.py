"""GaLore: Adam in a subspace, by hand; exact resume; what is kept and what is saved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import picolm.training.trainer
from picolm.errors import PicoLMError
from picolm.training.trainer import Trainer

SAVING = {"checkpoints.state.every": 1, "checkpoints.keep_states": None}
USE = {"use": "galore", "rank": 3, "refresh_every": 4, "scale": 0.5}
# Wide and tall: the subspace is on either side.
NAMES = ("layers.0.mlp.down_proj", "layers.0.mlp.up_proj")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The gradient of each weight as backward leaves it, the weights after each update, and its rate."""
    found: dict[str, Any] = {"gradients": {}, "weights": {}, "rates": {}, "states": {}}
    original, accumulate = Trainer.update, Trainer.accumulate

    def accumulated(trainer: Trainer, step: int, views: Any) -> Any:
        losses = accumulate(trainer, step, views)
        model = trainer.structure.objective.model
        found["gradients"][step] = {name: model.get_submodule(name).weight.grad.clone() for name in NAMES}  # type: ignore[union-attr, operator]
        found["before"] = found.get("before") or {
            name: model.get_submodule(name).weight.detach().clone()  # type: ignore[operator]
            for name in NAMES
        }
        return losses

    def update(trainer: Trainer, step: int, views: Any) -> None:
        original(trainer, step, views)
        model = trainer.structure.objective.model
        found["weights"][step] = {name: model.get_submodule(name).weight.detach().clone() for name in NAMES}  # type: ignore[operator]
        found["rates"][step] = trainer.structure.optimizer.param_groups[0]["lr"]
        parameters = trainer.structure.parameters
        found["states"][step] = {
            name for name, parameter in parameters.items() if parameter in trainer.structure.optimizer.state
        }

    monkeypatch.setattr(Trainer, "accumulate", accumulated)
    monkeypatch.setattr(Trainer, "update", update)
    return found


def by_hand(weight: Tensor, gradients: list[Tensor], rates: list[float], policy: str, decay: float) -> list[Tensor]:
    """The published algorithm in float64, written out for a matrix that may be turned on its side."""
    tall = weight.shape[0] > weight.shape[1]
    weight = (weight.mT if tall else weight).double()
    basis, found, count = torch.zeros(0), [], 0
    first = second = torch.zeros(3, weight.shape[1], dtype=torch.float64)
    for step, gradient in enumerate(gradients):
        g = (gradient.mT if tall else gradient).double()
        if step % 4 == 0:
            fresh = torch.linalg.svd(g).U[:, :3]
            if step and policy == "project":
                turn = fresh.mT @ basis
                first, second = turn @ first, turn.square() @ second
            if step and policy == "zero":
                first, second, count = torch.zeros_like(first), torch.zeros_like(second), 0
            basis = fresh
        small, count = basis.mT @ g, count + 1
        first, second = 0.9 * first + 0.1 * small, 0.95 * second + 0.05 * small.square()
        step_of = (first / (1 - 0.9**count)) / ((second / (1 - 0.95**count)).sqrt() + 1e-4)
        weight = weight * (1 - rates[step] * decay) - rates[step] * 0.5 * basis @ step_of
        found.append(weight.mT if tall else weight)
    return found


@pytest.mark.parametrize("policy", ["keep", "project", "zero"])
def test_updates_are_those_of_adam_in_the_subspace(lab: Any, seen: dict[str, Any], policy: str) -> None:
    # The sign of a singular vector decides nothing: turned into a new subspace, moments go with it; kept, they do not.
    changes = {"training.gradient_clip": None, "optimizer.eps": 1e-4, "optimizer.weight_decay": 0.2}
    lab.train([{**USE, "on_refresh": policy}], "run", **changes)
    last = 4 if policy == "keep" else 10
    for name in NAMES:
        gradients, rates = [seen["gradients"][s][name] for s in range(last)], [seen["rates"][s] for s in range(last)]
        wanted = by_hand(seen["before"][name], gradients, rates, policy, 0.2)
        for step, weight in enumerate(wanted):
            torch.testing.assert_close(seen["weights"][step][name].double(), weight, rtol=1e-4, atol=2e-5)


def test_no_moments_are_kept_of_whole_weights(lab: Any, seen: dict[str, Any]) -> None:
    run = lab.train([USE], "run", **SAVING)
    assert all(f"{name}.core" in seen["states"][9] and f"{name}.weight" not in seen["states"][9] for name in NAMES)
    optimizer = load_file(run.checkpoint_path(10) / "state" / "optimizer.safetensors")
    assert optimizer["layers.0.mlp.up_proj.core/exp_avg"].shape == (48, 3)
    assert optimizer["layers.0.mlp.down_proj.core/exp_avg"].shape == (3, 48)
    facts = lab.trace(run)
    assert [fact["step"] for fact in facts] == [1, 5, 9] and all(0 < fact["kept"] <= 1 for fact in facts)
    change = seen["weights"][2][NAMES[0]] - seen["weights"][0][NAMES[0]]
    decayed = 1.0
    for step in (1, 2):
        decayed *= 1 - 0.1 * seen["rates"][step]
    moved = seen["weights"][2][NAMES[0]] - decayed * seen["weights"][0][NAMES[0]]
    assert torch.linalg.matrix_rank(moved, atol=1e-5) == 3 and torch.linalg.matrix_rank(change, atol=1e-5) > 3


@pytest.mark.parametrize("policy", ["project", pytest.param("keep", marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_one_that_is_not(lab: Any, policy: str) -> None:
    use = {**USE, "on_refresh": policy}
    whole = lab.contents(lab.train([use], "whole", **SAVING))
    assert lab.contents(lab.stopped([use], "stopped", [2, 4, 5, 8], **SAVING)) == whole


def test_what_cannot_be_is_refused(lab: Any) -> None:
    with pytest.raises(PicoLMError, match="runs Adam in a subspace"):
        lab.train([USE], "run", **{"optimizer": {"kind": "muon"}})
    with pytest.raises(PicoLMError, match="no linear layer"):
        lab.train([{**USE, "modules": ["layers.*.mlp.gate"]}], "other")


def test_a_gradient_that_is_not_finite_moves_nothing(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original, weights = Trainer.accumulate, {}

    def broken(trainer: Trainer, step: int, views: Any) -> Any:
        losses = original(trainer, step, views)
        layer: Any = trainer.structure.objective.model.get_submodule(NAMES[0])
        weights[step] = layer.weight.detach().clone()
        if step in (0, 4):
            layer.weight.grad[0, 0] = torch.nan
        return losses

    monkeypatch.setattr(picolm.training.trainer.Trainer, "accumulate", broken)
    run = lab.train([USE], "run")
    assert torch.equal(weights[1], weights[0]) and torch.equal(weights[5], weights[4])
    assert not torch.equal(weights[2], weights[1]) and not torch.equal(weights[6], weights[5])
    assert [line["skipped"] for line in lab.log(run)][-1] == 2
