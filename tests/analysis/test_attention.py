"""What heads look at: closed forms, loops over queries, and patterns of a real model with padding and documents."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.attention import (
    attended_distance,
    attention_entropy,
    head_distance,
    head_distances,
    own_and_previous_mass,
    sink_mass,
    visible_keys,
)
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.initialization import build_model
from picolm.model.sites import recorded, sites_of

T = 8


def uniform(length: int = T) -> Tensor:
    allowed = torch.ones(length, length).tril()
    return allowed / allowed.sum(-1, keepdim=True)


def random_pattern(*leading: int, length: int = T, seed: int = 0) -> Tensor:
    scores = 2 * torch.randn(
        *leading, length, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf).softmax(-1)


def looking(at: list[int]) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(at), len(at)).float()


def test_equal_attention_to_all_before_has_normalised_entropy_1() -> None:
    found = attention_entropy(uniform())
    assert float(found["normalised"]) == pytest.approx(1.0, abs=1e-6)
    # The first query has no choice and is left out.
    assert float(found["raw"]) == pytest.approx(sum(math.log(i) for i in range(2, T + 1)) / (T - 1), abs=1e-6)


def test_attention_to_one_key_has_entropy_0() -> None:
    for at in (list(range(T)), [0] * T, [0, *range(T - 1)]):
        found = attention_entropy(looking(at))
        assert float(found["raw"]) == 0.0 and float(found["normalised"]) == 0.0


def test_masses_and_distances_of_pure_heads() -> None:
    own, previous, sink = looking(list(range(T))), looking([0, *range(T - 1)]), looking([0] * T)
    values = own_and_previous_mass(torch.stack([own, previous, sink]))
    assert values["own"].tolist() == [1, 0, 0]
    # Query 1 looks at key 0, which is both the one before and the first.
    assert values["previous"].tolist() == pytest.approx([0, 1, 1 / (T - 1)])
    assert sink_mass(torch.stack([own, previous, sink])).tolist() == pytest.approx([0, 1 / (T - 1), 1])
    distances = attended_distance(torch.stack([own, previous, sink]))
    assert distances.tolist() == pytest.approx([0, 1, sum(range(1, T)) / (T - 1)])


def test_equal_attention_in_closed_form() -> None:
    # Query i (from 1) puts 1 / i on the first key, and looks (i - 1) / 2 away.
    queries = range(2, T + 1)
    assert float(sink_mass(uniform())) == pytest.approx(sum(1 / i for i in queries) / (T - 1), abs=1e-6)
    assert float(attended_distance(uniform())) == pytest.approx(sum((i - 1) / 2 for i in queries) / (T - 1), abs=1e-6)


@given(st.integers(0, 10_000))
def test_all_are_means_over_queries_of_what_a_loop_gives(seed: int) -> None:
    pattern = random_pattern(2, 3, length=5, seed=seed)
    expected = {name: torch.zeros(2, 3) for name in ("raw", "normalised", "sink", "distance", "own", "previous")}
    for b in range(2):
        for h in range(3):
            for i in range(1, 5):
                row = pattern[b, h, i, : i + 1].tolist()
                entropy = -sum(a * math.log(a) for a in row if a > 0)
                expected["raw"][b, h] += entropy / 4
                expected["normalised"][b, h] += entropy / math.log(i + 1) / 4
                expected["sink"][b, h] += row[0] / 4
                expected["distance"][b, h] += sum(a * (i - j) for j, a in enumerate(row)) / 4
                expected["own"][b, h] += row[i] / 4
                expected["previous"][b, h] += row[i - 1] / 4
    found = {
        **attention_entropy(pattern),
        **own_and_previous_mass(pattern),
        "sink": sink_mass(pattern),
        "distance": attended_distance(pattern),
    }
    for name, value in found.items():
        assert value.dtype == torch.float64
        assert torch.allclose(value, expected[name].double(), atol=1e-6), name


def jensen_shannon(a: Tensor, b: Tensor) -> float:
    middle = (a + b) / 2
    total = 0.0
    for one in (a, b):
        total += sum(p * math.log2(p / m) for p, m in zip(one.tolist(), middle.tolist(), strict=True) if p > 0) / 2
    return total


def test_head_distances_are_jensen_shannon_divergences_in_bits() -> None:
    pattern = random_pattern(2, 4, length=6)
    found = head_distances(pattern)
    for b, g, h in [(0, 0, 1), (0, 2, 3), (1, 1, 3)]:
        expected = sum(jensen_shannon(pattern[b, g, i], pattern[b, h, i]) for i in range(1, 6)) / 5
        assert float(found[b, g, h]) == pytest.approx(expected, abs=1e-12)
    assert torch.equal(found, found.mT) and (found.diagonal(dim1=-2, dim2=-1) == 0).all()
    assert torch.allclose(head_distance(pattern), found.sum(-1) / 3)


def test_heads_that_look_alike_have_distance_0_and_those_that_never_meet_1() -> None:
    own, previous = looking(list(range(T))), looking([0, *range(T - 1)])
    assert head_distances(torch.stack([own, previous]))[0, 1] == 1.0
    same = random_pattern(1)
    assert head_distances(torch.cat([same, same])).abs().max() < 1e-15
    assert head_distance(same).isnan().all()  # one head has no others


def test_the_order_of_heads_changes_nothing_else() -> None:
    pattern, order = random_pattern(5), torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(head_distances(pattern[order]), head_distances(pattern)[order][:, order], atol=1e-15)


def model(attention: str) -> tuple[torch.nn.Module, Tensor]:
    config = schema.Model.model_validate(
        {"vocab_size": 40, "d_model": 32, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 24}
        | {"attention": attention, "init": {"std": 0.3}}
    )
    tokens = torch.randint(0, 40, (3, T), generator=torch.Generator().manual_seed(1))
    return build_model(config, seed=0).double(), tokens


def patterns(net: torch.nn.Module, tokens: Tensor, **inputs: Tensor) -> Tensor:
    site = "layers.0.attention.pattern"
    seen = {}
    with (
        recorded(net, {site: sites_of(net)[site]}, lambda name, tensor, _: seen.__setitem__(name, tensor)),
        torch.no_grad(),
    ):
        net(tokens, **inputs)
    return seen[site]


ALL = (
    lambda pattern, **more: attention_entropy(pattern, **more)["raw"],
    lambda pattern, **more: attention_entropy(pattern, **more)["normalised"],
    lambda pattern, **more: own_and_previous_mass(pattern, **more)["previous"],
    sink_mass,
    attended_distance,
    head_distance,
)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("function", ALL)
def test_padding_changes_nothing(attention: str, function) -> None:  # type: ignore[no-untyped-def]
    net, tokens = model(attention)
    mask = torch.ones(3, T, dtype=torch.bool)
    mask[1, 5:], mask[2, 2:] = False, False
    padded = patterns(net, tokens, attention_mask=mask)
    found = function(padded, visible=visible_keys(mask, causal=attention == "causal"))
    assert found.shape == (3, 4)
    for row, length in enumerate([T, 5, 2]):
        alone = patterns(net, tokens[row : row + 1, :length])
        full = visible_keys(torch.ones(1, length), causal=attention == "causal")
        assert torch.allclose(found[row], function(alone, visible=full)[0], atol=1e-12)


def test_documents_are_seen_as_texts_of_their_own() -> None:
    net, tokens = model("causal")
    documents = torch.tensor([[0] * 4 + [1] * 4])
    together = patterns(net, tokens[:1], documents=documents)
    visible = visible_keys(torch.ones(1, T), documents=documents)
    parts = torch.cat([patterns(net, tokens[:1, :4]), patterns(net, tokens[:1, 4:])])
    for function in ALL:
        # Three counted queries in each document, so the mean of the two is that of the row.
        assert torch.allclose(function(together, visible=visible)[0], function(parts).mean(0), atol=1e-12)


def test_rows_without_a_choice_are_nan() -> None:
    for function in ALL:
        assert function(torch.ones(2, 1, 1)).isnan().all()
        nothing = visible_keys(torch.zeros(1, T))
        assert function(random_pattern(1, 2), visible=nothing).isnan().all()


def test_what_is_not_counted_may_be_nan_and_what_is_counted_shows_it() -> None:
    pattern, mask = random_pattern(1, 2), torch.ones(1, T, dtype=torch.bool)
    mask[0, 6:] = False
    broken = pattern.clone()
    broken[..., 6:, :], broken[..., :, 6:] = math.nan, math.nan
    for function in ALL:
        visible = visible_keys(mask)
        assert torch.equal(function(broken, visible=visible), function(pattern, visible=visible))
        assert function(broken).isnan().all()


def test_patterns_in_half_precision_are_summed_precisely() -> None:
    rounded = random_pattern(2, 2, length=64).bfloat16()
    found = attention_entropy(rounded)["raw"]
    assert torch.allclose(found, attention_entropy(rounded.double())["raw"], rtol=1e-6)


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(PicoLMError, match=r"capture.positions: all"):
        attention_entropy(torch.ones(2, 1, 8) / 8)
    with pytest.raises(PicoLMError, match="`visible`"):
        sink_mass(torch.full((4, 4), 0.25))  # a bidirectional pattern, taken for causal
    pattern, mask = random_pattern(3, 3), torch.ones(3, T, T).tril()
    # Masks of three rows, which would pass for masks of three heads; an additive mask; one of another length.
    for visible in (mask.bool(), mask[:, None], torch.ones(4, 4).tril().bool()):
        with pytest.raises(PicoLMError, match="must be booleans"):
            attention_entropy(pattern, visible=visible)
    with pytest.raises(PicoLMError, match=r"\[..., H, T, T\]"):
        head_distances(uniform())
