import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import picolm
from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.training.muon import COEFFICIENTS, Muon, orthogonalize, scale_of
from picolm.training.optimizer import apply_update, build_optimizer, parameter_groups, set_learning_rate

CONFIG = schema.Model(vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=12, qk_norm=True)
NO_HEADS = torch.nn.ModuleDict()
RUN, SKIP = torch.zeros(()), torch.ones(())


def built(model: Any, heads: torch.nn.Module, settings: Any) -> torch.optim.AdamW:
    return build_optimizer(parameter_groups(model, heads, settings), settings)


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def give_gradients(model: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    gradients = {}
    for index, (name, parameter) in enumerate(model.named_parameters()):
        gradients[name] = random(tuple(parameter.shape), 100 * seed + index, parameter.dtype)
        parameter.grad = gradients[name].clone()
    return gradients


@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 4, 9), (2, 9, 4), (3, 5, 7)])
def test_only_singular_values_change_and_by_the_quintic(shape: tuple[int, ...]) -> None:
    matrices = random(shape, 1)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    s = s / matrices.flatten(-2).norm(dim=-1)[..., None]
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalize(matrices, torch.double), u * s[..., None, :] @ v, rtol=1e-10, atol=1e-10)


def test_singular_values_end_near_one_in_every_precision() -> None:
    matrices = random((4, 48, 96), 2, torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.linalg.svdvals(orthogonalize(matrices, dtype).float())
        assert values.min() > 0.65 and values.max() < 1.25
    assert orthogonalize(torch.zeros(1, 2, 3), torch.float32).abs().max() == 0


def test_scales_by_hand() -> None:
    assert scale_of("spectral", 8, 2) == 2.0 and scale_of("spectral", 2, 8) == 1.0
    assert scale_of("rms_match", 8, 2) == scale_of("rms_match", 2, 8) == pytest.approx(0.2 * math.sqrt(8))
    # With the factor of Moonlight the elements of an exactly orthogonal update have the size 0.2, as AdamW's have.
    update = torch.linalg.qr(random((64, 16), 3)).Q * scale_of("rms_match", 64, 16)
    assert update.square().mean().sqrt().item() == pytest.approx(0.2)


@pytest.mark.parametrize("scale", ["spectral", "rms_match"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_the_update_is_the_published_formula(scale: Any, nesterov: bool) -> None:
    model = build_model(CONFIG, 0).double()
    settings = schema.Muon(learning_rate=0.1, momentum=0.8, nesterov=nesterov, scale=scale, weight_decay=0.3)
    optimizer = built(model, NO_HEADS, settings)
    names = ("layers.0.mlp.up_proj.weight", "layers.1.mlp.down_proj.weight", "layers.1.attention.k_proj.weight")
    expected = {name: model.get_parameter(name).detach().clone() for name in names}
    momentum = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step, multiple in enumerate((1.0, 0.5, 0.25), start=1):
        gradients = give_gradients(model, step)
        set_learning_rate(optimizer, 0, lambda _, group, multiple=multiple: group["peak"] * multiple)
        apply_update(optimizer, skip=RUN)
        for name in names:
            gradient, (rows, columns) = gradients[name], expected[name].shape
            momentum[name] = 0.8 * momentum[name] + 0.2 * gradient
            direction = 0.2 * gradient + 0.8 * momentum[name] if nesterov else momentum[name]
            u, s, v = torch.linalg.svd(direction, full_matrices=False)
            s = s / direction.norm()
            for _ in range(5):
                s = COEFFICIENTS[0] * s + COEFFICIENTS[1] * s**3 + COEFFICIENTS[2] * s**5
            factor = max(1, rows / columns) ** 0.5 if scale == "spectral" else 0.2 * max(rows, columns) ** 0.5
            expected[name] = expected[name] * (1 - 0.1 * multiple * 0.3) - 0.1 * multiple * factor * (u * s) @ v
    for name, value in expected.items():
        torch.testing.assert_close(model.get_parameter(name).detach(), value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("scale", "theirs"), [("spectral", "original"), ("rms_match", "match_rms_adamw")])
def test_the_update_is_that_of_pytorch(scale: Any, theirs: str) -> None:
    # both compute in bfloat16, where one rounding is 2^-8, and sum in another order
    for shape in ((16, 48), (48, 16), (16, 16)):
        ours_w, theirs_w = (torch.nn.Parameter(random(shape, 5, torch.float32)) for _ in range(2))
        group = {"params": [ours_w], "lr": 0.02, "weight_decay": 0.1, "muon": True}
        settings: dict[str, Any] = {"momentum": 0.95, "nesterov": True}
        ours = Muon([group], scale=scale, dtype=torch.bfloat16, betas=(0.9, 0.95), eps=1e-8, **settings)
        reference = torch.optim.Muon([theirs_w], lr=0.02, weight_decay=0.1, adjust_lr_fn=theirs, **settings)
        start = ours_w.detach().clone()
        for step in range(3):
            for weight in (ours_w, theirs_w):
                weight.grad = random(shape, step, torch.float32)
            ours.step()
            reference.step()
        moved, expected = ours_w.detach() - start, theirs_w.detach() - start
        assert (moved - expected).norm() < 0.02 * expected.norm()
        buffers = ours.state[ours_w]["momentum_buffer"], reference.state[theirs_w]["momentum_buffer"]
        torch.testing.assert_close(*buffers)


def test_matrices_taken_together_move_as_they_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for elements in (1, 2**22):
        monkeypatch.setattr("picolm.training.muon.STACK_ELEMENTS", elements)
        model = build_model(CONFIG, 0).double()
        optimizer = built(model, NO_HEADS, schema.Muon())
        give_gradients(model, 1)
        apply_update(optimizer, skip=RUN)
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*moved, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_hidden_matrices_are_muons_and_the_rest_is_adamws(tied: bool) -> None:
    model = build_model(schema.Model.model_validate({**CONFIG.model_dump(), "tied": tied}), 0)
    heads = torch.nn.ModuleDict({"tag": torch.nn.Linear(8, 3)})
    settings = schema.Muon(learning_rate=0.5, weight_decay=0.3, adamw=schema.AdamWRule(learning_rate=0.1))
    groups = parameter_groups(model, heads, settings)
    orthogonal, decayed, kept = groups
    assert [group["muon"] for group in groups] == [True, False, False]
    assert sorted(orthogonal["names"]) == sorted(
        n for n, p in model.named_parameters() if "layers" in n and p.dim() == 2
    )
    assert decayed["names"] == ([] if tied else ["unembedding.weight"]) + ["heads.tag.weight"]
    assert "embedding.weight" in kept["names"] and "heads.tag.bias" in kept["names"]
    assert [group["peak"] for group in groups] == [0.5, 0.1, 0.1]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.1, 0.0]
    optimizer = built(model, heads, settings)
    set_learning_rate(optimizer, 0, lambda _, group: group["peak"] * (0.5))
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.05, 0.05]


def test_what_is_not_muons_moves_as_under_adamw_alone() -> None:
    rule = schema.AdamWRule(learning_rate=0.03, betas=(0.7, 0.8), eps=1e-4, weight_decay=0.2)
    models = [build_model(CONFIG, 0) for _ in range(2)]
    optimizers = [
        built(models[0], NO_HEADS, schema.Muon(adamw=rule)),
        built(models[1], NO_HEADS, schema.AdamW(**rule.model_dump())),
    ]
    for step in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            give_gradients(model, step)
            apply_update(optimizer, skip=RUN)
    for name in ("embedding.weight", "unembedding.weight", "output_norm.weight", "layers.0.attention.q_norm.weight"):
        assert torch.equal(models[0].get_parameter(name), models[1].get_parameter(name)), name
    assert not torch.equal(*(model.get_parameter("layers.0.mlp.up_proj.weight") for model in models))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_skipped_update_changes_no_bit(poison: float) -> None:
    model = build_model(CONFIG, 0)
    optimizer = built(model, NO_HEADS, schema.Muon())
    give_gradients(model, 1)
    apply_update(optimizer, skip=RUN)

    def bits() -> list[bytes]:
        state = [optimizer.state[p][key] for p in model.parameters() for key in sorted(optimizer.state[p])]
        return [tensor.detach().numpy().tobytes() for tensor in (*model.parameters(), *state)]

    before = bits()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, poison)
    apply_update(optimizer, skip=SKIP)
    assert bits() == before and all(parameter.grad is None for parameter in model.parameters())
    give_gradients(model, 2)
    apply_update(optimizer, skip=RUN)
    assert all(now != then for now, then in zip(bits(), before, strict=True))


def test_a_run_with_muon_learns_and_is_reproducible(small_run: dict[str, object], tmp_path: Path) -> None:
    overrides: dict[str, object] = {
        **small_run,
        "optimizer": {"kind": "muon", "adamw": {"learning_rate": 5e-3}},
        "training.steps": 60,
        "validation.every": 0,
    }
    runs = [picolm.train(picolm.load_config(None, overrides), name=name, runs_dir=tmp_path) for name in ("a", "b")]
    assert runs[0].log_path.read_bytes() == runs[1].log_path.read_bytes()
    last = [line for line in runs[0].log if line["event"] == "validation"][-1]
    assert last["loss"] < 2.0  # chance is ln 300 = 5.7
