"""Settling: curves in closed form, censoring, and what goes together."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from picolm.analysis.recipe import RECIPES
from picolm.analysis.settling import associations_of, curves_of, early_step, layers_of, matthews, spearman
from picolm.runs.tables import Measured

STEPS = list(range(0, 1100, 100))


def table(
    settle: dict[int, float], rank: dict[int, float], *, similarity: str = "cka", of: str = "per_over_noise"
) -> pl.DataFrame:
    """Similarities that rise in a straight line to 0.9 at a known step and stay there; 1 at the end."""
    rows = []
    for layer, at in settle.items():
        name = f"layers.{layer}.attention.ov_concatenated"
        for step in STEPS:
            value = 1.0 if step == STEPS[-1] else min(0.95, 0.9 * step / at)
            rows.append(Measured(step, similarity, name, layer, None, "text", value, "step 1000"))
            rows.append(Measured(step, of, name, layer, None, None, rank[layer] * step / 1000, None))
            rows.append(Measured(step, of, f"gradient({name})", layer, None, "text", rank[layer] / 2, None))
    return pl.DataFrame([row._asdict() for row in rows])


def test_a_layer_settles_where_its_curve_was_made_to() -> None:
    settle = {0: 250.0, 1: 500.0, 2: 730.0, 3: 5000.0}
    curves = curves_of(table(settle, dict.fromkeys(settle, 1.0)), "text")
    layers = layers_of(curves, RECIPES["corrected"], "per_over_noise", 1000)
    assert layers["layer"].to_list() == [0, 1, 2, 3]
    # Between 200 and 300 the line is cut off at 0.95.
    assert layers["settled_step"][0] == pytest.approx(200 + 100 * (0.9 - 0.72) / (0.95 - 0.72))
    assert layers["settled_step"][1] == pytest.approx(500)
    assert (layers["settled_after"][2], layers["settled_by"][2]) == (700.0, 800.0)
    # The last step is like itself; a layer that is not there one measurement before is censored.
    last = layers.row(3, named=True)
    assert (last["settled_step"], last["settled_after"], last["settled_by"]) == (None, 900.0, None)
    assert layers["weight_rank_first"].to_list() == [0.0] * 4 and layers["weight_rank_last"].to_list() == [1.0] * 4
    assert layers["gradient_rank_first"].to_list() == [0.5] * 4
    assert layers["similarity_first"].to_list() == [0.0] * 4


def test_layers_of_larger_rank_that_settle_earlier_give_minus_one() -> None:
    settle = {0: 250.0, 1: 500.0, 2: 730.0, 3: 5000.0, 4: 9000.0}
    falling = {layer: 1.0 - 0.1 * min(layer, 3) for layer in settle}
    curves = curves_of(table(settle, falling), "text")
    found = associations_of(layers_of(curves, RECIPES["corrected"], "per_over_noise", 1000), RECIPES["corrected"])
    # Both that never settle are tied, and last.
    assert [(one.part, one.rank_of, one.n) for one in found] == [("ov", "weights", 5), ("ov", "gradients", 5)]
    assert [one.value for one in found] == pytest.approx([-1.0, -1.0])
    alike = curves_of(table(settle, dict.fromkeys(settle, 1.0)), "text")
    same = associations_of(layers_of(alike, RECIPES["corrected"], "per_over_noise", 1000), RECIPES["corrected"])
    assert [one.value for one in same] == [None, None]


def test_the_published_recipe_asks_who_is_early_and_high() -> None:
    recipe = RECIPES["published"]
    # 0.45 is reached at half the way; the step nearest to 1000 * 13 / 143 is 100.
    settle = {0: 150.0, 1: 190.0, 2: 400.0, 3: 900.0}
    assert early_step(STEPS, 13 / 143, 1000) == 100
    made = table(settle, {0: 0.99, 1: 0.96, 2: 0.90, 3: 0.80}, similarity="biased_cka", of="per_top_8")
    layers = layers_of(curves_of(made, "text"), recipe, "per_top_8", 1000)
    assert layers["early"].to_list() == [True, True, False, False]
    weights, gradients = associations_of(layers, recipe)
    assert (weights.measure, weights.value) == ("mcc", pytest.approx(1.0))
    # Of gradients 0.9 of the best is high: three layers of four.
    assert gradients.value == pytest.approx(matthews([True, True, False, False], [True, True, True, False]))


def test_correlations_equal_counts_and_differences_of_ranks() -> None:
    early, high = [True, True, True, False, False], [True, True, False, False, True]
    both, neither, only_early, only_high = 2, 1, 1, 1
    margins = (both + only_early) * (both + only_high) * (neither + only_early) * (neither + only_high)
    expected = (both * neither - only_early * only_high) / math.sqrt(margins)
    assert matthews(early, high) == pytest.approx(expected)
    assert matthews([True, True, True], [True, False, True]) is None
    x, y = [3.0, 1.0, math.inf, 2.0, 7.0], [0.2, 0.9, 0.1, 0.8, 0.4]
    differences = np.array([3, 1, 5, 2, 4]) - np.array([2, 5, 1, 4, 3])
    assert spearman(x, y) == pytest.approx(1 - 6 * (differences**2).sum() / (5 * 24))
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None and spearman([1.0, 2.0], [1.0, 2.0]) is None


def test_values_that_are_not_defined_are_left_out_of_curves() -> None:
    made = table({0: 500.0}, {0: 1.0})
    first = (pl.col("metric") == "cka") & (pl.col("step") == 0)
    undefined = made.with_columns(value=pl.when(first).then(math.nan).otherwise(pl.col("value")))
    layers = layers_of(curves_of(undefined, "text"), RECIPES["corrected"], "per_over_noise", 1000)
    assert layers["similarity_first"][0] == pytest.approx(0.18)
    assert layers["settled_step"][0] == pytest.approx(500)
