"""Plans: which metrics go to which sites, and what is said where none fits."""

from __future__ import annotations

import pytest

from picolm.analysis.geometry import Geometry
from picolm.analysis.plan import There, make_plan, names_of
from picolm.analysis.sites import activation_sites, matrix_sites
from picolm.errors import PicoLMError

GEOMETRY = Geometry("picolm", 2, 16, 4, 2, 4, 50, True, 4)
ATTENTION = {f"layers.{layer}.attention.{letter}_proj": (16 if letter in "qo" else 8, 16)
             for layer in range(2) for letter in "qkvo"}  # fmt: skip
SHAPES = {**ATTENTION, "embedding": (50, 16), "unembedding": (50, 16), "output_norm": (16,)}
SEEN = ["residual.0", "residual.1", "layers.0.attention.v_proj", "layers.0.attention.pattern"]
THERE = There(
    matrix_sites(SHAPES, GEOMETRY),
    ["layers.0.attention.o_proj", "layers.0.attention.v_proj", "layers.0.attention.ov.0"],
    activation_sites(SEEN, GEOMETRY),
)


def test_one_pattern_serves_the_weights_and_the_activations_of_its_name() -> None:
    plan = make_plan(["per", "rank_me"], ["layers.*.attention.v_proj"], THERE)
    assert [site.name for site in plan.weights] == ["layers.0.attention.v_proj", "layers.1.attention.v_proj"]
    assert [site.name for site in plan.activations] == ["layers.0.attention.v_proj"]
    assert {tuple(names_of(metrics)) for metrics in plan.weights.values()} == {("per",)}
    assert {tuple(names_of(metrics)) for metrics in plan.activations.values()} == {("rank_me",)}


def test_patterns_of_attention_go_to_their_metrics_alone() -> None:
    plan = make_plan(["rank_me", "sink_mass"], ["layers.0.attention.*", "residual.1"], THERE)
    of = {site.name: names_of(metrics) for site, metrics in plan.activations.items()}
    assert of["layers.0.attention.pattern"] == ["sink_mass"]
    assert of["residual.1"] == of["layers.0.attention.v_proj"] == ["rank_me"]


def test_updates_and_gradients_are_sites_of_metrics_of_matrices() -> None:
    patterns = [
        "delta(layers.*.attention.ov.3; init)",
        "gradient(layers.0.attention.*)",
        "gradient(layers.0.attention.ov.*)",
    ]
    plan = make_plan(["per", "frobenius_norm", "noise_scale"], patterns, THERE)
    assert [site.label for site in plan.weights] == [f"delta(layers.{at}.attention.ov.3; init, t)" for at in range(2)]
    of = {site.name: names_of(metrics) for site, metrics in plan.gradients.items()}
    assert of["layers.0.attention.o_proj"] == ["per", "frobenius_norm", "noise_scale"]
    # A circuit is no parameter.
    assert of["layers.0.attention.ov.0"] == ["per", "frobenius_norm"]


@pytest.mark.parametrize(
    ("metrics", "sites", "sentence"),
    [
        (["effective_rnak"], ["embedding"], "no metric 'effective_rnak'; did you mean .*effective_rank"),
        ([], ["embedding"], "name at least one metric"),
        (["per"], [], "name at least one site, for example"),
        (["per"], ["layers.*.atention.o_proj"], r"there is no site 'layers.\*.atention.o_proj'.*attention.o_proj"),
        (["per"], ["residual.*"], r"metric 'per' takes matrices, .* for example layers.\*.attention.o_proj"),
        (["cka"], ["embedding"], r"metric 'cka' takes activations, .* for example .*residual"),
        (["sink_mass"], ["residual.0"], r"'sink_mass' takes probabilities of attention, .*layers.\*.attention.pattern"),
        (["per"], ["embedding", "residual.0"], "site 'residual.0' serves none of the metrics: per takes matrices"),
        (["per"], ["gradient(embedding)"], "there is no gradient of 'embedding'"),
        (["per"], ["delta(embedding; yesterday)"], "an update is delta"),
    ],
)
def test_what_does_not_fit_is_named(metrics: list[str], sites: list[str], sentence: str) -> None:
    with pytest.raises(PicoLMError, match=sentence):
        make_plan(metrics, sites, THERE)
