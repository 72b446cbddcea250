"""What is seen is what a direct computation gives, whatever the capture's batch size, and looking leaves no trace."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from picolm.config import schema
from picolm.model.compilation import compile_blocks
from picolm.model.initialization import build_model
from picolm.model.sites import sites_of
from picolm.objective import cross_entropy
from picolm.objective.causal import CausalFormulation
from picolm.objective.masked import MaskedFormulation
from picolm.seams import IGNORE, Formulation, Objective, Sequences
from picolm.training.eager import eager_twin
from picolm.training.inspection import Batch, Findings, Positions, Wanted, chosen_positions, inspect, select
from picolm.training.optimizer import build_optimizer, parameter_groups

CPU = torch.device("cpu")
ROWS, LENGTH, VOCABULARY = 10, 12, 50
KINDS = ["causal", "masked", "causal with borders", "masked with borders"]


def built(model: Any, heads: torch.nn.Module, settings: Any) -> torch.optim.AdamW:
    return build_optimizer(parameter_groups(model, heads, settings), settings)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine rows a chunk, so that a loss is made of several and the last one is short."""
    monkeypatch.setattr(cross_entropy, "loss_rows", lambda *_: 9)


def formulation(kind: str) -> Formulation:
    borders = "borders" in kind
    if "causal" in kind:
        return CausalFormulation(document_borders=borders)
    rates = schema.Masked(rate=0.3)
    special = frozenset({0, 1, 2})
    return MaskedFormulation(
        rates, mask_id=2, special_ids=special, vocab_size=VOCABULARY, seed=0, document_borders=borders
    )


def objective(kind: str = "causal", dtype: torch.dtype = torch.double, **changes: object) -> Objective:
    config = schema.Model.model_validate(
        {"vocab_size": VOCABULARY, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 24}
        | {"attention": "causal" if "causal" in kind else "bidirectional", "init": {"std": 0.2}, **changes}
    )
    return Objective(build_model(config, seed=0).to(dtype), formulation(kind).terms())


def batch(kind: str = "causal") -> Batch:
    """Ten rows of unequal length, so that no mean over micro-batches is the mean over tokens."""
    draw = np.random.default_rng(0)
    valid = np.array([13, 13, 2, 7, 13, 4, 13, 9, 5, 13])
    real = np.arange(LENGTH + 1)[None] < valid[:, None]
    documents = np.where(
        real, np.sort(draw.integers(0, 3, (ROWS, LENGTH + 1)), axis=1) + 3 * np.arange(ROWS)[:, None], -1
    )
    tokens = np.where(real, draw.integers(3, VOCABULARY, (ROWS, LENGTH + 1)), 1)
    rows = Sequences(tokens, valid, np.arange(ROWS), stream="probe", step=0, documents=documents)
    (view,) = formulation(kind).views(rows, measure=True)
    return Batch(view, np.minimum(valid, LENGTH))


def look(
    net: Objective,
    rows: Batch,
    *,
    batch_size: int,
    sites: tuple[str, ...] = (),
    gradients: bool = True,
    positions: Positions = "all",
) -> Findings:
    named = sites_of(net.model)
    parameters: dict[str, Tensor] = dict(net.model.named_parameters()) if gradients else {}
    wanted = Wanted({name: named[name] for name in sites}, parameters, token_losses=True, positions=positions)
    return inspect(net, rows, wanted, batch_size=batch_size, device=CPU)


