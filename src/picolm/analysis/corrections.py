"""What each correction of the published recipe changes about the link between convergence and rank.

A ladder leads from the published recipe to the corrected one, one change at a time. On each rung every layer of every
model has a convergence and a rank; `linkage` says how far they go together, over layers and over seeds. The value is
above 0 where layers of larger rank settle earlier, on every rung.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from picolm.analysis.linkage import FloatArray, Over, linkage
from picolm.analysis.recipe import HIGH_GRADIENT_SHARE, HIGH_WEIGHT_PER, RECIPES, Recipe
from picolm.analysis.settling import PARTS, curves_of, layers_of


@dataclass(frozen=True, slots=True)
class Rung:
    """One recipe of the ladder.

    Attributes:
        name: of what it changes about the one before.
        similarity: the column of curves that settles.
        tokens: `last`: the last token of captured rows; `all`: all tokens of a text.
        convergence: `early`: at the published level at the published share of training; `settled`: the step from which
            on it stays at the corrected level; `shortfall`: the mean distance from 1.
        rank: `per_top` (as many singular values as a head is wide), `per` or `per_over_noise`.
    """

    name: str
    similarity: str
    tokens: Literal["last", "all"]
    convergence: Literal["early", "settled", "shortfall"]
    rank: Literal["per_top", "per", "per_over_noise"]

    @property
    def graded(self) -> bool:
        """Whether more than yes and no is known of a layer."""
        return self.convergence != "early"

    @property
    def recipe(self) -> Recipe:
        """What counts as settled or early on this rung."""
        like = RECIPES["corrected" if self.graded else "published"]
        return Recipe(self.name, self.similarity, like.level, like.early_share)


LADDER = (
    Rung("published", "biased_cka", "last", "early", "per_top"),
    Rung("above_chance", "biased_cka_above_chance", "last", "early", "per_top"),
    Rung("debiased", "cka", "last", "early", "per_top"),
    Rung("all_tokens", "cka", "all", "early", "per_top"),
    Rung("graded", "cka", "all", "settled", "per_top"),
    Rung("whole_spectrum", "cka", "all", "settled", "per"),
    Rung("over_noise", "cka", "all", "settled", "per_over_noise"),
    Rung("no_threshold", "cka", "all", "shortfall", "per_over_noise"),
)
"""From the published recipe to the corrected one (`over_noise`), and the same without a level."""


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """One model of a suite, as it was measured.

    Attributes:
        size: which models are alike but for their seeds.
        name: of it.
        table: metrics, as `table.measure` gives them.
        head_dim: width of a head.
        final: the last step.
        text: the probe of which all tokens were measured.
        last: the captured probe of last tokens; None where there is none.
    """

    size: str
    name: str
    table: pl.DataFrame
    head_dim: int
    final: int
    text: str
    last: str | None


def layers_by_rung(models: Sequence[MeasuredModel]) -> pl.DataFrame:
    """Find convergence and ranks of each layer of each model, on every rung.

    Returns:
        size, model, part, layer, rung, `earliness` (larger: earlier), rank of `weights` and `gradients` at the end;
        null where something was not measured.
    """
    rows = [row for model in models for rung in LADDER for row in _layers(model, rung)]
    return pl.DataFrame(rows, schema=_LAYERS)


def links_of(layers: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Test the link on every rung, for weights and gradients of each part, over layers and over seeds.

    Args:
        layers: as `layers_by_rung` gives them.
        seed: of orders that are drawn.

    Returns:
        rung, part, `rank_of`, `over`, `value`, `p_value`, `orders`, `exact`, and the numbers of `models` and `layers`.
        What was not measured of every layer of a size leaves the size out.
    """
    rows = []
    for (rung, part), own in layers.group_by("rung", "part", maintain_order=True):
        for of in ("weights", "gradients"):
            cells = list(_cells(own, of))
            tests: tuple[Over, ...] = ("layers", "seeds") if cells else ()
            for over in tests:
                found = linkage(cells, over=over, ranks=_by_name(str(rung)).graded, seed=seed)
                numbers = {"models": sum(len(x) for x, _ in cells), "layers": sum(x.size for x, _ in cells)}
                facts = {"value": found.value, "p_value": found.p_value, "orders": found.orders, "exact": found.exact}
                rows.append({"rung": rung, "part": part, "rank_of": of, "over": over, **facts, **numbers})
    return pl.DataFrame(rows, schema=_LINKS)


