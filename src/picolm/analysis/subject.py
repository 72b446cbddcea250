"""Subjects: models to look at, whatever class they have, and what a probe shows of them.

Shapes: R rows, T positions, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolm.analysis.geometry import Geometry
from picolm.analysis.naming import Slot
from picolm.analysis.probe import NO_TARGET, Probe
from picolm.errors import PicoLMError, nearest

Keep = Callable[[str, Tensor], None]
"""(canonical name, activation): told of each site that a forward passes."""


class Subject(ABC):
    """A model in float32 (or more), on the host, that shows its inside under canonical names."""

    geometry: Geometry
    module: nn.Module

    @property
    @abstractmethod
    def sites(self) -> Collection[str]:
        """Names of the activations that can be seen."""

    @property
    @abstractmethod
    def slots(self) -> Mapping[str, Slot]:
        """By canonical name, which parameter of `module` holds a matrix or vector, and which part of it is that."""

    @abstractmethod
    def recorded(self, names: Sequence[str], keep: Keep) -> AbstractContextManager[None]:
        """Hand each named activation to `keep` while the model runs: [R, T, ...], head by head [R, heads, T, ...]."""

    @abstractmethod
    def hidden(self, rows: Probe) -> Tensor:
        """Run the model: hidden states [R, T, d_model] from which `logits` are made."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """What it predicts [R, T, V]."""

    def last_norm(self, stream: Tensor) -> Tensor:
        """Norm a residual stream as the model does before it predicts; as it is where blocks end in norms (BERT)."""
        slot = self.slots.get("output_norm")
        if slot is None:
            return stream
        normed: Tensor = self.module.get_submodule(slot.stored.rpartition(".")[0])(stream)
        return normed


@dataclass(slots=True)
class Seen:
    """What a probe shows of a model."""

    activations: dict[str, Tensor] = field(default_factory=dict)
    """By site: [R, T, ...], or [R, heads, T, ...] inside attention; what stands at padding means nothing."""
    gradients: dict[str, Tensor] = field(default_factory=dict)
    """By matrix: of the mean loss over all targets of the probe."""
    token_losses: Tensor | None = None
    """[R, T] in nats, NaN where nothing is predicted."""


def look(
    subject: Subject,
    probe: Probe,
    *,
    activations: Sequence[str] = (),
    gradients: Sequence[str] = (),
    token_losses: bool = False,
    batch_size: int = 8,
) -> Seen:
    """Show a model a probe; the model, its gradients, hooks, modes and all generators stay as they were.

    A gradient is that of the mean over all targets, whatever the batch size: each batch adds its sum, divided by the
    number of targets in all of them.

    Args:
        subject: the model.
        probe: what it is shown; with targets where losses or gradients are wanted.
        activations: canonical names of sites.
        gradients: canonical names of matrices or vectors.
        token_losses: whether each position's loss is wanted.
        batch_size: rows per forward.

    Raises:
        PicoLMError: a name that the model has not, ids beyond its vocabulary, or a probe without targets.
    """
    _check(subject, probe, activations, gradients, token_losses)
    parts: dict[str, list[Tensor]] = {name: [] for name in activations}
    losses: list[Tensor] = []
    parameters = _parameters(subject, gradients)
    totals = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    n_targets = 0 if probe.targets is None else int((probe.targets != NO_TARGET).sum())
    with _untouched(subject.module), torch.set_grad_enabled(bool(gradients)):
        for start in range(0, len(probe.input_ids), batch_size):
            rows = probe.rows(slice(start, start + batch_size))
            with subject.recorded(activations, lambda name, seen: parts[name].append(seen.detach())):
                hidden = subject.hidden(rows)
            if rows.targets is None or not (gradients or token_losses):
                continue
            loss = _losses(subject.logits(hidden), rows.targets)
            losses.append(loss.detach())
            if gradients:
                # Not nansum: a model that has diverged has no gradient, and must not seem to have one.
                total = loss[rows.targets != NO_TARGET].sum()
                _add_gradients(totals, parameters, total / max(n_targets, 1))
    slots = subject.slots
    return Seen(
        activations={name: torch.cat(found) for name, found in parts.items()},
        gradients={name: slots[name].cut(totals[slots[name].stored]) for name in gradients},
        token_losses=torch.cat(losses) if token_losses else None,
    )


def _check(
    subject: Subject, probe: Probe, activations: Sequence[str], gradients: Sequence[str], token_losses: bool
) -> None:
    for name in activations:
        if name not in subject.sites:
            raise PicoLMError(f"the model shows no activation '{name}'{nearest(name, subject.sites)}")
    for name in gradients:
        if name not in subject.slots:
            raise PicoLMError(f"the model has no matrix '{name}'{nearest(name, subject.slots)}")
    if (gradients or token_losses) and probe.targets is None:
        raise PicoLMError("losses and gradients need a probe with targets: Probe.causal makes one for causal models")
    if not probe.input_ids.numel():
        raise PicoLMError("the probe has no tokens")
    lowest, highest = (int(bound) for bound in probe.input_ids.aminmax())
    if lowest < 0 or highest >= subject.geometry.vocab_size:
        raise PicoLMError(
            f"the probe holds the token {highest if lowest >= 0 else lowest}, the model knows those from 0 to "
            f"{subject.geometry.vocab_size - 1}: it was made with another tokenizer"
        )


def _parameters(subject: Subject, gradients: Sequence[str]) -> dict[str, Tensor]:
    # Several parts of one fused matrix are differentiated once.
    return {subject.slots[name].stored: subject.module.get_parameter(subject.slots[name].stored) for name in gradients}


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy at each position [R, T], NaN where nothing is predicted."""
    precise = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(precise, targets.flatten(), ignore_index=NO_TARGET, reduction="none")
    return losses.view(targets.shape).masked_fill(targets == NO_TARGET, torch.nan)


def _add_gradients(totals: dict[str, Tensor], parameters: Mapping[str, Tensor], share: Tensor) -> None:
    found = torch.autograd.grad(share, tuple(parameters.values()), allow_unused=True)
    for total, gradient in zip(totals.values(), found, strict=True):
        if gradient is not None:
            total += gradient


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and generators and modes as they were afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, mode in modes:
            part.training = mode
