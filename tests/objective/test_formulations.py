import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.objective.causal import CausalFormulation
from picolm.objective.cross_entropy import linear_cross_entropy
from picolm.objective.masked import MaskedFormulation
from picolm.seams import IGNORE, Objective, Sequences, View

SPECIAL = frozenset({0, 1, 2})


def sequences(rows: int, length: int, *, valid: list[int] | None = None, step: int = 0, first: int = 0) -> Sequences:
    tokens = np.random.default_rng(0).integers(3, 50, (1000, length + 1))[first : first + rows]
    n_valid = np.array(valid if valid is not None else [length + 1] * rows)
    tokens = np.where(np.arange(length + 1)[None] < n_valid[:, None], tokens, 1)
    return Sequences(tokens, n_valid, np.arange(first, first + rows), stream="train", step=step)


def masked(seed: int = 0, **rates: float) -> MaskedFormulation:
    return MaskedFormulation(schema.Masked(**rates), mask_id=2, special_ids=SPECIAL, vocab_size=50, seed=seed)


def model(attention: str = "causal") -> torch.nn.Module:
    config = schema.Model.model_validate(
        {
            "vocab_size": 50,
            "d_model": 16,
            "n_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 1,
            "d_ffn": 24,
            "attention": attention,
        }
    )
    return build_model(config, seed=0).double()


def loss_sum(view: View, terms: dict, attention: str) -> float:
    objective = Objective(model(attention), terms)
    with torch.no_grad():
        return float(sum(objective(view).values()))


def test_linear_cross_entropy_by_its_definition_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 4, generator=generator, dtype=torch.double, requires_grad=True)
    matrix = torch.randn(7, 4, generator=generator, dtype=torch.double, requires_grad=True)
    targets = torch.tensor([[1, IGNORE, 6], [0, 0, IGNORE]])
    value = linear_cross_entropy(hidden, matrix, targets)
    expected = 0.0
    for row, position in ((0, 0), (0, 2), (1, 0), (1, 1)):
        logits = [float(hidden[row, position].detach() @ matrix[v].detach()) for v in range(7)]
        expected += math.log(sum(math.exp(x) for x in logits)) - logits[int(targets[row, position])]
    assert float(value.detach()) == pytest.approx(expected, rel=1e-13)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets), (hidden, matrix))


def test_half_precision_is_summed_in_float32() -> None:
    hidden = torch.full((4096, 4), 0.5, dtype=torch.bfloat16)
    matrix = torch.zeros(8, 4, dtype=torch.bfloat16)
    value = linear_cross_entropy(hidden, matrix, torch.zeros(4096, dtype=torch.long))
    # In bfloat16 the sum would stop growing long before 4096 ln 8.
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(4096 * math.log(8), rel=1e-5)


def test_causal_views_predict_each_token_from_those_before_it() -> None:
    rows = sequences(2, 5, valid=[6, 4])
    (view,) = CausalFormulation().views(rows, measure=False)
    assert view.tensors["input_ids"].tolist() == rows.tokens[:, :5].tolist()
    assert view.tensors["targets"][0].tolist() == rows.tokens[0, 1:].tolist()
    assert view.tensors["targets"][1].tolist() == [*rows.tokens[1, 1:4].tolist(), IGNORE, IGNORE]
    assert view.units.tolist() == [5, 3] == (view.tensors["targets"] != IGNORE).sum(1).tolist()


