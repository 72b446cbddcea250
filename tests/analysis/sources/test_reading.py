"""Sites of real suites: patterns, circuits, updates and what is read for them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from picolm.analysis.circuits import Factors
from picolm.analysis.opening import open_source
from picolm.analysis.probe import Probe
from picolm.analysis.reading import build_gradients, digests, read_matrices
from picolm.analysis.sites import (
    MatrixSite,
    activation_sites,
    head_of,
    matrix_sites,
    select_activations,
    select_matrices,
)
from picolm.analysis.source import Source
from picolm.analysis.sources.store import SafetensorsStore
from picolm.analysis.subject import look
from picolm.errors import PicoLMError

Suites = dict[str, tuple[Path, dict[int, nn.Module]]]
Saved = Callable[[str], tuple[Path, nn.Module]]


def sites_of(source: Source, *patterns: str) -> list[MatrixSite]:
    snapshot = source.snapshot(source.steps[-1])
    return select_matrices(patterns, matrix_sites(snapshot.shapes, source.geometry), key="--sites")


def labels(sites: Iterable[MatrixSite]) -> list[str]:
    return [site.label for site in sites]


def test_patterns_name_matrices_circuits_and_updates(neox_suites: Suites) -> None:
    source = open_source(neox_suites["small"][0])
    assert labels(sites_of(source, "layers.*.mlp.down_proj")) == [f"layers.{layer}.mlp.down_proj" for layer in range(3)]
    assert labels(sites_of(source, "unembedding", "embedding", "embedding")) == ["unembedding", "embedding"]
    # All heads, and not the layer as a whole beside them.
    heads = sites_of(source, "layers.1.attention.ov.*")
    assert labels(heads) == [f"layers.1.attention.ov.{head}" for head in range(4)]
    assert [(site.layer, site.head) for site in heads] == [(1, head) for head in range(4)]
    whole, update = sites_of(source, "layers.2.attention.ov_concatenated", "delta(layers.2.attention.qk.3; init)")
    assert (whole.layer, whole.head, whole.parts) == (
        2,
        None,
        ("layers.2.attention.v_proj", "layers.2.attention.o_proj"),
    )
    assert (update.label, update.layer, update.head) == ("delta(layers.2.attention.qk.3; init, t)", 2, 3)
    # Vectors are no matrices.
    every = matrix_sites(source.snapshot(0).shapes, source.geometry)
    assert "layers.0.attention_norm" not in every and "layers.0.attention.q_proj.bias" not in every
    assert len(every) == 2 + 3 * (4 + 2) + 3 * (2 * 4 + 1)


def test_an_unknown_site_is_answered_with_the_nearest(neox_suites: Suites) -> None:
    source = open_source(neox_suites["small"][0])
    for pattern, hint in (
        (
            "layers.*.attention.o_prj",
            r"--sites: the model has no matrix .*; did you mean 'layers\.\*\.attention\.o_proj'",
        ),
        ("layers.0.attention.ov.4", r"did you mean 'layers\.\*\.attention\.ov\.\*'"),
        ("delta(embeding; init)", "has no matrix 'embeding'; did you mean 'embedding'"),
        ("delta(embedding; soon)", "an update is delta"),
    ):
        with pytest.raises(PicoLMError, match=hint):
            sites_of(source, pattern)
    with pytest.raises(PicoLMError, match="the model has no activation 'residual\\.x'"):
        select_activations(["residual.x"], activation_sites(["residual.0"], source.geometry), key="k")


def test_heads_in_names() -> None:
    assert head_of("layers.3.attention.ov.5") == 5 and head_of("layers.3.attention.qk.0") == 0
    for name in (
        "layers.3",
        "residual.3",
        "layers.3.attention.ov_concatenated",
        "layers.3.attention.o_proj",
        "embedding",
    ):
        assert head_of(name) is None


def test_circuits_of_a_suite_equal_products_of_the_modules_matrices(neox_suites: Suites) -> None:
    root, models = neox_suites["large"]
    source = open_source(root)
    sites = sites_of(source, "layers.1.attention.ov.*", "layers.1.attention.qk.*", "layers.1.attention.ov_concatenated")
    found = read_matrices(source, sites, 512)
    fused = models[512].get_parameter("gpt_neox.layers.1.attention.query_key_value.weight").detach().view(4, 3, 8, 32)
    output = models[512].get_parameter("gpt_neox.layers.1.attention.dense.weight").detach()
    total = torch.zeros(32, 32)
    for head in range(4):
        query, key, value = fused[head]
        ov, qk = (found[f"layers.1.attention.{name}.{head}"] for name in ("ov", "qk"))
        assert isinstance(ov, Factors) and isinstance(qk, Factors)
        assert ov.left.shape == (32, 8) and ov.right.shape == (8, 32)
        product = output[:, head * 8 : (head + 1) * 8] @ value
        torch.testing.assert_close(ov.product(), product)
        torch.testing.assert_close(qk.product(), query.T @ key)
        spectrum = torch.linalg.svdvals(product.double())
        torch.testing.assert_close(torch.linalg.svdvals(ov.core()), spectrum[:8], rtol=1e-5, atol=1e-6)
        total += product
    whole = found["layers.1.attention.ov_concatenated"]
    assert isinstance(whole, Factors)
    torch.testing.assert_close(whole.product(), total)


def test_updates_between_checkpoints(neox_suites: Suites) -> None:
    root, models = neox_suites["small"]
    source = open_source(root)
    name = "gpt_neox.layers.0.mlp.dense_4h_to_h.weight"
    weights = {step: model.get_parameter(name).detach() for step, model in models.items()}
    patterns = [f"delta(layers.0.mlp.down_proj; {moments})" for moments in ("previous", "init", "t, t+511", "t, final")]
    sites = sites_of(source, *patterns, "delta(layers.0.attention.ov.1; init)")
    at = {step: read_matrices(source, sites, step) for step in source.steps}
    assert not set(at[0]) & set(labels(sites)[:2]) and set(at[0]) == {labels(sites)[3]}
    assert set(at[1]) == set(labels(sites)) and set(at[1000]) == {labels(sites)[0], labels(sites)[1], labels(sites)[4]}
    assert torch.equal(at[512][labels(sites)[0]], weights[512] - weights[1])  # type: ignore[arg-type]
    assert torch.equal(at[512][labels(sites)[1]], weights[512] - weights[0])  # type: ignore[arg-type]
    assert torch.equal(at[1][labels(sites)[2]], weights[512] - weights[1])  # type: ignore[arg-type]
    assert torch.equal(at[1][labels(sites)[3]], weights[1000] - weights[1])  # type: ignore[arg-type]
    circuit = at[512][labels(sites)[4]]
    products = [read_matrices(source, sites_of(source, "layers.0.attention.ov.1"), step) for step in (0, 512)]
    before, after = (found["layers.0.attention.ov.1"] for found in products)
    assert isinstance(circuit, Factors) and isinstance(before, Factors) and isinstance(after, Factors)
    torch.testing.assert_close(circuit.product(), after.product() - before.product(), rtol=1e-4, atol=1e-5)
    # Among fewer steps, `previous` is another one.
    fewer = read_matrices(source, sites[:1], 1000, there=(0, 1000))
    assert torch.equal(fewer[labels(sites)[0]], weights[1000] - weights[0])  # type: ignore[arg-type]


def test_each_matrix_is_read_once_and_no_other_is(neox_suites: Suites, monkeypatch: pytest.MonkeyPatch) -> None:
    source, read = open_source(neox_suites["small"][0]), list[str]()
    plain = SafetensorsStore.read

    def counted(self: SafetensorsStore, names: Iterable[str]) -> dict[str, Tensor]:
        found = plain(self, names)
        read.extend(f"{self.files[0].parent.name}: {name}" for name in found)
        return found

    monkeypatch.setattr(SafetensorsStore, "read", counted)
    sites = sites_of(
        source, "layers.1.attention.ov.*", "layers.1.attention.v_proj", "delta(layers.1.attention.qk.0; 512)"
    )
    read_matrices(source, sites, 1000)
    at = "gpt_neox.layers.1.attention"
    fused, output = f"{at}.query_key_value.weight", f"{at}.dense.weight"
    assert sorted(read) == sorted([f"step1000: {fused}", f"step1000: {output}", f"step512: {fused}"])


def test_digests_tell_content_and_not_place(neox_suites: Suites, tmp_path: Path) -> None:
    import shutil

    source = open_source(neox_suites["small"][0])
    patterns = ["layers.1.attention.ov.*", "layers.*.mlp.down_proj", "delta(layers.1.mlp.down_proj; init)"]
    sites = sites_of(source, *patterns)
    found = {step: digests(source, sites, step) for step in source.steps}
    assert set(found[0]) == set(labels(sites)[:-1]) and set(found[1]) == set(labels(sites))
    everything = [one for at in found.values() for one in at.values()]
    assert len(set(everything)) == len(everything)
    shutil.copytree(source.path / "step512", tmp_path / "other" / "checkpoint-3")
    other = open_source(tmp_path / "other")
    assert digests(other, sites[:-1], 3) == {site: found[512][site] for site in labels(sites)[:-1]}


def test_gradients_of_circuits_are_those_of_their_products(saved: Saved, tokens: Tensor) -> None:
    """Along one small step against the gradient, the product changes as the product rule says."""
    source = open_source(saved("llama")[0])
    snapshot = source.snapshot(0)
    sites = sites_of(source, "layers.1.attention.ov.*", "layers.1.attention.qk.2", "layers.1.attention.o_proj")
    parts = sorted({name for site in sites for name in site.parts})
    weights = snapshot.read(parts)
    gradients = look(snapshot.subject(), Probe.causal(tokens), gradients=parts).gradients
    found = build_gradients(sites, weights, gradients)
    assert torch.equal(found["layers.1.attention.o_proj"], gradients["layers.1.attention.o_proj"])  # type: ignore[arg-type]
    for site in sites[:-1]:
        change = found[site.label]
        assert isinstance(change, Factors)
        products = []
        for sign in (1e-3, -1e-3):
            moved = [weights[name].double() + sign * gradients[name].double() for name in site.parts]
            made = site.build(*moved)
            assert isinstance(made, Factors)
            products.append(made.product())
        numeric = (products[0] - products[1]) / 2e-3
        torch.testing.assert_close(change.product().double(), numeric, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama", "bert"])
def test_values_through_the_output_are_attention_to_one_token(name: str, saved: Saved) -> None:
    """In rows of one token attention has nothing else to look at: what it adds is this, and the output's bias."""
    source = open_source(saved(name)[0])
    snapshot = source.snapshot(0)
    subject, at = snapshot.subject(), "layers.1.attention"
    single = Probe(torch.arange(2, 12)[:, None])
    sites = activation_sites(subject.sites, source.geometry)
    chosen = select_activations([f"{at}.ov_concatenated", f"{at}.ov.*"], sites, key="k")
    assert [site.name for site in chosen] == [f"{at}.ov.{head}" for head in range(4)] + [f"{at}.ov_concatenated"]
    seen = look(subject, single, activations=[f"{at}.v_proj", at]).activations
    weights = snapshot.read([f"{at}.o_proj"])
    made = {site.name: site.build(seen[site.part], *(weights[matrix] for matrix in site.weights)) for site in chosen}
    bias = snapshot.read([f"{at}.o_proj.bias"])[f"{at}.o_proj.bias"] if f"{at}.o_proj.bias" in snapshot.shapes else 0.0
    torch.testing.assert_close(made[f"{at}.ov_concatenated"] + bias, seen[at], rtol=1e-5, atol=1e-5)
    heads = torch.stack([made[f"{at}.ov.{head}"] for head in range(4)]).sum(0)
    torch.testing.assert_close(heads, made[f"{at}.ov_concatenated"], rtol=1e-5, atol=1e-5)
