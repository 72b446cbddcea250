"""Heads: labels for the units of a text (its words, or the whole of it) from their features.

Shapes in comments and names: B texts, U units of the longest, D width of the features, K labels. Units stand at the
beginning of a row and padding behind them; what stands there changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.02
IGNORE = -100
FORBIDDEN = -1e30
"""Score of what is forbidden. exp(FORBIDDEN) is exactly 0; with -inf, a label without any legal predecessor would have
NaN as its gradient."""


class Head(nn.Module, ABC):
    """What is read off features, in the precision of its own parameters, float32 at least; autocast stays outside.

    Args:
        d_model: D.
        n_labels: K.
        generator: on the CPU; initial values are drawn from it, in float32.
    """

    def __init__(self, d_model: int, n_labels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_labels = n_labels
        self.weight = nn.Parameter(torch.empty(n_labels, d_model).normal_(std=INIT_STD, generator=generator))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def scores(self, features: Tensor) -> Tensor:
        """One linear layer: [B, U, D] -> [B, U, K]."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.to(self.weight.dtype), self.weight, self.bias)

    @abstractmethod
    def loss(self, features: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Minus the log-likelihood of labels in nats, summed over all units.

        Args:
            features: [B, U, D].
            labels: int64 [B, U]; any label at padding.
            mask: True at units, False at padding [B, U].
        """

    @abstractmethod
    def decode(self, features: Tensor, mask: Tensor) -> Tensor:
        """The likeliest labels, int64 [B, U]; 0 at padding."""

    @abstractmethod
    def log_p(self, features: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of each label at each unit [B, U, K], in nats; no meaning at padding."""


class SoftmaxHead(Head):
    """A linear layer and a softmax: each unit's label by itself."""

    def loss(self, features: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy, summed over units (see `Head.loss`)."""
        targets = labels.masked_fill(~mask, IGNORE).flatten()
        return F.cross_entropy(self.scores(features).flatten(0, 1), targets, ignore_index=IGNORE, reduction="sum")

    def decode(self, features: Tensor, mask: Tensor) -> Tensor:
        """The label with the highest score; of equal ones the first."""
        return self.scores(features).argmax(-1) * mask

    def log_p(self, features: Tensor, mask: Tensor) -> Tensor:
        """The log-softmax."""
        return self.scores(features).log_softmax(-1)


class CRFHead(Head):
    """A linear-chain conditional random field (Lafferty, McCallum & Pereira 2001).

    p(y | x) = exp(start[y_1] + sum_t emission_t[y_t] + sum_t transitions[y_t-1, y_t] + end[y_U]) / Z, where Z sums over
    all legal sequences and only over those. Emissions are a linear layer of the features.

    Args:
        d_model: D.
        n_labels: K.
        allowed_start: labels that may come first, bool [K].
        allowed: [i, j] is whether j may follow i, bool [K, K].
        generator: as in `Head`.
    """

    allowed_start: Tensor
    allowed: Tensor

    def __init__(
        self, d_model: int, n_labels: int, allowed_start: Tensor, allowed: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__(d_model, n_labels, generator)
        assert allowed_start.shape == (n_labels,) and allowed.shape == (n_labels, n_labels)
        self.start = nn.Parameter(torch.empty(n_labels).normal_(std=INIT_STD, generator=generator))
        self.end = nn.Parameter(torch.empty(n_labels).normal_(std=INIT_STD, generator=generator))
        self.transitions = nn.Parameter(torch.empty(n_labels, n_labels).normal_(std=INIT_STD, generator=generator))
        self.register_buffer("allowed_start", allowed_start.clone())
        self.register_buffer("allowed", allowed.clone())

    def loss(self, features: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Log Z minus the score of the labels, summed over texts, each of which has a unit at least (see `Head.loss`).

        The gradient of log Z is how often each thing that is scored is expected, and the forward-backward algorithm
        gives that. It is handed over as it is, which is exact and half the work of going back through the algorithm;
        only it cannot be differentiated again.

        An illegal sequence of labels has no likelihood: who trains must repair it first, which is asserted.
        """
        assert self.is_legal(labels, mask).all(), "a sequence of labels that the head's transitions forbid"
        emissions, ends = self._emissions(features, mask), _ends(mask)
        with torch.no_grad():
            log_z, single, pairs = self._expected(emissions, mask)
        expected = (single * emissions).sum() + (pairs * self.transitions).sum()
        expected = expected + (single[:, 0] * self.start).sum() + (single[ends] * self.end).sum()
        gold = emissions.gather(2, labels[..., None]).sum()
        gold = gold + (self.transitions[labels[:, :-1], labels[:, 1:]] * mask[:, 1:]).sum()
        gold = gold + self.start[labels[:, 0]].sum() + self.end[labels[ends]].sum()
        return log_z + (expected - expected.detach()) - gold

    def is_legal(self, labels: Tensor, mask: Tensor) -> Tensor:
        """Whether the head's transitions allow each sequence of labels, bool [B]."""
        begins = self.allowed_start[labels[:, 0]] | ~mask[:, 0]
        follows = self.allowed[labels[:, :-1], labels[:, 1:]] | ~mask[:, 1:]
        return begins & follows.all(1)

    @torch.no_grad()
    def decode(self, features: Tensor, mask: Tensor) -> Tensor:
        """The legal sequence with the highest score, by Viterbi's algorithm."""
        emissions, transitions = self._emissions(features, mask), self._transitions()
        further = mask[..., None].unbind(1)[1:]
        best, backs = self._start() + emissions[:, 0], []
        for emission, real in zip(emissions.unbind(1)[1:], further, strict=True):
            value, back = (best[..., None] + transitions).max(1)
            best = torch.where(real, value + emission, best)
            backs.append(back)
        labels = [(best + self.end).argmax(1, keepdim=True)]
        for back, real in zip(reversed(backs), reversed(further), strict=True):
            labels.append(torch.where(real, back.gather(1, labels[-1]), labels[-1]))
        return torch.cat(labels[::-1], dim=1) * mask

    @torch.no_grad()
    def log_p(self, features: Tensor, mask: Tensor) -> Tensor:
        """Log of the posterior marginals p(y_t | x), by the forward-backward algorithm; -inf where no path is legal."""
        joint = torch.add(*self._paths(self._emissions(features, mask), mask))
        return joint.log_softmax(-1).masked_fill(joint < FORBIDDEN / 2, -torch.inf)

    def _emissions(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.scores(features).masked_fill(~mask[..., None], 0.0)

    def _start(self) -> Tensor:
        return self.start.masked_fill(~self.allowed_start, FORBIDDEN)

    def _transitions(self) -> Tensor:
        return self.transitions.masked_fill(~self.allowed, FORBIDDEN)

    def _paths(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-sums over all legal beginnings that end in a label, and over all ends that follow it, each [B, U, K].

        The emission of the label is counted to its beginning. At padding the beginnings of the last unit are repeated.
        """
        transitions = self._transitions()
        emitted, further = emissions.unbind(1), mask[..., None].unbind(1)[1:]
        beginnings = [self._start() + emitted[0]]
        for emission, real in zip(emitted[1:], further, strict=True):
            value = (beginnings[-1][..., None] + transitions).logsumexp(1) + emission
            beginnings.append(torch.where(real, value, beginnings[-1]))
        ends = [self.end.expand(len(emissions), -1)]
        for emission, real in zip(reversed(emitted[1:]), reversed(further), strict=True):
            value = (transitions + (emission + ends[-1])[:, None]).logsumexp(2)
            ends.append(torch.where(real, value, ends[-1]))
        return torch.stack(beginnings, 1), torch.stack(ends[::-1], 1)

    def _expected(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of log Z; probabilities of each label at each unit [B, U, K]; how often each pair is expected [K, K]."""
        beginnings, ends = self._paths(emissions, mask)
        log_z = (beginnings[:, -1] + self.end).logsumexp(1)
        single = (beginnings + ends - log_z[:, None, None]).exp() * mask[..., None]
        rest = (emissions + ends)[:, 1:, None] - log_z[:, None, None, None]
        pairs = (beginnings[:, :-1, :, None] + self._transitions() + rest).exp() * mask[:, 1:, None, None]
        return log_z.sum(), single, pairs.sum((0, 1))


def _ends(mask: Tensor) -> Tensor:
    """True at the last unit of each text, [B, U]."""
    behind = torch.zeros_like(mask)
    behind[:, :-1] = mask[:, 1:]
    return mask & ~behind
