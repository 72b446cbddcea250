"""Heads equal brute force over all sequences of labels, in float64."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from picolm.model.heads import CRFHead, Head, SoftmaxHead

WIDTH = 4


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crf(seed: int, n_labels: int, *, forbid: float = 0.4, scale: float = 30.0) -> CRFHead:
    """A head with large random parameters and some forbidden transitions; label 0 may always follow itself."""
    generator = drawn(seed)
    allowed = torch.rand(n_labels, n_labels, generator=generator) > forbid
    allowed_start = torch.rand(n_labels, generator=generator) > forbid
    allowed[0, 0] = allowed_start[0] = True
    head = CRFHead(WIDTH, n_labels, allowed_start, allowed, generator).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(scale)
    return head


def legal(head: CRFHead, labels: tuple[int, ...]) -> bool:
    return bool(head.allowed_start[labels[0]]) and all(bool(head.allowed[i, j]) for i, j in itertools.pairwise(labels))


def scored(head: CRFHead, features: Tensor) -> dict[tuple[int, ...], float]:
    """The score of every legal sequence for one text [U, D], added up by hand."""
    emissions = (features @ head.weight.T + head.bias).tolist()
    start, end, transitions = head.start.tolist(), head.end.tolist(), head.transitions.tolist()
    found = {}
    for labels in itertools.product(range(head.n_labels), repeat=len(features)):
        if legal(head, labels):
            moves = sum(transitions[i][j] for i, j in itertools.pairwise(labels))
            emitted = sum(emissions[t][label] for t, label in enumerate(labels))
            found[labels] = start[labels[0]] + moves + emitted + end[labels[-1]]
    return found


def log_sum(values: list[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def batch(seed: int, lengths: list[int]) -> tuple[Tensor, Tensor]:
    features = torch.randn(len(lengths), max(lengths), WIDTH, generator=drawn(seed), dtype=torch.float64)
    return features, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@given(
    seed=st.integers(0, 2**31),
    n_labels=st.integers(2, 4),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_a_crf_equals_brute_force(seed: int, n_labels: int, lengths: list[int]) -> None:
    head = crf(seed, n_labels)
    features, mask = batch(seed, lengths)
    decoded, log_p = head.decode(features, mask), head.log_p(features, mask)
    for row, length in enumerate(lengths):
        scores = scored(head, features[row, :length].detach())
        log_z = log_sum(list(scores.values()))
        best = max(scores, key=scores.__getitem__)
        assert decoded[row, :length].tolist() == list(best)
        assert decoded[row, length:].tolist() == [0] * (max(lengths) - length)
        for labels in itertools.islice(scores, 0, None, 7):
            own = torch.tensor([*labels, *[0] * (max(lengths) - length)])
            loss = head.loss(features[row : row + 1], own[None], mask[row : row + 1])
            assert loss.item() == pytest.approx(log_z - scores[labels], rel=1e-9, abs=1e-9)
        for place, label in itertools.product(range(length), range(n_labels)):
            through = [value for labels, value in scores.items() if labels[place] == label]
            expected = log_sum(through) - log_z if through else -math.inf
            assert log_p[row, place, label].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_loss_of_a_batch_is_the_sum_over_its_texts_whatever_stands_at_padding() -> None:
    head = crf(3, 3, forbid=0.0)
    features, mask = batch(1, [4, 1, 3])
    labels = torch.randint(3, mask.shape, generator=drawn(2))
    for one in (head, SoftmaxHead(WIDTH, 3, drawn(5)).double()):
        alone = [
            one.loss(features[row : row + 1, :n], labels[row : row + 1, :n], mask[row : row + 1, :n]).item()
            for row, n in enumerate([4, 1, 3])
        ]
        for filler in (0.0, 1e6):
            filled = features.masked_fill(~mask[..., None], filler)
            assert one.loss(filled, labels, mask).item() == pytest.approx(sum(alone), rel=1e-12)
            assert torch.equal(one.decode(filled, mask), one.decode(features, mask))
            torch.testing.assert_close(one.log_p(filled, mask)[mask], one.log_p(features, mask)[mask])
            gradient = torch.autograd.grad(one.loss(filled, labels, mask), [*one.parameters()])
            expected = torch.autograd.grad(one.loss(features, labels, mask), [*one.parameters()])
            for own, other in zip(gradient, expected, strict=True):
                torch.testing.assert_close(own, other)


def test_gradients_of_a_crf_are_those_of_finite_differences() -> None:
    head = crf(4, 3, scale=5.0)
    features, mask = batch(6, [4, 2])
    labels = torch.zeros(mask.shape, dtype=torch.int64)
    names = [name for name, _ in head.named_parameters()]

    def loss(features: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(_Loss(head), _prefixed(names, values), (features, labels, mask))

    inputs = (features.requires_grad_(), *(p.detach().clone().requires_grad_() for p in head.parameters()))
    assert torch.autograd.gradcheck(loss, inputs)


class _Loss(torch.nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return self.head.loss(features, labels, mask)


def _prefixed(names: list[str], values: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"head.{name}": value for name, value in zip(names, values, strict=True)}


def iob2(precision: torch.dtype = torch.float32) -> CRFHead:
    """O, B, I, where I follows B and I only."""
    head = CRFHead(
        3, 3, torch.tensor([True, True, False]), torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1]]).bool(), drawn(0)
    )
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
    return head.to(precision)


@pytest.mark.parametrize("size", [1.0, 1e4, 1e20])
def test_what_is_forbidden_is_impossible_however_strongly_the_features_speak_for_it(size: float) -> None:
    head = iob2()
    # Every word cries I.
    features = size * torch.tensor([0.0, 0.0, 1.0]).expand(1, 4, 3)
    mask = torch.ones(1, 4, dtype=torch.bool)
    decoded = head.decode(features, mask)
    assert bool(head.is_legal(decoded, mask).all()) and decoded[0, 1:].tolist() == [2, 2, 2]
    log_p = head.log_p(features, mask)
    assert log_p[0, 0, 2] == -torch.inf and bool(torch.isfinite(log_p[0, 1:, 2]).all())
    loss = head.loss(features, torch.tensor([[1, 2, 2, 2]]), mask)
    loss.backward()
    assert bool(torch.isfinite(loss)) and all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())


def test_forbidden_transitions_are_not_learned_and_illegal_labels_refused() -> None:
    head = iob2()
    features, mask = torch.randn(1, 3, 3, generator=drawn(1)), torch.ones(1, 3, dtype=torch.bool)
    head.loss(features, torch.tensor([[0, 1, 2]]), mask).backward()
    assert head.transitions.grad is not None and head.transitions.grad[0, 2] == 0 != head.transitions.grad[0, 1]
    assert head.start.grad is not None and head.start.grad[2] == 0
    for illegal in ([2, 0, 0], [0, 2, 0]):
        assert head.is_legal(torch.tensor([illegal]), mask).tolist() == [False]
        with pytest.raises(AssertionError, match="forbid"):
            head.loss(features, torch.tensor([illegal]), mask)


def test_a_label_that_nothing_leads_to_leaves_gradients_finite() -> None:
    head = CRFHead(WIDTH, 3, torch.tensor([True, True, False]), torch.tensor([[1, 1, 0]] * 3).bool(), drawn(0))
    features, mask = batch(0, [4, 2])
    head.loss(features, torch.zeros(2, 4, dtype=torch.int64), mask).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())


def test_a_softmax_head_is_a_cross_entropy_of_each_unit() -> None:
    head = SoftmaxHead(WIDTH, 3, drawn(0)).double()
    features, mask = batch(0, [3, 2])
    labels = torch.tensor([[0, 1, 2], [2, 1, 0]])
    logits = features @ head.weight.T + head.bias
    log_p = F.log_softmax(logits, -1)
    expected = -sum(log_p[b, u, labels[b, u]].item() for b, u in mask.nonzero().tolist())
    assert head.loss(features, labels, mask).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(head.decode(features, mask), logits.argmax(-1) * mask)
    torch.testing.assert_close(head.log_p(features, mask), log_p)


def test_a_crf_without_transitions_is_a_softmax() -> None:
    head = crf(0, 3, forbid=0.0)
    with torch.no_grad():
        head.start.zero_(), head.end.zero_(), head.transitions.zero_()
    plain = SoftmaxHead(WIDTH, 3, drawn(0)).double()
    plain.load_state_dict({"weight": head.weight, "bias": head.bias})
    features, mask = batch(0, [5, 3, 4])
    labels = torch.randint(3, mask.shape, generator=drawn(2))
    torch.testing.assert_close(head.loss(features, labels, mask), plain.loss(features, labels, mask))
    torch.testing.assert_close(head.log_p(features, mask)[mask], plain.log_p(features, mask)[mask])
    assert torch.equal(head.decode(features, mask), plain.decode(features, mask))


def test_initial_values_come_from_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    allowed = torch.ones(3, 3, dtype=torch.bool)

    def make(seed: int) -> list[Head]:
        return [SoftmaxHead(WIDTH, 3, drawn(seed)), CRFHead(WIDTH, 3, allowed[0], allowed, drawn(seed))]

    for one, same, other in zip(make(1), make(1), make(2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
        assert not torch.equal(one.weight, other.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_head_computes_in_its_own_precision_under_autocast() -> None:
    head = SoftmaxHead(WIDTH, 3, drawn(0))
    features, mask = torch.randn(2, 3, WIDTH, generator=drawn(1)), torch.ones(2, 3, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        assert (features @ head.weight.T).dtype == torch.bfloat16
        inside = head.log_p(features, mask)
    assert inside.dtype == torch.float32 and torch.equal(inside, head.log_p(features, mask))
