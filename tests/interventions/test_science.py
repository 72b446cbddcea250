"""What each intervention does, against closed forms and plain code."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import picolm.training.trainer
from picolm.config import schema
from picolm.interventions.label_smoothing import LabelSmoothing
from picolm.interventions.loading import Trust, load_interventions
from picolm.model.huggingface import load_model
from picolm.model.initialization import build_model
from picolm.objective.causal import CausalFormulation
from picolm.objective.masked import MaskedFormulation
from picolm.objective.twin import plain_twin
from picolm.seams import IGNORE, Objective, Sequences, Term
from picolm.training.trainer import Trainer

CONFIG = schema.Model(vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=12, max_length=16)


def loaded(use: dict[str, object]) -> Any:
    """An intervention and the module that it stands in."""
    (one,) = load_interventions([schema.Use.model_validate(use)], Trust([str(use["use"])]))
    return one.intervention, sys.modules[type(one.intervention).__module__]


class Watched:
    """Looks at a run just before each clipping and after each update."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.trainer: Trainer | None = None
        module = picolm.training.trainer
        clip = module.gradient_norm
        original = Trainer.update

        def update(trainer: Trainer, step: int, views: Any) -> None:
            self.trainer = trainer
            original(trainer, step, views)
            self.updated(trainer, step)

        def norm(parameters: Any, limit: Any) -> Tensor:
            assert self.trainer is not None
            named = self.trainer.structure.parameters
            self.gradients.append({n: p.grad.clone() for n, p in named.items() if p.grad is not None})
            return clip(parameters, limit)

        monkeypatch.setattr(module, "gradient_norm", norm)
        monkeypatch.setattr(Trainer, "update", update)

    def updated(self, trainer: Trainer, step: int) -> None:
        """Overridden where a test looks after updates."""