def test_causal_loss_equals_hugging_face_shifting() -> None:
    rows = sequences(3, 8)
    formulation = CausalFormulation()
    (view,) = formulation.views(rows, measure=False)
    net = model().requires_grad_(False)
    logits = net.logits(net(torch.from_numpy(rows.tokens)))
    whole = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), torch.from_numpy(rows.tokens[:, 1:]).flatten(), reduction="sum"
    )
    assert loss_sum(view, formulation.terms(), "causal") == pytest.approx(float(whole), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.01, 1.0),
    st.floats(0, 1),
    st.floats(0, 1),
    st.lists(st.integers(2, 13), min_size=1, max_size=6),
    st.booleans(),
)
def test_masked_views_hold_what_they_say(
    rate: float, mask_fraction: float, share: float, valid: list[int], measure: bool
) -> None:
    formulation = masked(rate=rate, mask_fraction=mask_fraction, random_fraction=share * (1 - mask_fraction))
    rows = sequences(len(valid), 12, valid=valid)
    (view,) = formulation.views(rows, measure=measure)
    original, inputs = rows.tokens[:, :12], view.tensors["input_ids"].numpy()
    positions, targets = view.tensors["positions"].numpy(), view.tensors["targets"].numpy()
    for row in range(len(valid)):
        scored = targets[row] != IGNORE
        chosen = positions[row][scored]
        assert len(set(chosen)) == len(chosen) == view.units[row]
        assert (targets[row][scored] == original[row][chosen]).all()
        assert not set(original[row][chosen]) & SPECIAL
        assert (chosen < valid[row]).all()
        untouched = np.setdiff1d(np.arange(12), chosen)
        assert (inputs[row][untouched] == original[row][untouched]).all()
        assert not set(inputs[row][chosen]) & (SPECIAL - {2})
    padded = min(valid) < 12
    assert ("attention_mask" in view.tensors) == padded == ("attention_mask" in view.inputs)
    if padded:
        assert view.tensors["attention_mask"].sum(1).tolist() == [min(n, 12) for n in valid]


def test_masking_rates_are_those_of_bert() -> None:
    rows = sequences(200, 500)
    (view,) = masked(rate=0.15, mask_fraction=0.8, random_fraction=0.1).views(rows, measure=False)
    n = 200 * 500
    chosen = int(view.units.sum())
    assert abs(chosen - 0.15 * n) < 5 * math.sqrt(n * 0.15 * 0.85)
    inputs, targets = view.tensors["input_ids"].numpy(), view.tensors["targets"].numpy()
    scored = targets != IGNORE
    shown = np.take_along_axis(inputs, view.tensors["positions"].numpy(), axis=1)[scored]
    is_mask, is_same = (shown == 2).mean(), (shown == targets[scored]).mean()
    spread = 5 * math.sqrt(0.8 * 0.2 / chosen)
    # A random token equals the original in 1 of 47 cases.
    assert abs(is_mask - 0.8) < spread and abs(is_same - (0.1 + 0.1 / 47)) < spread


def test_masking_depends_on_seed_step_and_row_alone() -> None:
    together = masked().views(sequences(8, 40, step=3), measure=False)[0]
    for row in range(8):
        (alone,) = masked().views(sequences(1, 40, step=3, first=row), measure=False)
        assert torch.equal(alone.tensors["input_ids"][0], together.tensors["input_ids"][row])
    later = masked().views(sequences(8, 40, step=4), measure=False)[0]
    other = masked(seed=1).views(sequences(8, 40, step=3), measure=False)[0]
    assert not torch.equal(later.tensors["input_ids"], together.tensors["input_ids"])
    assert not torch.equal(other.tensors["input_ids"], together.tensors["input_ids"])
    measured = [masked(seed=s).views(sequences(8, 40, step=n), measure=True)[0] for s, n in ((0, 0), (5, 9))]
    assert torch.equal(measured[0].tensors["input_ids"], measured[1].tensors["input_ids"])


def test_masked_loss_equals_a_dense_computation() -> None:
    formulation = masked(rate=0.3)
    rows = sequences(4, 20, valid=[21, 15, 2, 21])
    (view,) = formulation.views(rows, measure=False)
    net = model("bidirectional").requires_grad_(False)
    labels = torch.full((4, 20), IGNORE)
    for row in range(4):
        scored = view.tensors["targets"][row] != IGNORE
        labels[row, view.tensors["positions"][row][scored]] = view.tensors["targets"][row][scored]
    hidden = net(view.tensors["input_ids"], attention_mask=view.tensors["attention_mask"])
    dense = F.cross_entropy(net.logits(hidden).flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum")
    assert loss_sum(view, formulation.terms(), "bidirectional") == pytest.approx(float(dense), rel=1e-12)


def test_a_view_in_which_nothing_is_chosen_has_no_units_and_no_loss() -> None:
    rows = sequences(2, 6)
    empty = Sequences(np.zeros_like(rows.tokens), rows.valid, rows.ids, "train", 0)
    (view,) = masked(rate=1.0).views(empty, measure=False)
    assert view.n_units == 0
    assert loss_sum(view, masked().terms(), "bidirectional") == 0.0
