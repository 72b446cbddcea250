"""The loss of episodes after learning from their support, by any of the ways to differentiate that.

Shapes: E episodes, N classes, K and Q windows of each, S = N (K + Q) rows of an episode, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from picolm.model.interface import LanguageModel
from picolm.model.task_head import TaskHead
from picolm.objective.adaptation import Parameters, adapt, mean_slopes, with_slopes
from picolm.objective.episodes import EpisodeShape
from picolm.objective.twin import plain_twin

Figures = dict[str, Tensor]
_MODEL, _HEAD = "model.", "head."
Derivative = Literal["first_order", "exact", "mean_slope"]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How a task is learned, and what gradient comes of it.

    Attributes:
        steps: T; with 0, the head answers as it begins.
        head_rate: learning rate of the head.
        model_rate: that of the model; None: the features are what they are, and only the head is adapted.
        derivative: `exact` goes through the steps and through the support's features; `first_order` takes both for
            constants; `mean_slope` needs no query: it is the mean of the steps' own gradients.
    """

    steps: int
    head_rate: float
    model_rate: float | None
    derivative: Derivative

    @property
    def exact(self) -> bool:
        """Whether the steps are differentiated."""
        return self.derivative == "exact"


class EpisodeLoss(nn.Module):
    """The term: cross-entropy of the query after adaptation to the support of its episode, summed over query rows.

    Where only the head is adapted, the model runs once, on support and query together, and its states at the read-out
    are all that the inner loop sees: neither is it run again, nor is attention ever differentiated twice. Else the
    model runs in every inner step on functional parameters, an episode at a time.

    The inner loop runs in float32 at least. It changes nothing that is alive: no parameter, no `.grad`, no mode.
    """

    def __init__(
        self, head: TaskHead, shape: EpisodeShape, adaptation: Adaptation, inputs: tuple[str, ...] = ("input_ids",)
    ) -> None:
        """Prepare.

        Args:
            head: what answers.
            shape: of the episodes.
            adaptation: how one is learned.
            inputs: as `View.inputs`, for where the model runs anew.
        """
        super().__init__()
        self.head, self.shape, self.adaptation, self.inputs = head, shape, adaptation, inputs
        self._figures: Figures = {}

    def figures(self) -> Figures:
        """What the last forward found, once."""
        figures, self._figures = self._figures, {}
        return figures

    def forward(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the sum over the query rows of all episodes.

        Args:
            model: read where it is adapted.
            hidden: [E S, L, D].
            tensors: `labels`, `positions`, `types`, `redraws` [E S] and, where the head wants it, `noise` [E S, H];
                `types` and `noise` hold what belongs to class n in row n of an episode.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            batch = self._batch(hidden, tensors)
            if self.adaptation.model_rate is None:
                losses, figures = self._head_only(batch)
                loss = losses.sum()
            else:
                loss, figures = self._whole_model(model, batch, tensors)
        # The count is told per episode, the others per row: all are divided by the number of query rows.
        redraws = tensors["redraws"].sum().to(loss.dtype) * self.shape.n_query
        self._figures = {name: value.detach().sum() for name, value in figures.items()} | {"redraws": redraws}
        return loss

    def _batch(self, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Figures:
        """What an episode's learning needs, with a leading axis of episodes."""
        shape, rows = self.shape, self.shape.rows
        positions = tensors["positions"]
        features = hidden.gather(1, positions[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]
        features = features.to(torch.promote_types(features.dtype, torch.float32)).view(-1, rows, hidden.shape[-1])
        support, query = features[:, : shape.n_support], features[:, shape.n_support :]
        labels = tensors["labels"].view(-1, rows)
        noise = tensors.get("noise")
        return {
            "support": support if self.adaptation.exact else support.detach(),
            "query": query,
            "positions": positions.view(-1, rows),
            "support_labels": labels[:, : shape.n_support],
            "query_labels": labels[:, shape.n_support :],
            "types": tensors["types"].view(-1, rows)[:, : shape.ways],
            "noise": features.new_zeros(len(features), shape.ways, 0)
            if noise is None
            else noise.view(len(features), rows, -1)[:, : shape.ways],
        }

    def _head_only(self, batch: Figures) -> tuple[Tensor, Figures]:
        trained = self.head.trained()
        run = vmap(partial(self._episode, trained), randomness="error")
        losses, figures = run(batch)
        return losses, figures

    def _episode(self, trained: Mapping[str, Tensor], task: Figures) -> tuple[Tensor, Figures]:
        """One episode from its features: the query's loss, and figures that are sums over its query rows."""
        head, adaptation = self.head, self.adaptation

        def loss(parameters: Mapping[str, Tensor], part: str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return _scored(head.logits(parameters, task[part]), task[f"{part}_labels"])

        start = head.begin(trained, task["support"], task["support_labels"], task["types"], task["noise"])
        rates = dict.fromkeys(start, adaptation.head_rate)
        learn = partial(loss, part="support")
        end, seen = adapt(learn, start, rates=rates, steps=adaptation.steps, exact=adaptation.exact)
        before, after = loss(start, part="query"), loss(end, part="query")
        figures = self._told([*(told for _, told in seen), learn(end)[1]], before[1], after[1])
        return after[0] * self.shape.n_query, figures

    def _whole_model(
        self, model: LanguageModel, batch: Figures, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Figures]:
        """Episode by episode; the gradient is computed here, whoever asks for it, and handed on."""
        live = {f"{_MODEL}{name}": value for name, value in _adapted(model).items()}
        live |= {f"{_HEAD}{name}": value for name, value in self.head.trained().items()}
        inputs = {name: tensors[name].view(-1, self.shape.rows, *tensors[name].shape[1:]) for name in self.inputs}
        values, slopes, figures = [], [], []
        # Fused attention has no second derivative, and what is compiled knows its own parameters only.
        twin = plain_twin() if self.adaptation.exact else torch.compiler.set_stance("force_eager")
        with twin:
            for number in range(len(batch["query"])):
                task = {name: value[number] for name, value in batch.items()}
                windows = {name: value[number] for name, value in inputs.items()}
                outer = partial(self._outer, model=model, task=task, windows=windows)
                found, (_, (value, told)) = grad_and_value(outer, has_aux=True)(live)
                values.append(value)
                slopes.append(found)
                figures.append(told)
        total = {name: torch.stack([one[name] for one in slopes]).sum(dim=0) for name in live}
        told = {name: torch.stack([one[name] for one in figures]) for name in figures[0]}
        return with_slopes(torch.stack(values).sum(), live, total), told

    def _outer(
        self, live: Mapping[str, Tensor], *, model: LanguageModel, task: Figures, windows: Figures
    ) -> tuple[Tensor, tuple[Tensor, Figures]]:
        """What is differentiated of one episode; the query's loss, and figures, both summed over its query rows."""
        head, adaptation, shape = self.head, self.adaptation, self.shape
        parts = {"support": slice(0, shape.n_support), "query": slice(shape.n_support, None)}

        def features(parameters: Mapping[str, Tensor], part: str) -> Tensor:
            own = _under(_MODEL, parameters)
            given = {name: value[parts[part]] for name, value in windows.items()}
            hidden: Tensor = functional_call(model, own, kwargs=given)
            places = task["positions"][parts[part]]
            return hidden[torch.arange(len(places), device=places.device), places]

        def loss(parameters: Mapping[str, Tensor], part: str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            logits = head.logits(_under(_HEAD, parameters), features(parameters, part))
            return _scored(logits, task[f"{part}_labels"])

        through = adaptation.exact and head.start == "prototypes"
        support = features(live, "support") if through else task["support"]
        trained = _under(_HEAD, live)
        begun = head.begin(trained, support, task["support_labels"], task["types"], task["noise"])
        start = {name: value for name, value in live.items() if name.startswith(_MODEL)}
        start |= {f"{_HEAD}{name}": value for name, value in begun.items()}
        rates = {name: self._rate(name) for name in start}
        learn = partial(loss, part="support")
        end, seen = adapt(learn, start, rates=rates, steps=adaptation.steps, exact=adaptation.exact)
        before = _scored(head.logits(begun, task["query"]), task["query_labels"])[1]
        if adaptation.derivative == "mean_slope":
            slopes = mean_slopes(start, end, rates=rates, steps=adaptation.steps)
            end = {name: value.detach() for name, value in end.items()}
            value, after = loss(end, "query")
            target = torch.stack([(start[name] * slope).sum() for name, slope in slopes.items()]).sum()
        else:
            target, after = loss(end, "query")
            value = target.detach()
        with torch.no_grad():
            last = learn({name: value.detach() for name, value in end.items()})[1]
        figures = self._told([*(told for _, told in seen), last], before, after)
        return target * shape.n_query, (value.detach() * shape.n_query, figures)

    def _rate(self, name: str) -> float:
        rate = self.adaptation.model_rate if name.startswith(_MODEL) else self.adaptation.head_rate
        assert rate is not None
        return rate

    def _told(
        self,
        support: list[tuple[Tensor, Tensor]],
        before: tuple[Tensor, Tensor],
        after: tuple[Tensor, Tensor],
    ) -> Figures:
        """Means of an episode by name, times its query rows; what is asked of the support is so before each step."""
        means = {
            "query_loss_before": before[0],
            "query_accuracy_before": before[1],
            "query_accuracy": after[1],
        }
        for number, (loss, accuracy) in enumerate(support):
            means |= {f"support_loss_{number}": loss, f"support_accuracy_{number}": accuracy}
        return {name: mean.detach() * self.shape.n_query for name, mean in means.items()}


def _scored(logits: Tensor, labels: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Mean cross-entropy of rows [R, N]; the same and the share of rows that are answered rightly, to look at.

    Where several classes have the highest logit, each of them counts as its share of a right answer: a head that knows
    nothing is at chance, whichever class stands first.
    """
    loss = F.cross_entropy(logits, labels)
    best = logits == logits.amax(dim=-1, keepdim=True)
    right = best.gather(-1, labels[:, None]).squeeze(-1) / best.sum(dim=-1)
    return loss, (loss.detach(), right.mean().detach())


def _under(prefix: str, parameters: Mapping[str, Tensor]) -> Parameters:
    """The parameters whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def _adapted(model: LanguageModel) -> Parameters:
    """What hidden states depend on and is trained: all but an output matrix that is no embedding too."""
    return {
        name: value
        for name, value in model.named_parameters()
        if value.requires_grad and (value is not model.output_matrix or model.role(name) == "embedding")
    }