def brute_gradients(net: Objective, rows: Batch, kind: str) -> dict[str, Tensor]:
    """Autograd of the plain mean over the scored positions of all rows at once, from whole logits."""
    view = rows.view
    hidden = net.model(**{name: view.tensors[name] for name in view.inputs})
    if "masked" in kind:
        hidden = torch.stack([row[at] for row, at in zip(hidden, view.tensors["positions"], strict=True)])
    logits, targets = hidden @ net.model.output_matrix.T, view.tensors["targets"]
    mean = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    parameters = dict(net.model.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(mean, list(parameters.values())), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_mean_loss_for_every_batch_size(kind: str) -> None:
    net, rows = objective(kind), batch(kind)
    expected = brute_gradients(net, rows, kind)
    assert min(float(gradient.abs().max()) for gradient in expected.values()) > 1e-6
    for batch_size in (1, 3, 7, ROWS):
        found = look(net, rows, batch_size=batch_size).gradients
        assert set(found) == set(expected)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12, msg=f"{name} at {batch_size}")


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_gradients_in_float32_depend_on_the_batch_size_by_rounding_only(kind: str) -> None:
    net, rows = objective(kind, torch.float32), batch(kind)
    one, three, seven = (look(net, rows, batch_size=size).gradients for size in (1, 3, 7))
    for name, gradient in one.items():
        for other in (three[name], seven[name]):
            assert float((other - gradient).norm() / gradient.norm()) < 1e-5, name


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_those_of_a_direct_forward_bit_for_bit(kind: str) -> None:
    net, rows = objective(kind, dropout=0.3).train(), batch(kind)
    found = look(net, rows, batch_size=4, sites=("hidden", "residual.0", "layers.1.mlp.down_proj"))
    twin = copy.deepcopy(net).eval().model
    outputs: list[Tensor] = []
    twin.layers[1].mlp.down_proj.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    embedded = twin.embedding.weight[rows.view.tensors["input_ids"]]
    hidden = [twin(**{name: part.tensors[name] for name in part.inputs}) for part in rows.view.cut(4)]
    assert torch.equal(found.activations["hidden"], torch.cat(hidden))
    assert torch.equal(found.activations["layers.1.mlp.down_proj"], torch.cat(outputs))
    assert torch.equal(found.activations["residual.0"], embedded)
    # With and without gradients, the same forward.
    without = look(net, rows, batch_size=4, sites=("hidden",), gradients=False)
    assert torch.equal(without.activations["hidden"], found.activations["hidden"]) and not without.gradients


@pytest.mark.parametrize("kind", KINDS)
def test_token_losses_add_up_to_the_objectives_loss(kind: str) -> None:
    net, rows = objective(kind).eval(), batch(kind)
    (losses,) = look(net, rows, batch_size=3, gradients=False).token_losses.values()
    with torch.no_grad():
        (total,) = net(rows.view).values()
    assert losses.shape == (ROWS, LENGTH)
    assert torch.equal((~losses.isnan()).sum(1), torch.from_numpy(rows.view.units))
    torch.testing.assert_close(losses.nansum(), total, rtol=1e-12, atol=0)


def test_causal_token_losses_stand_where_the_token_is_predicted() -> None:
    net, rows = objective().eval(), batch()
    losses = look(net, rows, batch_size=ROWS).token_losses["causal"]
    with torch.no_grad():
        logits = net.model.logits(net.model(rows.view.tensors["input_ids"])).log_softmax(-1)
    for row in range(ROWS):
        for t in range(LENGTH):
            target = int(rows.view.tensors["targets"][row, t])
            expected = float("nan") if target == IGNORE else -float(logits[row, t, target])
            assert float(losses[row, t]) == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_masked_token_losses_stand_at_the_chosen_positions() -> None:
    net, rows = objective("masked").eval(), batch("masked")
    losses = look(net, rows, batch_size=ROWS).token_losses["masked"]
    tensors = rows.view.tensors
    with torch.no_grad():
        inputs = {name: tensors[name] for name in rows.view.inputs}
        logits = net.model.logits(net.model(**inputs)).log_softmax(-1)
    expected = torch.full_like(losses, float("nan"))
    for row in range(ROWS):
        for at, target in zip(tensors["positions"][row].tolist(), tensors["targets"][row].tolist(), strict=True):
            if target != IGNORE:
                expected[row, at] = -logits[row, at, target]
    assert rows.view.units.sum() > ROWS
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0, equal_nan=True)


def test_positions_are_picked_from_the_beginning_and_from_the_end_of_a_rows_text() -> None:
    net, rows = objective(), batch()
    assert rows.lengths is not None
    sites = ("residual.2", "layers.0.attention.query", "layers.0.attention.pattern")
    whole = look(net, rows, batch_size=4, sites=sites).activations
    some = look(net, rows, batch_size=4, sites=sites, positions=(0, -1, 6)).activations
    assert some["residual.2"].shape == (ROWS, 3, 16)
    assert some["layers.0.attention.query"].shape == (ROWS, 4, 3, 4)
    assert some["layers.0.attention.pattern"].shape == (ROWS, 4, 3, LENGTH)
    for row, length in enumerate(rows.lengths.tolist()):
        for place, at in enumerate((0, length - 1, 6)):
            there = at < length
            assert torch.equal(some["residual.2"][row, place], whole["residual.2"][row, at]) is there
            assert bool(some["residual.2"][row, place].isnan().all()) is not there
            if there:
                for site in sites[1:]:
                    assert torch.equal(some[site][row, :, place], whole[site][row, :, at])
    assert chosen_positions([3, 1], (0, 2, -1, -2)).tolist() == [[0, 2, 2, 1], [0, -1, 0, -1]]
    assert select(torch.arange(6.0).view(1, 6), torch.tensor([[5, 0]]), 1).tolist() == [[5.0, 0.0]]


