"""The loss of episodes: its gradients against finite differences, plain loops and the same thing done by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.task_head import Start, TaskHead
from picolm.objective.episode_loss import Adaptation, Derivative, EpisodeLoss
from picolm.objective.episodes import EpisodeShape
from picolm.objective.twin import plain_twin
from picolm.seams import Objective, Term, View

CONFIG = schema.Model(vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=12, max_length=16)
SHAPE = EpisodeShape(ways=3, support=2, query=1)
TASKS, LENGTH = 2, 6
HEAD_RATE, MODEL_RATE = 0.3, 0.1


class Made:
    """A small model in float64, episodes of random tokens, and the term."""

    def __init__(self, derivative: Derivative, *, start: Start = "vocabulary", steps: int = 3,
                 whole: bool = False, hidden: tuple[int, ...] = ()) -> None:  # fmt: skip
        self.model = build_model(CONFIG, 0).double()
        draw = torch.Generator().manual_seed(1)
        self.head = TaskHead(8, hidden, start, 20, draw).double()
        self.adaptation = Adaptation(steps, HEAD_RATE, MODEL_RATE if whole else None, derivative)
        self.loss = EpisodeLoss(self.head, SHAPE, self.adaptation)
        rows = TASKS * SHAPE.rows
        is_query = np.tile(np.arange(SHAPE.rows) >= SHAPE.n_support, TASKS)
        labels = torch.cat([torch.arange(3).repeat_interleave(2), torch.arange(3)]).repeat(TASKS)
        self.tensors = {
            "input_ids": torch.randint(0, 20, (rows, LENGTH), generator=draw),
            "labels": labels,
            "positions": torch.randint(2, LENGTH, (rows,), generator=draw),
            "types": torch.randint(0, 20, (rows,), generator=draw),
            "redraws": torch.zeros(rows, dtype=torch.long),
            "noise": torch.randn(rows, self.head.width, generator=draw),
        }
        fixed = np.ones_like(is_query) if whole else None if derivative == "exact" else ~is_query
        self.view = View("episodes", self.tensors, is_query.astype(np.int64), fixed=fixed,
                         groups=np.repeat(np.arange(TASKS), SHAPE.rows))  # fmt: skip
        self.objective = Objective(self.model, {"episodes": Term("episodes", self.loss, figures=self.loss.figures)})

    @property
    def trained(self) -> dict[str, Tensor]:
        return dict(self.objective.named_parameters())

    def sums(self) -> dict[str, Tensor]:
        return self.objective(self.view)

    def gradients(self, value: Tensor | None = None) -> dict[str, Tensor]:
        value = self.sums()["episodes"] if value is None else value
        found = torch.autograd.grad(value, list(self.trained.values()), allow_unused=True)
        return {name: one for name, one in zip(self.trained, found, strict=True) if one is not None}

    def by_hand(self) -> Tensor:
        """The same loss, written as a loop that runs the model in every step; differentiable throughout."""
        first_order, whole = self.adaptation.derivative == "first_order", self.adaptation.model_rate is not None
        sums = []
        for task in range(TASKS):
            rows = {name: value[task * SHAPE.rows : (task + 1) * SHAPE.rows] for name, value in self.tensors.items()}
            fast: dict[str, Tensor] = {name: p for name, p in self.model.named_parameters() if whole}
            head = dict(self.head.named_parameters())

            def features(part: slice, fast: dict[str, Tensor], rows: Any = rows) -> Tensor:
                hidden = torch.func.functional_call(self.model, fast, (rows["input_ids"][part],))
                return hidden[torch.arange(len(hidden)), rows["positions"][part]]

            support, query = slice(0, SHAPE.n_support), slice(SHAPE.n_support, None)
            seen = features(support, fast)
            seen = seen.detach() if first_order else seen
            types, noise = rows["types"][:3], rows["noise"][:3]
            own = self.head.begin(head, seen, rows["labels"][support], types, noise)
            for _ in range(self.adaptation.steps):
                # Copies: the slope at a step is that of the loss there, not by way of how the head began.
                fast_at, own_at = ({n: copied(p) for n, p in some.items()} for some in (fast, own))
                states = features(support, fast_at)
                states = states.detach() if first_order and not whole else states
                value = F.cross_entropy(self.head.logits(own_at, states), rows["labels"][support])
                wanted = {**fast_at, **{f"own.{n}": p for n, p in own_at.items()}}
                slopes = torch.autograd.grad(
                    value, list(wanted.values()), create_graph=not first_order, allow_unused=True
                )
                slope = dict(zip(wanted, slopes, strict=True))
                fast = {n: p if slope[n] is None else p - MODEL_RATE * slope[n] for n, p in fast.items()}
                own = {n: p - HEAD_RATE * slope[f"own.{n}"] for n, p in own.items()}
            logits = self.head.logits(own, features(query, fast))
            sums.append(F.cross_entropy(logits, rows["labels"][query], reduction="sum"))
        return torch.stack(sums).sum()


def copied(value: Tensor) -> Tensor:
    return value * 1 if value.requires_grad else value.detach().requires_grad_()


STARTS: list[Start] = ["zero", "prototypes", "random", "vocabulary"]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("derivative", ["first_order", "exact"])
def test_a_head_that_learns_has_the_gradient_of_the_loop_by_hand(
    start: Start, hidden: tuple[int, ...], derivative: Derivative
) -> None:
    made = Made(derivative, start=start, hidden=hidden)
    ours = made.gradients()
    with plain_twin():
        unrolled = made.by_hand()
        theirs = made.gradients(unrolled)
    torch.testing.assert_close(made.sums()["episodes"], unrolled, rtol=1e-12, atol=1e-12)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("start", ["prototypes", "vocabulary"])
@pytest.mark.parametrize("derivative", ["first_order", "exact"])
def test_a_model_that_learns_has_the_gradient_of_the_loop_by_hand(start: Start, derivative: Derivative) -> None:
    made = Made(derivative, start=start, whole=True, steps=2)
    ours = made.gradients()
    with plain_twin():
        unrolled = made.by_hand()
        theirs = made.gradients(unrolled)
    torch.testing.assert_close(made.sums()["episodes"], unrolled, rtol=1e-12, atol=1e-12)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("whole", [False, True])
def test_exact_gradients_are_those_of_finite_differences(whole: bool) -> None:
    made = Made("exact", whole=whole, start="prototypes" if whole else "vocabulary", hidden=(5,), steps=2)
    gradients, draw = made.gradients(), np.random.default_rng(0)
    names = ("embedding.weight", "layers.0.attention.q_proj.weight", "layers.1.mlp.up_proj.weight")
    for name in (*(f"model.{one}" for one in names), "heads.episodes.head.hidden_0_weight"):
        flat, gradient = made.trained[name].data.view(-1), gradients[name].view(-1)
        for place in draw.choice(len(flat), 5, replace=False).tolist():
            kept, values = float(flat[place]), []
            for shift in (1e-5, -1e-5):
                flat[place] = kept + shift
                values.append(float(made.sums()["episodes"].detach()))
            flat[place] = kept
            assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_the_two_orders_differ_and_agree_where_features_are_constants() -> None:
    first, exact = Made("first_order", start="zero"), Made("exact", start="zero")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(first.gradients()[name], exact.gradients()[name], rtol=1e-2)
    exact.view = first.view
    for name, gradient in first.gradients().items():
        torch.testing.assert_close(exact.gradients()[name], gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("whole", [False, True])
def test_without_a_step_all_have_the_gradient_of_many_tasks_at_once(whole: bool) -> None:
    made = [Made(derivative, steps=0, whole=whole) for derivative in ("first_order", "exact")]
    plain = made[0]
    hidden = plain.model(plain.tensors["input_ids"])
    states = hidden[torch.arange(len(hidden)), plain.tensors["positions"]]
    total = []
    for task in range(TASKS):
        rows = slice(task * SHAPE.rows + SHAPE.n_support, (task + 1) * SHAPE.rows)
        weight = plain.head.table[plain.tensors["types"][task * SHAPE.rows :][:3]]
        total.append(F.cross_entropy(states[rows] @ weight.mT, plain.tensors["labels"][rows], reduction="sum"))
    wanted = plain.gradients(torch.stack(total).sum())
    for one in made:
        for name, gradient in one.gradients().items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-13, msg=name)


def test_the_mean_slope_is_where_the_support_led() -> None:
    made = Made("mean_slope", whole=True, steps=3)
    found = made.gradients()
    # Plain gradient descent on live copies, an episode at a time.
    total = {name: torch.zeros_like(p) for name, p in made.trained.items()}
    for task in range(TASKS):
        model, head = copy.deepcopy(made.model), copy.deepcopy(made.head)
        rows = slice(task * SHAPE.rows, task * SHAPE.rows + SHAPE.n_support)
        types = made.tensors["types"][task * SHAPE.rows :][:3]
        own = head.begin(head.trained(), torch.zeros(6, 8).double(), made.tensors["labels"][rows], types, types)
        weight, bias = own["weight"].detach().requires_grad_(), own["bias"].detach().requires_grad_()
        begun = weight.detach().clone()
        for _ in range(3):
            hidden = model(made.tensors["input_ids"][rows])
            states = hidden[torch.arange(6), made.tensors["positions"][rows]]
            value = F.cross_entropy(states @ weight.mT + bias, made.tensors["labels"][rows])
            parameters = [p for n, p in model.named_parameters() if n != "unembedding.weight"]
            slopes = torch.autograd.grad(value, [*parameters, weight, bias])
            with torch.no_grad():
                for p, slope in zip(parameters, slopes, strict=False):
                    p -= MODEL_RATE * slope
                weight -= HEAD_RATE * slopes[-2]
                bias -= HEAD_RATE * slopes[-1]
        for name, p in model.named_parameters():
            total[f"model.{name}"] += (made.trained[f"model.{name}"].detach() - p.detach()) / (MODEL_RATE * 3)
        rows_of_table = total["heads.episodes.head.table"]
        rows_of_table.index_add_(0, types, (begun - weight.detach()) / (HEAD_RATE * 3))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, total[name] * SHAPE.n_query, rtol=1e-9, atol=1e-12, msg=name)


def test_prototypes_without_a_step_are_nearest_class_means() -> None:
    made = Made("exact", start="prototypes", steps=0)
    hidden = made.model(made.tensors["input_ids"])
    states = hidden[torch.arange(len(hidden)), made.tensors["positions"]].view(TASKS, SHAPE.rows, 8)
    labels = made.tensors["labels"].view(TASKS, SHAPE.rows)
    total, right = [], []
    for states_of, labels_of in zip(states, labels, strict=True):
        means = torch.stack(
            [states_of[: SHAPE.n_support][labels_of[: SHAPE.n_support] == n].mean(dim=0) for n in range(3)]
        )
        distances = torch.cdist(states_of[SHAPE.n_support :], means).square()
        total.append(F.cross_entropy(-distances, labels_of[SHAPE.n_support :], reduction="sum"))
        right.append((distances.argmin(dim=1) == labels_of[SHAPE.n_support :]).double().sum())
    found = made.sums()
    torch.testing.assert_close(found["episodes"], torch.stack(total).sum(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found["episodes.query_accuracy"].double(), torch.stack(right).sum())
    wanted = made.gradients(torch.stack(total).sum())
    for name, gradient in made.gradients().items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-8, atol=1e-12, msg=name)


def test_figures_are_what_a_separate_loop_finds() -> None:
    made = Made("first_order", start="zero", steps=2)
    found = {name: float(value.detach()) / made.view.n_units for name, value in made.sums().items()}
    assert found["episodes.query_accuracy_before"] == found["episodes.support_accuracy_0"] == pytest.approx(1 / 3)
    assert found["episodes.query_loss_before"] == pytest.approx(np.log(3))
    assert found["episodes.support_loss_0"] == pytest.approx(np.log(3))
    assert found["episodes.support_loss_0"] > found["episodes.support_loss_1"] > found["episodes.support_loss_2"]
    whole = Made("first_order", start="zero", steps=2, whole=True)
    assert whole.sums().keys() == made.sums().keys()


@pytest.mark.parametrize(
    ("derivative", "whole"),
    [("first_order", False), ("exact", False), ("first_order", True), ("exact", True), ("mean_slope", True)],
)
def test_an_episode_leaves_no_trace(derivative: Derivative, whole: bool) -> None:
    made = Made(derivative, whole=whole)
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in made.trained.items()}
    modes, state = [part.training for part in made.objective.modules()], torch.get_rng_state()
    made.sums()
    assert all(p.grad is None for p in made.trained.values())
    for name, p in made.trained.items():
        assert torch.equal(p, before[name][0]) and p.requires_grad == before[name][1]
    assert [part.training for part in made.objective.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("derivative", ["first_order", "exact"])
def test_a_part_at_a_time_is_the_whole_and_adds_up(derivative: Derivative) -> None:
    made = Made(derivative)
    whole = made.sums()
    parts = [made.objective(part) for part in made.view.cut(1)]
    assert len(parts) == TASKS
    for name, value in whole.items():
        torch.testing.assert_close(torch.stack([part[name] for part in parts]).sum(), value, rtol=1e-12, atol=1e-12)
    # No gradient of the support is left in `.grad`: accumulated parts are the whole.
    wanted = made.gradients(whole["episodes"])
    for part in made.view.cut(1):
        made.objective(part)["episodes"].backward()
    for name, gradient in wanted.items():
        torch.testing.assert_close(made.trained[name].grad, gradient, rtol=1e-10, atol=1e-14, msg=name)


def test_cached_features_are_those_of_a_model_that_runs_again() -> None:
    """With the model fixed, running it anew in each inner step gives the same bits."""
    made = Made("first_order", start="zero", steps=4)
    rows = {name: value[: SHAPE.rows] for name, value in made.tensors.items()}
    support, own = slice(0, SHAPE.n_support), {"weight": torch.zeros(3, 8).double(), "bias": torch.zeros(3).double()}
    with torch.no_grad():
        hidden = made.model(rows["input_ids"][support])
    cached = hidden[torch.arange(6), rows["positions"][support]]
    ends = []
    for again in (False, True):
        weight, bias = (own[name].clone() for name in ("weight", "bias"))
        for _ in range(4):
            if again:
                with torch.no_grad():
                    hidden = made.model(rows["input_ids"][support])
            states = hidden[torch.arange(6), rows["positions"][support]] if again else cached
            slope = (states @ weight.mT + bias).softmax(dim=-1) - F.one_hot(rows["labels"][support])
            weight, bias = weight - HEAD_RATE * slope.mT @ states / 6, bias - HEAD_RATE * slope.mean(dim=0)
        ends.append((weight, bias))
    for ours, theirs in zip(*ends, strict=True):
        assert torch.equal(ours, theirs)
    # And they are what the term adapts to: its query loss is that of this head.
    with torch.no_grad():
        asked = made.model(rows["input_ids"][SHAPE.n_support :])
    states = asked[torch.arange(3), rows["positions"][SHAPE.n_support :]]
    logits = states @ ends[0][0].mT + ends[0][1]
    (one, _) = made.view.cut(SHAPE.rows)
    value = made.objective(one)["episodes"]
    torch.testing.assert_close(value, F.cross_entropy(logits, rows["labels"][SHAPE.n_support :], reduction="sum"))


def test_classes_that_lie_apart_are_learned_and_shuffled_ones_are_not() -> None:
    shape, draw = EpisodeShape(4, 5, 10), torch.Generator().manual_seed(0)
    head = TaskHead(16, (), "zero", 20, draw)
    loss = EpisodeLoss(head, shape, Adaptation(20, 0.3, None, "first_order"))
    labels = torch.cat([torch.arange(4).repeat_interleave(5), torch.arange(4).repeat_interleave(10)]).repeat(40)
    centres = torch.randn(40, 4, 16, generator=draw)
    noise = 0.3 * torch.randn(40 * shape.rows, 16, generator=draw)
    states = centres.gather(1, labels.view(40, -1, 1).expand(-1, -1, 16)).view(-1, 16) + noise
    zeros = torch.zeros(len(labels), dtype=torch.long)
    tensors = {"labels": labels, "positions": zeros, "types": zeros, "redraws": zeros}
    units = 40 * shape.n_query

    def accuracy(labels: Tensor) -> tuple[float, float]:
        loss(build_model(CONFIG, 0), states[:, None], {**tensors, "labels": labels})
        figures = loss.figures()
        return float(figures["query_accuracy_before"]) / units, float(figures["query_accuracy"]) / units

    before, after = accuracy(labels)
    assert before == pytest.approx(0.25) and after > 0.95
    shuffled = labels.view(40, -1).clone()
    for part in (slice(0, shape.n_support), slice(shape.n_support, None)):
        order = torch.rand(40, shuffled[:, part].shape[1], generator=draw).argsort(dim=1)
        shuffled[:, part] = shuffled[:, part].gather(1, order)
    _, placebo = accuracy(shuffled.flatten())
    assert abs(placebo - 0.25) < 4 * np.sqrt(0.25 * 0.75 / units) * 2
    # Renaming the classes renames the answers.
    renamed = torch.tensor([2, 0, 3, 1])[labels]
    assert accuracy(renamed)[1] == pytest.approx(after)


def test_the_inner_loop_is_precise_where_the_model_is_not() -> None:
    made = Made("exact", start="zero")
    hidden = made.model(made.tensors["input_ids"]).float().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = made.loss(made.model, hidden, made.tensors)
    plain = made.loss(made.model, hidden.float(), made.tensors)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, plain, rtol=0, atol=0)


@pytest.mark.parametrize("derivative", ["first_order", "exact"])
def test_the_model_sees_windows_the_same_way_whoever_runs_it(derivative: Derivative) -> None:
    """Without a step, a model that runs anew within the loss gives what the one forward before it gives."""
    cached, anew = (Made(derivative, steps=0, whole=whole) for whole in (False, True))
    plain = float(cached.sums()["episodes"].detach())
    values = []
    for made in (cached, anew):
        made.tensors["prefix"] = torch.full((TASKS * SHAPE.rows,), LENGTH)
        made.view = replace(made.view, inputs=("input_ids", "prefix"))
        made.loss.inputs = made.view.inputs
        values.append(float(made.sums()["episodes"].detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-12) and abs(values[0] - plain) > 1e-6


@pytest.mark.parametrize("whole", [False, True])
def test_whether_fixed_rows_run_apart_changes_nothing(whole: bool) -> None:
    made = Made("first_order", whole=whole)
    assert made.view.fixed is not None
    apart, value = made.gradients(), made.sums()["episodes"]
    made.view = replace(made.view, fixed=None)
    torch.testing.assert_close(made.sums()["episodes"], value, rtol=1e-12, atol=1e-12)
    for name, gradient in made.gradients().items():
        torch.testing.assert_close(apart[name], gradient, rtol=1e-10, atol=1e-14, msg=name)
