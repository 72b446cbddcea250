"""Repetitions that share seeds: what is kept of a table with holes, and means of what is independent."""

from __future__ import annotations

import numpy as np
import pytest
from tests.experiments.synthetic import design_of

from picolm.errors import PicoLMError
from picolm.experiments.replicates import Replicates
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import paired_difference

CELLS = [f"init{init}-data{data}" for init in range(3) for data in range(2)]


def replicates(seeds: object) -> Replicates:
    design = design_of(seeds=seeds)
    return Replicates.of(design.plan.seeds, design.repetitions)


def test_only_two_factors_that_vary_are_crossed() -> None:
    assert replicates(3).factors is None and replicates({"init": 3}).factors is None
    assert replicates({"init": 1, "data": 3}).factors is None
    # That with fewer seeds takes the place of seeds.
    assert replicates({"init": 3, "data": 2}).factors == ("data", "init")


def test_of_a_table_with_a_hole_the_most_pairs_are_kept() -> None:
    crossed = replicates({"init": 3, "data": 2})
    values = {cell: float(place) for place, cell in enumerate(CELLS)}
    treatment = {cell: 10 + value**2 for cell, value in values.items()}
    found = crossed.difference({**treatment, "init1-data0": float("nan")}, values)
    assert set(found.differences) == {cell for cell in CELLS if not cell.startswith("init1")}
    assert {one.seed for one in found.dropped} == {"init1-data0", "init1-data1"}
    kept = [treatment[cell] - values[cell] for cell in found.differences]
    assert found.estimate.value == pytest.approx(np.mean(kept)) and found.estimate.seeds == 2


def test_where_one_seed_of_a_factor_is_left_pairs_are_independent_again() -> None:
    crossed = replicates({"init": 3, "data": 2})
    ones = [cell for cell in CELLS if cell.endswith("data1")]
    treatment, baseline = {cell: float(n) for n, cell in enumerate(ones)}, dict.fromkeys(CELLS, 0.5)
    found = crossed.difference(treatment, baseline)
    assert found.estimate == paired_difference(treatment, baseline).estimate and found.estimate.seeds == 3
    assert set(found.differences) == set(ones)
    with pytest.raises(PicoLMError, match="no seed has a finite value"):
        crossed.difference({}, baseline)


def test_means_by_the_seed_of_the_factor_with_fewer() -> None:
    crossed = replicates({"init": 3, "data": 2})
    values = {cell: float(place) for place, cell in enumerate(CELLS)}
    assert crossed.independent(values) == {"data0": (0 + 2 + 4) / 3, "data1": (1 + 3 + 5) / 3}
    del values["init0-data1"]
    assert crossed.independent(values) == {"data0": 2.0}
    curves = {cell: Curve.of([0, 1, place + 2], [place, 0, 9]) for place, cell in enumerate(CELLS)}
    mean = crossed.mean_curves(curves)["data1"]
    assert mean.x.tolist() == [0, 1] and mean.y.tolist() == [3, 0]


def test_independent_repetitions_are_compared_by_paired_t() -> None:
    treatment, baseline = {"seed0": 1.0, "seed1": 3.0}, {"seed0": 0.5, "seed1": 1.0}
    assert replicates(2).difference(treatment, baseline) == paired_difference(treatment, baseline)
    assert replicates(2).independent(treatment) == treatment
