"""Every site holds what a forward written out by hand, without the model's modules, gives."""

import math

import pytest
import torch
from torch import Tensor

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.initialization import build_model
from picolm.model.sites import layer_of, matching, recorded, sites_of
from picolm.model.transformer import Transformer

ROWS, LENGTH, HEADS, KEYS, WIDTH = 3, 9, 4, 2, 8


def model(attention: str = "causal", **changes: object) -> Transformer:
    config = schema.Model.model_validate(
        {"vocab_size": 40, "d_model": HEADS * WIDTH, "n_layers": 2, "n_heads": HEADS, "n_kv_heads": KEYS, "d_ffn": 24}
        | {"attention": attention, "init": {"std": 0.3}, **changes}
    )
    net = build_model(config, seed=0).double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if net.role(name) == "norm":  # else a norm's weight, or its absence, would not show
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    return net


def tokens() -> Tensor:
    return torch.randint(0, 40, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))


def see(net: Transformer, *patterns: str, **inputs: Tensor) -> dict[str, Tensor]:
    sites, seen = sites_of(net), {}
    chosen = {name: sites[name] for name in matching(patterns or sites, sites, key="test")}
    with recorded(net, chosen, lambda name, tensor, _: seen.__setitem__(name, tensor.detach())), torch.no_grad():
        net(tokens(), **inputs)
    return seen


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """x [B, heads, T, C]; pairs (i, i + C/2) as complex numbers, turned by the position's angle."""
    half = x.shape[-1] // 2
    angles = positions[:, None, :, None] * 10000.0 ** (-torch.arange(half, dtype=torch.double) / half)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1)


