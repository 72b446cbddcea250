"""What a batch shows of a model: activations, mean gradients, token losses; on the eager twin.

Shapes: R rows, T positions, P chosen positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from picolm.model.sites import Site, recorded
from picolm.seams import IntArray, Objective, View
from picolm.training.eager import eager_twin

Positions = Literal["all"] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to look at, as one forward sees them."""

    view: View
    lengths: IntArray | None = None
    """[R]: how many input positions of each row are text, not padding; None: all."""


def by_view(
    name: str, views: Sequence[View], lengths: IntArray | None = None, *, alone: bool | None = None
) -> dict[str, Batch]:
    """Name the views of some rows: `name` where rows have one view, as a rule, else `name.view`.

    Args:
        name: of the rows.
        views: of the rows.
        lengths: as in `Batch`.
        alone: whether rows never have more views than one; None: as these have.
    """
    if len(views) == 1 and alone is not False:
        return {name: Batch(views[0], lengths)}
    return {f"{name}.{view.name}": Batch(view, lengths) for view in views}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be seen."""

    sites: Mapping[str, Site]
    """Whose activations, by name."""
    parameters: Mapping[str, Tensor]
    """Whose gradients, by name."""
    token_losses: bool
    positions: Positions = "all"
    """Of activations."""


@dataclass(slots=True)
class Findings:
    """What was seen, on the host and in the model's own precision."""

    activations: dict[str, Tensor] = field(default_factory=dict)
    """By site: [R, T or P, ...], or [R, heads, T or P, ...] inside attention. NaN at positions that a row has not."""
    gradients: dict[str, Tensor] = field(default_factory=dict)
    """By parameter: of the mean loss over the batch's units."""
    token_losses: dict[str, Tensor] = field(default_factory=dict)
    """By term: [R, T], NaN where nothing is scored."""


def inspect(objective: Objective, batch: Batch, wanted: Wanted, *, batch_size: int, device: torch.device) -> Findings:
    """Look at a batch.

    Gradients are those of `Objective.total` over the whole batch: each micro-batch gives a sum that is divided by the
    number of units in all of them. So `batch_size` changes nothing beyond rounding.

    Args:
        objective: the model and the loss.
        batch: the rows.
        wanted: what to see.
        batch_size: rows per forward.
        device: where the objective lives.
    """
    if not (wanted.sites or wanted.parameters or wanted.token_losses):
        return Findings()
    look = _Look(objective, wanted, device)
    gradients = {name: torch.zeros_like(parameter) for name, parameter in wanted.parameters.items()}
    units, start = batch.view.n_units, 0
    with eager_twin(objective, device), torch.set_grad_enabled(bool(gradients)):
        for part in batch.view.cut(batch_size):
            lengths = None if batch.lengths is None else batch.lengths[start : start + part.n_rows]
            start += part.n_rows
            for total, share in zip(gradients.values(), look(part, lengths, units), strict=True):
                # A parameter that no term of this view reaches has no share.
                if share is not None:
                    total += share
    return Findings(
        activations={name: torch.cat(parts) for name, parts in look.activations.items()},
        gradients={name: total.cpu() for name, total in gradients.items()},
        token_losses={name: torch.cat(parts) for name, parts in look.token_losses.items()},
    )


def chosen_positions(lengths: Iterable[int], positions: tuple[int, ...]) -> Tensor:
    """Resolve positions in rows of text of some lengths [R]; negative ones count from the end.

    Returns:
        int64 [R, P]; -1 where a row is too short to have the position.
    """
    rows = [[at if at >= 0 else length + at for at in positions] for length in lengths]
    fits = [[0 <= at < length for at in row] for length, row in zip(lengths, rows, strict=True)]
    index = torch.tensor(rows, dtype=torch.long).view(-1, len(positions))
    return index.where(torch.tensor(fits, dtype=torch.bool).view(index.shape), -1)


def select(tensor: Tensor, index: Tensor, dimension: int) -> Tensor:
    """Take some positions of a tensor, other ones in each row.

    Args:
        tensor: [R, ..., T, ...].
        index: `chosen_positions` [R, P].
        dimension: where T stands.

    Returns:
        [R, ..., P, ...]; NaN where the index is -1.
    """
    shape = [len(index), *(1 for _ in range(1, tensor.dim()))]
    shape[dimension] = index.shape[1]
    aligned = index.view(shape)
    target = list(tensor.shape)
    target[dimension] = index.shape[1]
    return tensor.gather(dimension, aligned.clamp(min=0).expand(target)).masked_fill(aligned < 0, torch.nan)


class _Look:
    """Takes in one micro-batch of a view after the other."""

    def __init__(self, objective: Objective, wanted: Wanted, device: torch.device) -> None:
        self.objective, self.wanted, self.device = objective, wanted, device
        self.activations: dict[str, list[Tensor]] = {name: [] for name in wanted.sites}
        self.token_losses: dict[str, list[Tensor]] = {}

    def __call__(self, part: View, lengths: IntArray | None, units: int) -> tuple[Tensor | None, ...]:
        """Run a micro-batch; return its share of the mean gradients, one for each wanted parameter."""
        seen: dict[str, tuple[Tensor, int]] = {}

        def keep(name: str, tensor: Tensor, positions: int) -> None:
            assert name not in seen, f"the model passes '{name}' more than once in a forward"
            seen[name] = (tensor, positions)

        # In one forward: a site is to be passed once.
        view = replace(part, fixed=None).to(self.device)
        # Not the terms: one may run the model again.
        with recorded(self.objective.model, self.wanted.sites, keep):
            hidden = self.objective.hidden(view)
        assert seen.keys() == self.wanted.sites.keys(), "the model passes by a site that it has"
        self._keep_activations(seen, lengths)
        if self.wanted.token_losses:
            self._keep_losses(view, hidden.detach())
        parameters = tuple(self.wanted.parameters.values())
        if not parameters:
            return ()
        sums = self.objective.sums(view, hidden)
        return torch.autograd.grad(self.objective.total(sums, units), parameters, allow_unused=True)

    def _keep_activations(self, seen: Mapping[str, tuple[Tensor, int]], lengths: IntArray | None) -> None:
        for name, (tensor, dimension) in seen.items():
            values = tensor.detach()
            if self.wanted.positions != "all":
                rows = [values.shape[dimension]] * len(values) if lengths is None else lengths.tolist()
                index = chosen_positions(rows, self.wanted.positions).to(values.device)
                values = select(values, index, dimension)
            self.activations[name].append(values.cpu())

    def _keep_losses(self, view: View, hidden: Tensor) -> None:
        for name, term in self.objective.terms.items():
            if term.view == view.name and term.token_losses is not None:
                losses = term.token_losses(self.objective.model, hidden, view.tensors)
                self.token_losses.setdefault(name, []).append(losses.detach().cpu())
