"""When each layer of a suite settles, and whether layers of a larger rank settle earlier: from a table of metrics.

Everything here is arithmetic on what `pipeline` measured. Curves are similarities to the final step, which is like
itself whatever happened before: it is left out of them, so a layer that is not at the level one measurement before the
end is censored, not settled at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from picolm.analysis.convergence import Crossing, mean_shortfall, settled_above
from picolm.analysis.recipe import HIGH_GRADIENT_SHARE, HIGH_WEIGHT_PER, Recipe

PARTS = {"ov": "attention.ov_concatenated", "mlp": "mlp.down_proj"}
"""What a layer writes to the residual stream: attention by its OV circuit, and the feed-forward layer."""
_GRADIENT = "gradient("
_PLACE = ["part", "layer", "step"]


@dataclass(frozen=True, slots=True)
class Association:
    """Whether convergence and rank go together over the layers of one model.

    Attributes:
        part: `ov` or `mlp`.
        rank_of: `weights` or `gradients`.
        measure: `spearman`, of the steps of settling and the ranks at the end (below 0: layers of a larger rank settle
            earlier; those that never settle are last, tied); or `mcc`, of early and high (above 0: the same).
        value: from -1 to 1; None where one side is the same in all layers, or there are fewer than three.
        n: layers. They are neighbours in one model and no independent sample.
    """

    part: str
    rank_of: str
    measure: str
    value: float | None
    n: int


def curves_of(table: pl.DataFrame, probe: str | None) -> pl.DataFrame:
    """Lay out metrics as curves.

    Args:
        table: as `table.measure` gives it, of the sites of `PARTS`.
        probe: which one's activations and gradients.

    Returns:
        A row for each part, layer and step; a column for each metric (`per`, of gradients `gradient_per`), and for the
        similarities on a scale from chance or from the first step (0) to identity (1).
    """
    site = pl.col("site")
    prefix = pl.when(site.str.starts_with(_GRADIENT)).then(pl.lit("gradient_")).otherwise(pl.lit(""))
    whole = pl.when(site.str.contains(PARTS["ov"], literal=True)).then(pl.lit("ov")).otherwise(pl.lit("mlp"))
    own = table.filter(pl.col("probe").is_null() | (pl.col("probe") == pl.lit(probe, dtype=pl.String)))
    named = own.with_columns(part=whole, quantity=prefix + pl.col("metric"))
    wide = named.pivot("quantity", index=_PLACE, values="value").sort(_PLACE, descending=[True, False, False])
    if {"biased_cka", "biased_cka_chance"} <= set(wide.columns):
        chance = pl.col("biased_cka_chance")
        wide = wide.with_columns(biased_cka_above_chance=(pl.col("biased_cka") - chance) / (1 - chance))
    if "cka" in wide.columns:
        first = pl.col("cka").drop_nulls().first().over("part", "layer")
        wide = wide.with_columns(cka_above_first=(pl.col("cka") - first) / (1 - first))
    return wide


def layers_of(curves: pl.DataFrame, recipe: Recipe, rank: str, final: int) -> pl.DataFrame:
    """Sum up each layer's curves.

    Args:
        curves: as `curves_of` gives them.
        recipe: what is a similarity, and its level.
        rank: the metric of rank.
        final: the step that all are compared with.

    Returns:
        A row for each part and layer: similarity at the first step and its chance level, when it settled
        (`settled_step`, between `settled_after` and `settled_by`; null: never, or not known), the mean distance from 1,
        whether it was early, and the rank of weights and gradients at the first and last step.
    """
    rows = [_layer(own, recipe, rank, final) for own in curves.partition_by("part", "layer", maintain_order=True)]
    return pl.DataFrame(rows, schema=_SCHEMA)


def associations_of(layers: pl.DataFrame, recipe: Recipe) -> list[Association]:
    """Set convergence beside rank, for weights and gradients of each part.

    Args:
        layers: as `layers_of` gives them.
        recipe: which measure.
    """
    found = []
    for own in layers.partition_by("part", maintain_order=True):
        part = str(own["part"][0])
        for of, column in (("weights", "weight_rank_last"), ("gradients", "gradient_rank_last")):
            known = own.filter(pl.col(column).is_not_null() & pl.col("similarity_first").is_not_null())
            if len(known):
                value, measure = _together(known, column, of, recipe)
                found.append(Association(part, of, measure, value, len(known)))
    return found


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float | None:
    """Rank correlation with ties; infinities are ranked too. None as in `Association`."""
    return _pearson(*(pl.Series(np.asarray(side, dtype=np.float64)).rank("average").to_numpy() for side in (x, y)))


def matthews(x: Sequence[bool], y: Sequence[bool]) -> float | None:
    """Matthews' correlation of two yes-or-no properties; None as in `Association`."""
    return _pearson(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))