def test_a_projected_gradient_lies_in_the_span_before_it_is_clipped(
    lab: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Watched(monkeypatch)
    run = lab.train(cases["projection"].uses, "run", **{"training.gradient_clip": 0.1})
    for gradients, line in zip(seen.gradients, lab.log(run), strict=True):
        for name, gradient in gradients.items():
            if name.endswith("mlp.up_proj.weight"):
                assert torch.linalg.matrix_rank(gradient, rtol=1e-4) <= 4
        # The norm that was clipped is that of what was projected.
        total = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        assert line["gradient_norm"] == pytest.approx(total, rel=1e-5)
    facts = lab.trace(run)
    assert all(0.0 < fact["kept"] <= 1.0 for fact in facts)
    assert [fact["step"] for fact in facts if fact["new_basis"]] == [1, 4, 7, 10]


def test_adapters_change_nothing_at_first_merge_exactly_and_begin_without_moments(
    lab: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = torch.arange(32)[None]
    logits: dict[int, Tensor] = {}
    moments: dict[int, bool] = {}

    class Seen(Watched):
        def updated(self, trainer: Trainer, step: int) -> None:
            model = trainer.structure.objective.model
            with torch.no_grad():
                logits[step + 1] = model.logits(model(text))
            name = "layers.0.mlp.down_proj.adapter_a"
            parameter = trainer.structure.parameters.get(name)
            moments[step + 1] = parameter is not None and parameter in trainer.structure.optimizer.state

    Seen(monkeypatch)
    changes = {"checkpoints.state.every": 1, "checkpoints.keep_states": None, "training.ema.start": 1}
    run = lab.train(cases["adapters"].uses, "run", **changes)
    assert [step for step, present in moments.items() if present] == [3, 4, 6, 7]
    for step in range(1, 11):
        exported = load_model(run.checkpoint_path(step))
        with torch.no_grad():
            torch.testing.assert_close(exported.logits(exported(text)), logits[step], rtol=1e-5, atol=1e-5)
        load_model(run.checkpoint_path(step) / "ema") if step > 1 else None
    frozen = "model.layers.0.self_attn.q_proj.weight"
    live = lab.weights(run, 4, "state/live.safetensors")
    before = lab.weights(run, 2)[frozen]
    np.testing.assert_array_equal(live["model.layers.0.attention.q_proj.weight"], before)
    # The rank of what a cycle adds is that of the adapter.
    assert np.linalg.matrix_rank(lab.weights(run, 5)[frozen] - before, tol=1e-5) == 2
    merged = [fact for fact in lab.trace(run) if fact["event"] == "merged"]
    assert [fact["step"] for fact in merged] == [5, 8] and all(fact["norm"] > 0 for fact in merged)
    # What rested goes on afterwards.
    after = lab.weights(run, 9, "state/optimizer.safetensors")
    assert float(after["layers.0.attention.q_proj.weight/step"]) == 3.0
    assert not any("adapter" in name for name in after)


def test_adapters_are_kept_apart_from_frozen_weights_or_trained_with_them(lab: Any, cases: Any) -> None:
    (use,) = cases["adapters"].uses
    run = lab.train([{**use, "frozen": False, "off": [20]}], "run", **{"checkpoints.state.every": 4})
    state = lab.weights(run, 10, "state/optimizer.safetensors")
    assert float(state["layers.0.attention.q_proj.weight/step"]) == 10.0
    assert float(state["layers.0.attention.q_proj.adapter_a/step"]) == 2.0


def test_the_gradient_of_an_inner_loop_is_that_of_the_unrolled_loop(cases: Any) -> None:
    (use,) = cases["inner_loop"].uses
    _, module = loaded(use)
    torch.manual_seed(0)
    model = build_model(CONFIG, 0).double()
    names = ("layers.1.attention.v_proj.weight", "layers.0.mlp.up_proj.weight")
    adaptation = module.Adaptation(2, 0.3, 3, names)
    head = module.Episodes(8, adaptation, torch.Generator().manual_seed(1)).double()
    tensors = {
        "input_ids": torch.randint(0, 20, (8, 6)),
        "label": torch.randint(0, 3, (8,)),
        "is_query": torch.tensor([False, False, True, True] * 2),
        "episode": torch.tensor([0] * 4 + [1] * 4),
    }
    trained = {**dict(model.named_parameters()), "head": head.weight}
    surrogate = head(model, model(tensors["input_ids"]), tensors)
    ours = torch.autograd.grad(surrogate, list(trained.values()), allow_unused=True)

    def value() -> float:
        return float(head(model, torch.zeros(()), tensors).detach())

    assert float(surrogate.detach()) == pytest.approx(value(), rel=1e-12)
    # Against brute force: central differences of the whole loop, element by element.
    for name in ("head", *names, "layers.0.attention.q_proj.weight", "embedding.weight"):
        parameter, gradient = trained[name], ours[list(trained).index(name)]
        flat, generator = parameter.data.view(-1), np.random.default_rng(0)
        for place in generator.choice(len(flat), 6, replace=False).tolist():
            kept, epsilon = float(flat[place]), 1e-5
            flat[place] = kept + epsilon
            above = value()
            flat[place] = kept - epsilon
            below = value()
            flat[place] = kept
            assert float(gradient.view(-1)[place]) == pytest.approx((above - below) / (2 * epsilon), rel=1e-4, abs=1e-8)
    # And against autograd through the same loop, nothing computed apart.
    with plain_twin():
        unrolled = module.query_losses(model, head.weight, tensors, adaptation)
        theirs = torch.autograd.grad(unrolled, list(trained.values()), allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_a_head_whose_view_is_absent_does_not_move(lab: Any, cases: Any) -> None:
    changes = {**cases["two_views"].overrides, "checkpoints.state.every": 1, "checkpoints.keep_states": None}
    run = lab.train(cases["two_views"].uses, "run", **changes)
    name = "heads.classes.weight"
    for done in range(2, 11, 2):
        # Step `done - 1` is odd: after it everything about the head is as it was before.
        ours, before = (lab.weights(run, step, "state/optimizer.safetensors") for step in (done, done - 1))
        assert float(ours[f"{name}/step"]) == done / 2
        for key in ("exp_avg", "exp_avg_sq", "step"):
            np.testing.assert_array_equal(ours[f"{name}/{key}"], before[f"{name}/{key}"])
        ours, before = (lab.weights(run, step, "state/live.safetensors") for step in (done, done - 1))
        np.testing.assert_array_equal(ours[name], before[name])
        assert not np.array_equal(lab.weights(run, done - 1, "state/live.safetensors")[name], 0.0)
    assert [set(line["losses"]) for line in lab.log(run)] == [{"masked", "classes"}, {"masked"}] * 5
    # Validation measures the masked loss alone.
    alone = lab.train([], "alone", **changes)
    domains = [lab.log(one, "validation")[0]["domains"] for one in (run, alone)]
    assert [domain["tokens"] for domain in domains[0].values()] == [d["tokens"] for d in domains[1].values()]


def test_noise_has_the_variance_that_is_told_and_stays_in_its_window(lab: Any, cases: Any) -> None:
    (use,) = cases["gradient_noise"].uses
    run = lab.train([{**use, "gamma": 0.5, "eta": 0.04}], "run")
    facts = lab.trace(run)
    assert [fact["step"] for fact in facts] == [3, 4, 5, 6, 7]
    n = sum(weight.size for weight in lab.weights(run).values())
    for place, fact in enumerate(facts):
        sigma = 0.2 / (1 + place) ** 0.25
        assert fact["sigma"] == pytest.approx(sigma)
        # The norm of n Gaussians is sigma sqrt(n), give or take sigma / sqrt(2): five of those.
        assert fact["norm"] == pytest.approx(sigma * math.sqrt(n), abs=5 * sigma / math.sqrt(2))
    plain = lab.train([], "plain")
    ours, theirs = ([line["loss"] for line in lab.log(one)] for one in (run, plain))
    assert ours[:3] == theirs[:3] and ours[3] != theirs[3]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_label_smoothing_is_that_of_pytorch(kind: str) -> None:
    alpha, rows = 0.3, np.random.default_rng(0).integers(3, 20, (4, 9))
    sequences = Sequences(rows, np.array([9, 9, 5, 9]), np.arange(4), "train", 0)
    rates = schema.Masked(kind="masked", rate=0.5)
    masked = MaskedFormulation(rates, mask_id=2, special_ids={0, 1, 2}, vocab_size=20, seed=0)
    formulation = CausalFormulation() if kind == "causal" else masked
    model = build_model(CONFIG, 0).double()
    plain = Objective(model, formulation.terms())
    smoothed = LabelSmoothing(LabelSmoothing.Settings(alpha=alpha)).objective(plain, 0, None)  # type: ignore[arg-type]
    (view,) = formulation.views(sequences, measure=False)
    hidden, targets = plain.hidden(view), view.tensors["targets"]
    if kind == "masked":
        hidden = hidden.gather(1, view.tensors["positions"][..., None].expand(-1, -1, 8))
    logits = model.logits(hidden).flatten(0, 1)
    wanted = F.cross_entropy(logits, targets.flatten(), label_smoothing=alpha, reduction="sum", ignore_index=IGNORE)
    found = smoothed(view)[kind]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(wanted, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_validation_goes_on_to_measure_the_plain_loss(lab: Any, cases: Any) -> None:
    changes = {"optimizer.learning_rate": 1e-12, "validation.every": 5}
    smoothed, plain = (lab.train(uses, name, **changes) for name, uses in
                       (("smoothed", cases["label_smoothing"].uses), ("plain", ())))  # fmt: skip
    ours, theirs = (lab.log(run, "validation")[-1]["loss"] for run in (smoothed, plain))
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert lab.log(smoothed)[0]["loss"] != pytest.approx(lab.log(plain)[0]["loss"], rel=1e-4)


def test_a_head_behind_a_wrapped_function_is_still_trained() -> None:
    head = nn.Linear(8, 2)
    term = Term("a", head)
    wrapped = replace(term, function=lambda model, hidden, tensors: hidden.sum())
    assert wrapped.head is head
    assert "heads.x.weight" in dict(Objective(build_model(CONFIG, 0), {"x": wrapped}).named_parameters())


def test_some_parameters_learn_at_a_multiple_of_the_rate(lab: Any) -> None:
    once = {"training.steps": 1, "schedule.warmup_steps": 0, "checkpoints.model.at": [0]}
    slow: dict[str, object] = {"use": "rate_factor", "factor": 0.25, "parameters": ["layers", "output_norm"]}
    moved = []
    for uses in ([], [slow]):
        run = lab.train(uses, f"run{len(uses)}", **once)
        first, last = lab.weights(run, 0), lab.weights(run, 1)
        moved.append({name: last[name] - first[name] for name in first})
    assert any(np.abs(change).max() > 1e-4 for change in moved[0].values())
    for name, change in moved[0].items():
        # Adam's first step does not depend on the size of gradients, and decay goes with the rate.
        ratio = 0.25 if ".layers." in name or name == "model.norm.weight" else 1.0
        np.testing.assert_allclose(moved[1][name], ratio * change, rtol=1e-3, atol=1e-7)