def trace(net: Objective, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """All that a look could have changed, as values that can be compared."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    hooks = [
        {key: len(value) for key, value in vars(part).items() if "hooks" in key and value is not None and key != "_x"}
        for part in net.modules()
    ]
    state = {
        (name, key): value.clone()
        for group in optimizer.param_groups
        for name, p in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(p, {}).items()
    }
    return {
        "weights": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "versions": {name: tensor._version for name, tensor in tensors.items()},
        "places": {name: tensor.data_ptr() for name, tensor in tensors.items()},
        "gradients": {n: None if t.grad is None else (id(t.grad), t.grad.clone()) for n, t in tensors.items()},
        "requires": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "state": state,
        "entries": len(optimizer.state),
        "rng": torch.get_rng_state(),
        "numpy": repr(np.random.get_state()),
        "python": random.getstate(),
        "modes": [part.training for part in net.modules()],
        "hooks": hooks,
        "attributes": [sorted(vars(part)) for part in net.modules()],
        "enabled": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")),
    }


def same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def trained(net: Objective, kind: str) -> torch.optim.AdamW:
    """An optimizer with state, and gradients that wait for the next update."""
    settings: Any = schema.Muon() if kind == "muon" else schema.AdamW()
    optimizer = built(net.model, net.heads, settings)
    for last in (False, True):
        net.total(net(batch().view), 1).backward()
        if not last:
            optimizer.step()
            optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_looking_leaves_no_trace(kind: str) -> None:
    net = objective(dtype=torch.float32, dropout=0.2).train()
    net.model.layers[0].eval()  # a part in another mode than the whole must stay so
    optimizer = trained(net, kind)
    before = trace(net, optimizer)
    look(net, batch(), batch_size=4, sites=tuple(sites_of(net.model)))
    after = trace(net, optimizer)
    assert [name for name in before if not same(before[name], after[name])] == []


def test_the_test_for_traces_sees_traces() -> None:
    net = objective(dtype=torch.float32, dropout=0.2).train()
    optimizer = trained(net, "adamw")
    before = trace(net, optimizer)
    net.total(net(batch().view), 1).backward()
    net.model.layers[1].eval()
    net.model.register_forward_hook(lambda *_: None)
    after = trace(net, optimizer)
    assert {name for name in before if not same(before[name], after[name])} == {"gradients", "rng", "modes", "hooks"}


def test_an_error_on_the_twin_leaves_no_trace_either() -> None:
    net = objective(dtype=torch.float32, dropout=0.2).train()
    optimizer = trained(net, "adamw")
    before = trace(net, optimizer)
    with pytest.raises(RuntimeError, match="broken"), eager_twin(net, CPU):
        assert not any(part.training for part in net.modules())
        torch.rand(3)
        raise RuntimeError("broken")
    after = trace(net, optimizer)
    assert [name for name in before if not same(before[name], after[name])] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("warm", [False, True])
def test_a_compiled_model_is_seen_on_its_eager_twin_and_not_compiled_anew(warm: bool) -> None:
    torch._dynamo.reset()
    sites = ("residual.1", "layers.0.attention.pattern", "layers.1.mlp.down_proj", "hidden")
    eager = look(objective(dtype=torch.float32), batch(), batch_size=4, sites=sites)
    net = objective(dtype=torch.float32).train()
    compile_blocks(net.model.layers)
    if warm:
        trained(net, "adamw")
        with torch.no_grad():
            for ours, theirs in zip(net.parameters(), objective(dtype=torch.float32).parameters(), strict=True):
                ours.copy_(theirs)
    optimizer = built(net.model, net.heads, schema.AdamW())
    before = trace(net, optimizer)
    found = look(net, batch(), batch_size=4, sites=sites)
    after = trace(net, optimizer)
    assert [name for name in before if not same(before[name], after[name])] == []
    for site in sites:
        assert torch.equal(found.activations[site], eager.activations[site]), site
    for name, gradient in eager.gradients.items():
        assert torch.equal(found.gradients[name], gradient), name
    if warm:
        torch._dynamo.utils.counters.clear()
        net(batch().view)
        assert not torch._dynamo.utils.counters["stats"].get("unique_graphs"), "looking made the blocks compile again"