def sizes_of(layers: pl.DataFrame, rung: str = "no_threshold") -> pl.DataFrame:
    """Sum up each size: the mean over its models and their standard deviation over seeds.

    Args:
        layers: as `layers_by_rung` gives them.
        rung: which one.
    """
    own = layers.filter(pl.col("rung") == rung)
    models = own.group_by("size", "part", "model", maintain_order=True).agg(
        pl.col("earliness", "weights", "gradients").mean()
    )
    columns = ("earliness", "weights", "gradients")
    return models.group_by("size", "part", maintain_order=True).agg(
        pl.len().alias("models"),
        *(pl.col(name).mean().alias(f"{name}_mean") for name in columns),
        *(pl.col(name).std().alias(f"{name}_sd") for name in columns),
    )


def metrics_of(head_dim: int) -> dict[str, list[str]]:
    """What must have been measured, by the tokens it is measured on."""
    similarities = ["cka", "biased_cka", "biased_cka_chance"]
    return {"all": [*similarities, "per", "per_over_noise", f"per_top_{head_dim}"], "last": similarities}


def _by_name(name: str) -> Rung:
    return next(rung for rung in LADDER if rung.name == name)


def _layers(model: MeasuredModel, rung: Rung) -> Iterator[dict[str, object]]:
    probe = model.text if rung.tokens == "all" else model.last
    if probe is None:
        return
    rank = f"per_top_{model.head_dim}" if rung.rank == "per_top" else rung.rank
    similar = layers_of(curves_of(model.table, probe), rung.recipe, rank, model.final)
    # Ranks are of the weights, and of the gradients on the text, on whatever tokens similarities are.
    ranks = layers_of(curves_of(model.table, model.text), rung.recipe, rank, model.final)
    for part in PARTS:
        own = similar.filter(pl.col("part") == part).sort("layer")
        ranked = ranks.filter(pl.col("part") == part).sort("layer")
        known = {of: _high(ranked, of, rung) for of in ("weights", "gradients")}
        for place, row in enumerate(own.to_dicts()):
            yield {
                "size": model.size,
                "model": model.name,
                "part": part,
                "layer": row["layer"],
                "rung": rung.name,
                "earliness": _earliness(row, rung),
                **{of: values[place] for of, values in known.items()},
            }


def _earliness(row: Mapping[str, object], rung: Rung) -> float | None:
    """How early a layer is, larger is earlier; a layer that never settles is last."""
    if row["similarity_first"] is None:
        return None
    if rung.convergence == "early":
        early = row["early"]
        return None if early is None else float(bool(early))
    value = row["settled_step" if rung.convergence == "settled" else "mean_shortfall"]
    if value is None:
        return -np.inf if rung.convergence == "settled" else None
    assert isinstance(value, float)
    return -value


def _high(ranked: pl.DataFrame, of: str, rung: Rung) -> list[float | None]:
    """Ranks at the end; where the recipe is yes or no, whether they are high."""
    values: list[float | None] = ranked["weight_rank_last" if of == "weights" else "gradient_rank_last"].to_list()
    known = [value for value in values if value is not None]
    if rung.graded or not known:
        return values
    floor = HIGH_WEIGHT_PER if of == "weights" else HIGH_GRADIENT_SHARE * max(known)
    return [None if value is None else float(value >= floor) for value in values]


def _cells(own: pl.DataFrame, of: str) -> Iterator[tuple[FloatArray, FloatArray]]:
    """For each size earliness and rank, [models, layers]; a size of which something is not known is left out."""
    for _, size in own.group_by("size", maintain_order=True):
        models = [one.sort("layer") for _, one in size.group_by("model", maintain_order=True)]
        pair = [[one[column].to_list() for one in models] for column in ("earliness", of)]
        if len({len(row) for side in pair for row in side}) == 1 and not any(
            value is None for side in pair for row in side for value in row
        ):
            yield np.array(pair[0], dtype=np.float64), np.array(pair[1], dtype=np.float64)


_LAYERS: dict[str, type[pl.DataType]] = {
    "size": pl.String,
    "model": pl.String,
    "part": pl.String,
    "layer": pl.Int64,
    "rung": pl.String,
    "earliness": pl.Float64,
    "weights": pl.Float64,
    "gradients": pl.Float64,
}
_LINKS: dict[str, type[pl.DataType]] = {
    "rung": pl.String,
    "part": pl.String,
    "rank_of": pl.String,
    "over": pl.String,
    "value": pl.Float64,
    "p_value": pl.Float64,
    "orders": pl.Int64,
    "exact": pl.Boolean,
    "models": pl.Int64,
    "layers": pl.Int64,
}