def by_hand(net: Transformer, positions: Tensor, allowed: Tensor) -> dict[str, Tensor]:
    """The whole forward in loops over heads; `allowed` [B, T, T] says what each query may look at."""
    weights = dict(net.named_parameters())
    found = {"embedding": weights["embedding.weight"][tokens()]}
    x = found["residual.0"] = found["embedding"]
    for i in range(2):
        at = f"layers.{i}"
        normed = found[f"{at}.attention_norm"] = norm(x, weights[f"{at}.attention_norm.weight"])
        parts = {}
        for letter, name, n_heads in (("q", "query", HEADS), ("k", "key", KEYS), ("v", "value", KEYS)):
            projected = found[f"{at}.attention.{letter}_proj"] = (
                normed @ weights[f"{at}.attention.{letter}_proj.weight"].T
            )
            split = projected.view(ROWS, LENGTH, n_heads, WIDTH)
            if net.config.qk_norm and letter != "v":
                split = found[f"{at}.attention.{letter}_norm"] = norm(
                    split, weights[f"{at}.attention.{letter}_norm.weight"]
                )
            parts[name] = split.transpose(1, 2) if letter == "v" else rotated(split.transpose(1, 2), positions)
        patterns, mixed = torch.zeros(ROWS, HEADS, LENGTH, LENGTH).double(), torch.zeros(ROWS, HEADS, LENGTH, WIDTH)
        mixed = mixed.double()
        for b in range(ROWS):
            for h in range(HEADS):
                key, value = (parts[name][b, h // (HEADS // KEYS)] for name in ("key", "value"))
                for t in range(LENGTH):
                    exponentials = torch.exp(key @ parts["query"][b, h, t] / math.sqrt(WIDTH)) * allowed[b, t]
                    total = exponentials.sum()
                    patterns[b, h, t] = exponentials / total if total > 0 else 0.0
                mixed[b, h] = patterns[b, h] @ value
        found |= {f"{at}.attention.{name}": part for name, part in parts.items()}
        found |= {f"{at}.attention.pattern": patterns, f"{at}.attention.mixed": mixed}
        joined = mixed.transpose(1, 2).reshape(ROWS, LENGTH, HEADS * WIDTH)
        found[f"{at}.attention"] = found[f"{at}.attention.o_proj"] = joined @ weights[f"{at}.attention.o_proj.weight"].T
        x = x + found[f"{at}.attention"]
        normed = found[f"{at}.mlp_norm"] = norm(x, weights[f"{at}.mlp_norm.weight"])
        gate = found[f"{at}.mlp.gate_proj"] = normed @ weights[f"{at}.mlp.gate_proj.weight"].T
        up = found[f"{at}.mlp.up_proj"] = normed @ weights[f"{at}.mlp.up_proj.weight"].T
        down = (gate / (1 + torch.exp(-gate)) * up) @ weights[f"{at}.mlp.down_proj.weight"].T
        found[f"{at}.mlp"] = found[f"{at}.mlp.down_proj"] = down
        x = found[at] = found[f"residual.{i + 1}"] = x + down
    found["hidden"] = found["output_norm"] = norm(x, weights["output_norm.weight"])
    return found


def compare(seen: dict[str, Tensor], expected: dict[str, Tensor], real: Tensor | None = None) -> None:
    assert set(seen) == set(expected)
    for name, tensor in expected.items():
        assert seen[name].shape == tensor.shape, name
        ours, theirs = seen[name], tensor
        if real is not None:  # what stands at padding means nothing
            dimension = 2 if tensor.dim() == 4 and "norm" not in name else 1
            ours, theirs = (
                x.masked_fill(~real.view(ROWS, *[1] * (dimension - 1), LENGTH, *[1] * (x.dim() - dimension - 1)), 0)
                for x in (ours, theirs)
            )
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


EVERYWHERE = torch.arange(LENGTH).expand(ROWS, LENGTH)
CAUSAL = torch.ones(ROWS, LENGTH, LENGTH).tril().bool()


@pytest.mark.parametrize("changes", [{}, {"qk_norm": True}, {"tied": True}])
def test_causal_sites(changes: dict[str, object]) -> None:
    net = model(**changes)
    compare(see(net), by_hand(net, EVERYWHERE, CAUSAL))


def test_bidirectional_sites_with_padding() -> None:
    net = model("bidirectional")
    mask = torch.tensor([[True] * 9, [True] * 5 + [False] * 4, [False] * 3 + [True] * 6])
    expected = by_hand(net, EVERYWHERE, mask[:, None].expand(ROWS, LENGTH, LENGTH))
    compare(see(net, attention_mask=mask), expected, real=mask)
    compare(see(net), by_hand(net, EVERYWHERE, torch.ones_like(CAUSAL)))


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_sites_stop_at_document_borders(attention: str) -> None:
    net = model(attention)
    # The number 0 comes back in the first row: it is another stretch then.
    documents = torch.tensor([[0, 0, 0, 1, 1, 0, 0, 2, 2], [3] * 9, [4, 5, 5, 5, 5, 5, 5, -1, -1]])
    borders = torch.cat([torch.zeros(ROWS, 1).bool(), documents[:, 1:] != documents[:, :-1]], dim=1)
    stretch = borders.cumsum(1)
    positions = torch.stack([torch.tensor([int((s[:t] == s[t]).sum()) for t in range(LENGTH)]) for s in stretch])
    allowed = stretch[:, :, None] == stretch[:, None, :]
    if attention == "causal":
        allowed &= CAUSAL
    compare(see(net, documents=documents), by_hand(net, positions, allowed))


def test_patterns_are_probabilities_and_zero_where_nothing_may_be_seen() -> None:
    seen = see(model(), "layers.*.attention.pattern")
    assert len(seen) == 2
    for pattern in seen.values():
        torch.testing.assert_close(pattern.sum(-1), torch.ones(ROWS, HEADS, LENGTH).double())
        assert not pattern.triu(1).any() and pattern.min() >= 0
    mask = torch.tensor([[True] * 9, [False] * 9, [True] * 9])  # a row of nothing but padding
    blank = see(model("bidirectional"), "layers.1.attention.pattern", attention_mask=mask)
    assert not blank["layers.1.attention.pattern"][1].any()
    assert torch.isfinite(blank["layers.1.attention.pattern"]).all()


def test_the_embedding_is_seen_after_its_dropout() -> None:
    net = model(dropout=0.5).train()
    seen = see(net, "residual.0", "embedding")
    dropped = seen["residual.0"] == 0
    assert 0.3 < dropped.double().mean() < 0.7
    torch.testing.assert_close(seen["residual.0"][~dropped], 2 * seen["embedding"][~dropped])


def test_looking_changes_nothing_and_leaves_nothing() -> None:
    net = model()
    plain = net(tokens())
    seen: list[Tensor] = []
    with recorded(net, sites_of(net), lambda name, tensor, _: seen.append(tensor)):
        assert torch.equal(net(tokens()), plain)
    assert len(seen) == len(sites_of(net))
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_hooks_with_kwargs
    with pytest.raises(RuntimeError), recorded(net, sites_of(net), lambda name, tensor, _: seen.append(tensor)):
        raise RuntimeError
    assert not any(module._forward_hooks for module in net.modules())


def test_patterns_match_part_by_part() -> None:
    names = list(sites_of(model()))
    assert matching(["layers.*.attention.o_proj"], names, key="k") == [
        "layers.0.attention.o_proj",
        "layers.1.attention.o_proj",
    ]
    assert matching(["residual.*"], names, key="k") == ["residual.0", "residual.1", "residual.2"]
    assert matching(["layers.[1-9].mlp.*_proj"], names, key="k") == [
        f"layers.1.mlp.{kind}_proj" for kind in ("gate", "up", "down")
    ]
    assert matching([], names, key="k") == []
    with pytest.raises(PicoLMError, match="k: the model has no site 'layers'"):
        matching(["layers"], names, key="k")
    assert layer_of("layers.11.mlp") == 11 and layer_of("residual.0") == 0 and layer_of("hidden") is None


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("layers.*.attention.o_prj", r"did you mean 'layers\.\*\.attention\.o_proj'\?"),
        ("layers.7.mlp.down_proj", r"did you mean 'layers\.\*\.mlp\.down_proj'\?"),
        ("resid.*", r"did you mean 'residual\.\*'\?"),
    ],
)
def test_an_unknown_site_is_answered_with_the_nearest(pattern: str, hint: str) -> None:
    with pytest.raises(PicoLMError, match=hint):
        matching([pattern], sites_of(model()), key="capture.activations")
