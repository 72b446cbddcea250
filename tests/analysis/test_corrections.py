"""Correction by correction: on tables whose curves and ranks were made, each rung finds what it should and no more."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from picolm.analysis.corrections import LADDER, MeasuredModel, layers_by_rung, links_of, sizes_of
from picolm.analysis.recipe import RECIPES
from picolm.analysis.study import read_study
from picolm.errors import PicoLMError
from picolm.runs.tables import Measured

STEPS = list(range(0, 1100, 100))
CHANCE = 0.4


def model(size: str, seed: int, settle: list[float], rank: list[float], *, last: bool = True) -> MeasuredModel:
    """Curves that rise in a straight line from 0 to 0.95; of last tokens the biased one rises from its chance level."""
    rows = []
    for layer, at in enumerate(settle):
        name = f"layers.{layer}.mlp.down_proj"
        for step in STEPS:
            value = 1.0 if step == STEPS[-1] else min(0.95, 0.9 * step / at)
            for probe in ("text.txt", "last_token")[: 1 + last]:
                biased = CHANCE + (1 - CHANCE) * value if probe == "last_token" else value
                rows.append(Measured(step, "cka", name, layer, None, probe, value, "step 1000"))
                rows.append(Measured(step, "biased_cka", name, layer, None, probe, biased, "step 1000"))
                chance = CHANCE if probe == "last_token" else 0.0
                rows.append(Measured(step, "biased_cka_chance", name, layer, None, probe, chance, "step 1000"))
            for metric in ("per", "per_over_noise", "per_top_8"):
                rows.append(Measured(step, metric, name, layer, None, None, rank[layer], None))
                rows.append(Measured(step, metric, f"gradient({name})", layer, None, "text.txt", rank[layer] / 2, None))
    table = pl.DataFrame([row._asdict() for row in rows])
    return MeasuredModel(size, f"{size}.seed{seed}", table, 8, 1000, "text.txt", "last_token" if last else None)


SETTLE = [150.0, 400.0, 600.0, 5000.0]
RANK = [0.99, 0.96, 0.80, 0.70]


def cell(links: pl.DataFrame, **where: str) -> dict[str, object]:
    found = links.filter(*(pl.col(name) == value for name, value in where.items()))
    assert len(found) == 1
    return found.row(0, named=True)


def test_the_ladder_goes_from_the_published_recipe_to_the_corrected_one_a_change_at_a_time() -> None:
    published, corrected = LADDER[0], next(rung for rung in LADDER if rung.name == "over_noise")
    for rung, name in ((published, "published"), (corrected, "corrected")):
        recipe = RECIPES[name]
        assert (rung.similarity, rung.recipe.level, rung.recipe.early_share) == (
            recipe.similarity,
            recipe.level,
            recipe.early_share,
        )
    fields = ("similarity", "tokens", "convergence", "rank")
    changes = [sum(getattr(one, field) != getattr(other, field) for field in fields) for one, other in pairwise(LADDER)]
    assert changes == [1] * (len(LADDER) - 1)


def test_a_chance_level_makes_every_layer_early_and_its_correction_does_not() -> None:
    layers = layers_by_rung([model("small", 0, SETTLE, RANK)])
    early = {
        rung: layers.filter(pl.col("rung") == rung)["earliness"].to_list() for rung in layers["rung"].unique().to_list()
    }
    # At step 100 the curves are at 0.6, 0.225, 0.15 and 0.02; biased, 0.4 of the way is there already.
    assert early["published"] == [1.0, 1.0, 1.0, 0.0]
    assert early["above_chance"] == early["debiased"] == early["all_tokens"] == [1.0, 0.0, 0.0, 0.0]
    assert early["over_noise"][1:] == pytest.approx([-400.0, -600.0, float("-inf")])


def test_links_are_perfect_where_they_were_made_so_over_layers_and_not_over_seeds() -> None:
    links = links_of(layers_by_rung([model("small", seed, SETTLE, RANK) for seed in range(3)]))
    found = cell(links, rung="over_noise", rank_of="weights", over="layers")
    assert (found["value"], found["p_value"], found["models"], found["layers"]) == (
        pytest.approx(1.0),
        pytest.approx(1 / 24 + 1 / 24),
        3,
        12,
    )
    # Seeds that do not differ say nothing.
    assert cell(links, rung="over_noise", rank_of="weights", over="seeds")["value"] is None


def test_what_differs_between_seeds_is_found_without_depth() -> None:
    models = [
        model(size, seed, [at + 40 * seed for at in (150.0, 400.0)], [rank - 0.01 * seed for rank in (0.7, 0.9)])
        for size in ("small", "large")
        for seed in range(3)
    ]
    links = links_of(layers_by_rung(models))
    over_layers = cell(links, rung="no_threshold", rank_of="gradients", over="layers")
    over_seeds = cell(links, rung="no_threshold", rank_of="gradients", over="seeds")
    assert over_layers["value"] == pytest.approx(-1.0), "deeper layers have a larger rank and settle later"
    assert over_seeds["value"] == pytest.approx(1.0) and over_seeds["p_value"] == pytest.approx(2 / 36)


def test_what_was_not_measured_is_left_out_and_sizes_are_means_over_seeds() -> None:
    layers = layers_by_rung(
        [model("small", seed, SETTLE, [r - 0.1 * seed for r in RANK], last=False) for seed in (0, 1)]
    )
    assert set(layers["rung"]) == {rung.name for rung in LADDER if rung.tokens == "all"}
    sizes = sizes_of(layers).row(0, named=True)
    assert (sizes["models"], sizes["weights_mean"]) == (2, pytest.approx(sum(RANK) / 4 - 0.05))
    assert sizes["weights_sd"] == pytest.approx(0.1 / 2**0.5) and sizes["earliness_sd"] == pytest.approx(0.0)


def test_mistakes_in_a_study_are_named(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    for text, sentence in (
        ("models: {}\n", "it does not say `study: 1`"),
        ("study: 1\nmodels: {}\nprobe: a.txt\n", "models"),
        ("study: 1\nmodels: {a: b}\nprob: a.txt\n", "probe"),
    ):
        file.write_text(text)
        with pytest.raises(PicoLMError, match=sentence):
            read_study(file)
    file.write_text("study: 1\nmodels: {a: runs/a*, b: [x, y]}\nprobe: a.txt\n")
    assert read_study(file).models == {"a": ("runs/a*",), "b": ("x", "y")}
