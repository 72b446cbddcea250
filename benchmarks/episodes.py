"""A step of episodes: states computed once, against an inner loop that runs the model in every step.

The unit is one forward of the support without gradient, measured in the same round. The peer is how Pico-MAML's trainer
does it: ten inner steps on the head, each of which runs the model on the support again, then the query's loss.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel
from picolm.model.task_head import TaskHead
from picolm.objective.episode_loss import Adaptation, Derivative, EpisodeLoss
from picolm.objective.episodes import EpisodeShape
from picolm.seams import Objective, Term, View

# width, layers, inner width, windows of a class in support and in query, tokens of a window
SHAPES = [(128, 4, 384, 4, 64), (192, 4, 512, 4, 32)]
TASKS, WAYS, STEPS, RATE, VOCAB, ROUNDS = 8, 4, 10, 0.03, 1024, 5


def run() -> list[dict[str, Any]]:
    """Time every shape; print and return a row for each."""
    print(f"\n{'a step of episodes, in forwards':<34} {'naive':>8} {'first o.':>9} {'exact':>8} {'ratio':>7}")
    return [_row(*shape) for shape in SHAPES]


def _row(width: int, layers: int, inner: int, each: int, length: int) -> dict[str, Any]:
    config = schema.Model(
        vocab_size=VOCAB, d_model=width, n_layers=layers, n_heads=4, n_kv_heads=2, d_ffn=inner, max_length=length
    )
    model, shape = build_model(config, 0), EpisodeShape(WAYS, each, each)
    tensors, is_query = _episodes(shape, length)
    support = tensors["input_ids"][~torch.from_numpy(is_query)]

    def forward() -> None:
        with torch.no_grad():
            model(support)

    works: dict[str, Callable[[], None]] = {
        "forward": forward,
        "naive": lambda: _naive(model, shape, tensors, is_query),
        "first_order": _step(model, shape, tensors, is_query, "first_order"),
        "exact": _step(model, shape, tensors, is_query, "exact"),
    }
    rounds = [{name: _timed(model, work) for name, work in works.items()} for _ in range(ROUNDS + 1)][1:]
    units = {
        name: statistics.median(one[name] / one["forward"] for one in rounds)
        for name in ("naive", "first_order", "exact")
    }
    ratio = statistics.median(one["naive"] / one["first_order"] for one in rounds)
    name = f"D {width}, {layers} layers, {len(support)} x {length}"
    print(
        f"{name:<34} {units['naive']:>8.1f} {units['first_order']:>9.1f} {units['exact']:>8.1f} {ratio:>6.2f}x",
        flush=True,
    )
    return {"shape": name, **{f"{kind}_forwards": round(value, 2) for kind, value in units.items()},
            "ratio": round(ratio, 3)}  # fmt: skip


def _timed(model: LanguageModel, work: Callable[[], None]) -> float:
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _episodes(shape: EpisodeShape, length: int) -> tuple[dict[str, Tensor], Any]:
    draw, rows = torch.Generator().manual_seed(0), TASKS * shape.rows
    numbers = torch.arange(WAYS)
    labels = torch.cat([numbers.repeat_interleave(shape.support), numbers.repeat_interleave(shape.query)])
    zeros = torch.zeros(rows, dtype=torch.long)
    tensors = {
        "input_ids": torch.randint(0, VOCAB, (rows, length), generator=draw),
        "labels": labels.repeat(TASKS),
        "positions": zeros + length - 1,
        "types": zeros,
        "redraws": zeros,
    }
    return tensors, np.tile(np.arange(shape.rows) >= shape.n_support, TASKS)


def _step(
    model: LanguageModel, shape: EpisodeShape, tensors: dict[str, Tensor], is_query: Any, derivative: Derivative
) -> Callable[[], None]:
    head = TaskHead(model.config.d_model, (), "zero", VOCAB, torch.Generator())
    loss = EpisodeLoss(head, shape, Adaptation(STEPS, RATE, None, derivative))
    objective = Objective(model, {"episodes": Term("episodes", loss, figures=loss.figures)})
    fixed = None if derivative == "exact" else ~is_query
    view = View("episodes", tensors, is_query.astype(np.int64), fixed=fixed)

    def work() -> None:
        objective.total(objective(view), view.n_units).backward()  # type: ignore[no-untyped-call]

    return work


def _naive(model: LanguageModel, shape: EpisodeShape, tensors: dict[str, Tensor], is_query: Any) -> None:
    queries = torch.from_numpy(is_query)
    ids, labels = tensors["input_ids"], tensors["labels"]
    parts = {"support": ids[~queries], "query": ids[queries]}
    weight = torch.zeros(TASKS, WAYS, model.config.d_model, requires_grad=True)
    # Labels of a part are the same in each episode here.
    support_labels = labels[: shape.n_support].repeat(TASKS)
    query_labels = labels[shape.n_support : shape.rows].repeat(TASKS)
    for _ in range(STEPS):
        with torch.no_grad():
            states = model(parts["support"])[:, -1].view(TASKS, -1, model.config.d_model)
        value = F.cross_entropy((states @ weight.mT).flatten(0, 1), support_labels, reduction="sum") / shape.n_support
        (slope,) = torch.autograd.grad(value, weight)
        weight = (weight - RATE * slope).detach().requires_grad_()
    states = model(parts["query"])[:, -1].view(TASKS, -1, model.config.d_model)
    value = F.cross_entropy((states @ weight.detach().mT).flatten(0, 1), query_labels)
    value.backward()  # type: ignore[no-untyped-call]