def _together(known: pl.DataFrame, column: str, of: str, recipe: Recipe) -> tuple[float | None, str]:
    ranks = known[column]
    if recipe.early_share is None:
        return spearman(known["settled_step"].fill_null(float("inf")), ranks), "spearman"
    floor = HIGH_WEIGHT_PER if of == "weights" else HIGH_GRADIENT_SHARE * max(ranks)
    return matthews([bool(early) for early in known["early"]], [value >= floor for value in ranks]), "mcc"


def _layer(own: pl.DataFrame, recipe: Recipe, rank: str, final: int) -> dict[str, object]:
    similar = _known(own, recipe.similarity)
    before = similar.filter(pl.col("step") < final)
    crossing = _crossing(before, recipe.level)
    return {
        "part": own["part"][0],
        "layer": own["layer"][0],
        "similarity_first": _end(similar, recipe.similarity, 0),
        "biased_first": _end(_known(own, "biased_cka"), "biased_cka", 0),
        "biased_chance_first": _end(_known(own, "biased_cka_chance"), "biased_cka_chance", 0),
        "settled_step": _finite(crossing.step) if crossing else None,
        "settled_after": _finite(crossing.after) if crossing else None,
        "settled_by": _finite(crossing.by) if crossing else None,
        "mean_shortfall": mean_shortfall(similar["step"], similar[recipe.similarity]) if len(similar) > 1 else None,
        "early": _early(before, recipe, final),
        **_ranks(own, "weight_rank", rank),
        **_ranks(own, "gradient_rank", f"gradient_{rank}"),
    }


def _ranks(own: pl.DataFrame, name: str, column: str) -> dict[str, float | None]:
    known = _known(own, column)
    return {f"{name}_first": _end(known, column, 0), f"{name}_last": _end(known, column, -1)}


def _known(own: pl.DataFrame, column: str) -> pl.DataFrame:
    """Steps at which a value is a number; of a metric that was not measured, none."""
    if column not in own.columns:
        return pl.DataFrame(schema={"step": pl.Int64, column: pl.Float64})
    return own.select("step", column).filter(pl.col(column).is_not_null() & pl.col(column).is_finite())


def _crossing(before: pl.DataFrame, level: float) -> Crossing | None:
    return settled_above(before["step"], before.to_series(1), level=level) if len(before) else None


def _early(before: pl.DataFrame, recipe: Recipe, final: int) -> bool | None:
    if recipe.early_share is None or not len(before):
        return None
    at = early_step(before["step"].to_list(), recipe.early_share, final)
    return bool(before.filter(pl.col("step") == at)[recipe.similarity][0] >= recipe.level)


def early_step(steps: Sequence[int], share: float, final: int) -> int:
    """The measured step that is nearest to a share of training."""
    return min(steps, key=lambda step: abs(step - share * final))


def _end(known: pl.DataFrame, column: str, at: int) -> float | None:
    return float(known[column][at]) if len(known) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _pearson(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float | None:
    # Of two points it is 1 or -1, whatever they are.
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


_SCHEMA: dict[str, type[pl.DataType]] = {
    "part": pl.String,
    "layer": pl.Int64,
    "similarity_first": pl.Float64,
    "biased_first": pl.Float64,
    "biased_chance_first": pl.Float64,
    "settled_step": pl.Float64,
    "settled_after": pl.Float64,
    "settled_by": pl.Float64,
    "mean_shortfall": pl.Float64,
    "early": pl.Boolean,
    "weight_rank_first": pl.Float64,
    "weight_rank_last": pl.Float64,
    "gradient_rank_first": pl.Float64,
    "gradient_rank_last": pl.Float64,
}
