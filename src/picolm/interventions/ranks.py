"""How large adapters are: by rule, by cycle, or by how much of their rank each one used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def effective_rank(values: Tensor) -> float:
    """Exponential of the entropy of singular values [K], as `analysis.rank.effective_rank`; of a zero matrix 0."""
    total = values.sum()
    if not total > 0:
        return 0.0
    return float(torch.special.entr(values / total).sum().exp())


@torch.no_grad()
def singular_values(matrix: Tensor) -> Tensor:
    """Singular values of a matrix, descending [K], in float64 on the host; zeros where an entry is not finite."""
    precise = matrix.detach().cpu().double()
    return torch.linalg.svdvals(precise) if bool(precise.isfinite().all()) else torch.zeros(min(precise.shape))


def rank_of_change(values: Tensor, weight: Tensor) -> int:
    """How many singular values [K] of a change of a weight stand above the rounding of that weight."""
    precision = torch.finfo(weight.dtype).eps
    return int((values > 4 * precision * float(weight.detach().double().norm())).sum())


@dataclass(frozen=True, slots=True)
class Budget:
    """What adapters may cost together, and between which ranks each may move.

    Attributes:
        parameters: the largest sum of rank x cost.
        costs: parameters of one rank, by layer: its inputs and outputs together.
        lowest: smallest rank of each.
        highest: largest rank of each.
    """

    parameters: int
    costs: Mapping[str, int]
    lowest: int
    highest: Mapping[str, int]

    def share_out(self, used: Mapping[str, float]) -> dict[str, int]:
        """Ranks in proportion to the ranks that were used, as large as the budget allows.

        Args:
            used: effective rank of what each layer's adapter had become.

        Returns:
            Ranks that together cost no more than the budget, unless the lowest ones do; one more of any rank that may
            still grow would be too much.
        """
        ranks = dict.fromkeys(self.costs, self.lowest)
        wanted = {name: max(used[name], 1e-9) for name in ranks}
        left = self.parameters - sum(self.costs[name] * rank for name, rank in ranks.items())
        while True:
            # One rank at a time goes to whom the most is still missing, as seats are shared out (D'Hondt).
            able = [name for name in ranks if ranks[name] < self.highest[name] and self.costs[name] <= left]
            if not able:
                return ranks
            name = max(able, key=lambda name: (wanted[name] / (ranks[name] + 1), name))
            ranks[name] += 1
            left -= self.costs[name]
