from typing import Any

import pytest
import torch

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.training.optimizer import apply_update, build_optimizer, gradient_norm, parameter_groups, set_learning_rate

CONFIG = schema.Model(vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=12, qk_norm=True)
NO_HEADS = torch.nn.ModuleDict()
RUN, SKIP = torch.zeros(()), torch.ones(())


def built(model: Any, heads: torch.nn.Module, settings: Any) -> torch.optim.AdamW:
    return build_optimizer(parameter_groups(model, heads, settings), settings)


@pytest.mark.parametrize("tied", [False, True])
def test_norms_and_embeddings_do_not_decay(tied: bool) -> None:
    model = build_model(schema.Model.model_validate({**CONFIG.model_dump(), "tied": tied}), 0)
    decayed, kept = parameter_groups(model, NO_HEADS, schema.AdamW(weight_decay=0.3))
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert all(name.endswith(("norm.weight", "embedding.weight")) for name in kept["names"] if "un" not in name)
    assert "embedding.weight" in kept["names"]
    assert ("unembedding.weight" in decayed["names"]) is not tied
    assert not any("norm" in name for name in decayed["names"])
    assert len(decayed["names"]) + len(kept["names"]) == len(list(model.parameters()))


def test_all_decay_as_the_original_did() -> None:
    groups = parameter_groups(build_model(CONFIG, 0), NO_HEADS, schema.AdamW(decay="all", weight_decay=0.01))
    assert len(groups) == 1 and groups[0]["weight_decay"] == 0.01


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = build_model(CONFIG, 0)
    model.embedding.weight.requires_grad_(False)
    names = [name for group in parameter_groups(model, NO_HEADS, schema.AdamW()) for name in group["names"]]
    assert "embedding.weight" not in names and "unembedding.weight" in names


def test_the_update_is_adamw() -> None:
    model = build_model(CONFIG, 0).double()
    settings = schema.AdamW(learning_rate=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2)
    optimizer = built(model, NO_HEADS, settings)
    name, expected = "layers.0.mlp.up_proj.weight", model.layers[0].mlp.up_proj.weight.detach().clone()
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    for step, learning_rate in enumerate((0.1, 0.05, 0.2), start=1):
        for index, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(100 * step + index)
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        gradient = model.get_parameter(name).grad.clone()
        set_learning_rate(optimizer, 0, lambda _, group, multiple=learning_rate / 0.1: group["peak"] * multiple)
        apply_update(optimizer, skip=RUN)
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        expected = expected * (1 - learning_rate * 0.2)
        corrected = (second / (1 - 0.9**step)).sqrt() + 1e-3
        expected = expected - learning_rate * (first / (1 - 0.8**step)) / corrected
    torch.testing.assert_close(model.get_parameter(name).detach(), expected, rtol=1e-12, atol=1e-12)


def test_a_skipped_update_leaves_weights_moments_and_counts() -> None:
    model = build_model(CONFIG, 0)
    optimizer = built(model, NO_HEADS, schema.AdamW(learning_rate=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    apply_update(optimizer, skip=RUN)
    weights = [p.detach().clone() for p in model.parameters()]
    states = [{k: v.clone() for k, v in optimizer.state[p].items()} for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    apply_update(optimizer, skip=SKIP)
    for parameter, weight, state in zip(model.parameters(), weights, states, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, weight)
        assert all(torch.equal(optimizer.state[parameter][key], value) for key, value in state.items())


def test_the_norm_is_that_of_the_whole_gradient_and_clipping_scales_it() -> None:
    parameters = [
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
        torch.nn.Parameter(torch.zeros(3)),
    ]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert gradient_norm(parameters, None).item() == 5.0
    assert parameters[1].grad.item() == 4.0
    assert gradient_norm(parameters, 2.5).item() == 5.0
    assert gradient_norm(parameters, 2.5).item() == pytest.approx(2.5, rel=1e-5)
    assert gradient_norm(parameters, 99.0).item() == pytest.approx(2.5, rel=1e-5)
