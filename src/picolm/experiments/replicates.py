"""Which repetitions are independent of one another, and what that makes of a difference between arms.

Repetitions with a seed each are. Those of two crossed factors (init x data) are not: three seeds of each make nine
runs, of which three share each seed. The factor with fewer seeds then takes the place of seeds and the other one that
of items, d_ab = mean + a + b + residual, as in `statistics.crossed`: both vary, and neither counts nine times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from picolm.errors import PicoLMError
from picolm.experiments.design import Repetition
from picolm.experiments.plan import Seeds
from picolm.experiments.statistics.crossed import crossed_difference
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import PairedDifference, paired_difference
from picolm.experiments.statistics.noise import NoiseFloor
from picolm.experiments.statistics.seeds import Dropped, Seed, matched

Cell = tuple[int, int]
"""Seeds of the factor with fewer, and of the other one."""


@dataclass(frozen=True, slots=True)
class Replicates:
    """The repetitions of an experiment.

    Attributes:
        factors: the two that are crossed, that with fewer seeds first; None where all repetitions are independent.
        cells: by repetition, its seeds of both; empty where all are independent.
    """

    factors: tuple[str, str] | None
    cells: Mapping[Seed, Cell]

    @classmethod
    def of(cls, seeds: Seeds, repetitions: Sequence[Repetition]) -> Replicates:
        """Find out what repetitions share."""
        varied = sorted((len(numbers), name) for name, numbers in seeds.crossed.items() if len(numbers) > 1)
        if len(varied) < 2:
            return cls(None, {})
        few, other = varied[0][1], varied[1][1]
        cells: dict[Seed, Cell] = {
            one.name: (one.seeds[f"seeds.{few}"], one.seeds[f"seeds.{other}"]) for one in repetitions
        }
        return cls((few, other), cells)

    def difference(
        self, treatment: Mapping[Seed, float], baseline: Mapping[Seed, float], *, noise: NoiseFloor | None = None
    ) -> PairedDifference:
        """Compare two arms, pair by pair.

        Args:
            treatment: value by repetition.
            baseline: value by repetition.
            noise: what seeds alone do.

        Returns:
            Of crossed factors, the estimate of the two-way structure, with all differences that went into it. Where a
            pair is missing, the seeds that leave the most pairs are kept, so that each meets each.

        Raises:
            PicoLMError: no repetition has a finite value in both arms.
        """
        if self.factors is None:
            return paired_difference(treatment, baseline, noise=noise)
        found = matched({"treatment": treatment, "baseline": baseline})
        whole = _whole([self.cells[name] for name in found.seeds])
        kept = [name for name in found.seeds if self.cells[name] in whole]
        cut = [Dropped(name, _NOT_CROSSED) for name in found.seeds if name not in kept]
        arms = [{name: arm[name] for name in kept} for arm in (treatment, baseline)]
        rows = [self._by_first(arm) for arm in arms]
        dropped = (*found.dropped, *cut)
        if len(rows[0]) in (1, len(kept)):
            # One seed of a factor is left: nothing is crossed any more.
            return replace(paired_difference(arms[0], arms[1], noise=noise), dropped=dropped)
        crossed = crossed_difference(*rows)
        mean = crossed.estimate.value
        return PairedDifference(
            estimate=crossed.estimate,
            differences={name: treatment[name] - baseline[name] for name in kept},
            hedges_gz=None,
            in_noise_sds=mean / noise.sd if noise is not None and noise.sd > 0 else None,
            dropped=dropped,
        )

    def independent(self, values: Mapping[Seed, float]) -> Mapping[Seed, float]:
        """Values of what is independent: of crossed factors the means by seed of the one with fewer.

        A seed that lacks values that another one has is left out: each mean is over as many.
        """
        if self.factors is None:
            return dict(values)
        rows = self._by_first(values)
        longest = max((len(row) for row in rows.values()), default=0)
        return {f"{self.factors[0]}{few}": sum(row) / longest for few, row in rows.items() if len(row) == longest}

    def mean_curves(self, curves: Mapping[Seed, Curve]) -> Mapping[Seed, Curve]:
        """The same of curves: their means at the places that they share."""
        if self.factors is None:
            return dict(curves)
        found: dict[Seed, Curve] = {}
        for few in dict.fromkeys(self.cells[name][0] for name in curves):
            row = [curve for name, curve in curves.items() if self.cells[name][0] == few]
            shared = row[0].x
            for curve in row[1:]:
                shared = np.intersect1d(shared, curve.x)
            if len(shared):
                with np.errstate(invalid="ignore"):
                    mean = np.mean([curve.y[np.searchsorted(curve.x, shared)] for curve in row], axis=0)
                found[f"{self.factors[0]}{few}"] = Curve.of(shared, mean)
        return found

    def _by_first(self, values: Mapping[Seed, float]) -> dict[Seed, list[float]]:
        """Values by the seed of the first factor, in the order of the other one's."""
        rows: dict[Seed, list[float]] = {}
        for name in sorted(values, key=lambda name: self.cells[name]):
            rows.setdefault(self.cells[name][0], []).append(values[name])
        return rows


_NOT_CROSSED = "it shares a seed with a pair that is missing, without which not every seed meets every other"


def _whole(cells: Sequence[Cell]) -> set[Cell]:
    """Of cells of a table those of rows and columns that have all of each other: the emptiest is left out, in turn."""
    left = set(cells)
    while left:
        rows, columns = {row for row, _ in left}, {column for _, column in left}
        if len(left) == len(rows) * len(columns):
            return left
        lines = [{cell for cell in left if cell[0] == row} for row in sorted(rows)]
        lines += [{cell for cell in left if cell[1] == column} for column in sorted(columns)]
        shares = [len(line) / (len(columns) if place < len(rows) else len(rows)) for place, line in enumerate(lines)]
        left -= lines[shares.index(min(shares))]
    raise PicoLMError("no repetition has a value in both arms")
