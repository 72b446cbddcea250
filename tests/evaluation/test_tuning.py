"""Tuning a head, or a model with it: what it learns, what it chooses, and what it leaves as it was."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray, shuffled
from picolm.evaluation.convergence import binned, step_at_share
from picolm.evaluation.fitting import Recipe
from picolm.evaluation.progress import Meter
from picolm.evaluation.readers import MovingReader
from picolm.evaluation.readout import Example, Piece
from picolm.evaluation.scoring import Engine
from picolm.evaluation.tuning import RATES, Tuned, Tuning, reader_of, tune
from picolm.model.heads import CRFHead, Head, SoftmaxHead
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, tiny_model

LABELS, VOCABULARY = 3, 30
"""Fewer tokens than features, so that any labels of theirs are linearly separable."""


def small_model(tokenizer: Tokenizer, **changes: Any) -> Transformer:
    return tiny_model(tokenizer, vocab_size=VOCABULARY, init={"std": 0.02}, **changes)


def softmax(width: int, generator: torch.Generator) -> Head:
    return SoftmaxHead(width, LABELS, generator)


def crf(width: int, generator: torch.Generator) -> Head:
    allowed = torch.ones(LABELS, LABELS, dtype=torch.bool)
    return CRFHead(width, LABELS, allowed[0], allowed, generator)


def accuracy(examples: Sequence[Example], predicted: Sequence[IntArray]) -> float:
    gold = np.concatenate([example.labels for example in examples])
    return float((np.concatenate(list(predicted)) == gold).mean())


def words(count: int, *, seed: int, shuffle: bool = False) -> list[Example]:
    """Texts of random tokens, each a unit whose label is planted: the remainder of its id."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        tokens = draw.integers(VOCABULARY, size=draw.integers(2, 9))
        labels = tokens % LABELS
        units = np.arange(len(tokens))
        found.append(Example((Piece(tokens, units, units, units),), draw.permutation(labels) if shuffle else labels))
    if shuffle:
        everything = draw.permutation(np.concatenate([example.labels for example in found]))
        cut = np.split(everything, np.cumsum([len(example.labels) for example in found])[:-1])
        found = [Example(example.pieces, labels) for example, labels in zip(found, cut, strict=True)]
    return found


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return small_model(tokenizer)


def tuned(
    one: Engine | Transformer, *, train: list[Example], dev: list[Example], make: Any = softmax, **changes: Any
) -> list[Tuned]:
    settings = Tuning.model_validate(changes)
    asked = one if isinstance(one, Engine) else engine(one)
    return list(tune(reader_of(asked, settings), make, train, dev, accuracy, settings))


def same(one: Tuned, other: Tuned) -> bool:
    states = [*zip(one.head.state_dict().values(), other.head.state_dict().values(), strict=True)]
    states += zip(one.reader.state_dict().values(), other.reader.state_dict().values(), strict=True)
    return (
        all(torch.equal(a, b) for a, b in states)
        and (one.learning_rate, one.epoch, one.dev_scores) == (other.learning_rate, other.epoch, other.dev_scores)
        and np.array_equal(one.curve.losses, other.curve.losses)
    )


@pytest.mark.parametrize("mode", ["head", "full"])
@pytest.mark.parametrize("make", [softmax, crf])
def test_a_planted_label_is_found(model: Transformer, mode: str, make: Any) -> None:
    train, dev, test = words(150, seed=0), words(30, seed=1), words(60, seed=2)
    (found,) = tuned(model, train=train, dev=dev, make=make, mode=mode, learning_rates=(1e-2,))
    assert accuracy(test, found.predict(test)) > 0.95
    log_p = found.log_p(test)
    assert all(np.allclose(np.exp(own).sum(1), 1) for own in log_p)
    assert [len(own) for own in log_p] == [len(example.labels) for example in test]


def test_shuffled_labels_give_chance(model: Transformer) -> None:
    train, dev, test = (words(count, seed=seed, shuffle=True) for count, seed in ((150, 0), (60, 1), (300, 2)))
    (found,) = tuned(model, train=train, dev=dev, learning_rates=(1e-2, 1e-3), epochs=3)
    n = sum(len(example.labels) for example in test)
    most = max(np.bincount(np.concatenate([example.labels for example in test]))) / n
    # Whatever was learned knows nothing of these labels: five standard errors around a guess between 1/K and the mode.
    error = 5 * math.sqrt(0.25 / n)
    assert 1 / LABELS - error < accuracy(test, found.predict(test)) < most + error


def test_tuning_is_the_same_to_the_last_bit(model: Transformer) -> None:
    train, dev = words(40, seed=0), words(10, seed=1)
    for mode in ("head", "full"):
        changes = {"mode": mode, "learning_rates": (1e-2, 1e-3), "epochs": 3, "seeds": (0, 1)}
        first, second = (tuned(model, train=train, dev=dev, **changes) for _ in range(2))
        assert same(first[0], second[0]) and same(first[1], second[1])
        assert not same(first[0], first[1]), "another seed is another head and another order"
        assert same(tuned(model, train=train, dev=dev, **{**changes, "seeds": (1,)})[0], first[1])


@pytest.mark.parametrize("mode", ["head", "full"])
def test_the_engines_model_is_left_as_it_was(tokenizer: Tokenizer, mode: str) -> None:
    model = small_model(tokenizer, dropout=0.1)
    model.train()
    model.layers[0].eval()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    modes = [part.training for part in model.modules()]
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train, dev = words(20, seed=0), words(5, seed=1)
    with torch.inference_mode():
        (found,) = tuned(model, train=train, dev=dev, mode=mode, learning_rates=(1e-2,), epochs=2)
        assert torch.is_inference_mode_enabled()
    found.predict(dev)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.requires_grad
        assert parameter.grad is not None and bool((parameter.grad == 0.5).all())
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_num_threads() == threads
    if isinstance(found.reader, MovingReader):
        moved = dict(found.reader.model.named_parameters())
        still = {name for name, parameter in moved.items() if torch.equal(parameter, before[name])}
        # No logit is computed, so the output matrix has no part in it.
        assert still == ({"unembedding.weight"} if model.unembedding is not None else set())


def test_full_tuning_of_a_model_that_cannot_move_is_head_tuning(model: Transformer) -> None:
    """With a frozen backbone the features of either are the same, so is all that follows but for rounding."""
    frozen = copy.deepcopy(model).double().requires_grad_(False)
    train, dev = words(40, seed=0), words(10, seed=1)
    changes: dict[str, Any] = {"learning_rates": (1e-2, 1e-3), "epochs": 3, "standardize": False}
    (head,), (full,) = (tuned(frozen, train=train, dev=dev, mode=mode, **changes) for mode in ("head", "full"))
    torch.testing.assert_close(head.head.weight, full.head.weight, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(head.curve.losses, full.curve.losses, rtol=1e-9)
    assert head.dev_scores == full.dev_scores and head.head.weight.dtype == torch.float64


@pytest.mark.parametrize("mode", ["head", "full"])
def test_the_best_epoch_of_the_best_rate_is_restored(model: Transformer, mode: str) -> None:
    train, dev = words(40, seed=0), words(25, seed=1)
    scores = [0.1, 0.2, 0.3, 0.1, 0.9, 0.2, 0.8, 0.7, 0.6]
    seen: list[list[IntArray]] = []

    def scripted(_: Sequence[Example], predicted: Sequence[IntArray]) -> float:
        seen.append(list(predicted))
        return scores[len(seen) - 1]

    settings = Tuning.model_validate({"mode": mode, "learning_rates": (1e-3, 3e-3, 1e-4), "epochs": 3})
    (found,) = tune(reader_of(engine(model), settings), softmax, train, dev, scripted, settings)
    assert (found.learning_rate, found.epoch) == (3e-3, 2)
    assert found.dev_scores == {1e-3: (0.1, 0.2, 0.3), 3e-3: (0.1, 0.9, 0.2), 1e-4: (0.8, 0.7, 0.6)}
    again = np.concatenate(found.predict(dev))
    same = [bool((np.concatenate(predicted) == again).all()) for predicted in seen]
    assert same[4] and not same[5] and not same[8]


def test_ties_go_to_the_first_rate_and_the_first_epoch(model: Transformer) -> None:
    train, dev = words(20, seed=0), words(5, seed=1)
    settings = Tuning(learning_rates=(1e-3, 1e-2), epochs=3)
    (found,) = tune(reader_of(engine(model), settings), softmax, train, dev, lambda *_: 0.5, settings)
    assert (found.learning_rate, found.epoch) == (1e-3, 1)


def test_patience_ends_training(model: Transformer) -> None:
    train, dev = words(20, seed=0), words(5, seed=1)
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9, 0.9, 0.9])
    settings = Tuning(learning_rates=(1e-3,), epochs=7, patience=2)
    (found,) = tune(reader_of(engine(model), settings), softmax, train, dev, lambda *_: next(scores), settings)
    assert found.dev_scores[1e-3] == (0.1, 0.3, 0.2, 0.3) and found.epoch == 2
    assert len(found.curve.losses) == 4 * 2, "two batches of 16 in each epoch"


def test_without_a_dev_set_the_last_epoch_of_the_one_rate_is_taken(model: Transformer) -> None:
    train = words(20, seed=0)
    with pytest.raises(
        PicoLMError, match=r"without a dev set nothing chooses between the learning rates 0\.01, 0\.003"
    ):
        tuned(model, train=train, dev=[])
    (found,) = tuned(model, train=train, dev=[], learning_rates=1e-2, epochs=4)
    assert (found.learning_rate, found.epoch, found.dev_scores) == (1e-2, 4, {1e-2: ()})
    # The same as if a dev set had been there that found the last epoch the best.
    scores = iter([0.1, 0.2, 0.3, 0.4])
    settings = Tuning(learning_rates=(1e-2,), epochs=4)
    (other,) = tune(reader_of(engine(model), settings), softmax, train, train, lambda *_: next(scores), settings)
    assert torch.equal(found.head.weight, other.head.weight)


def test_training_that_diverges_is_left_out_or_an_error(model: Transformer) -> None:
    train, dev = words(40, seed=0), words(10, seed=1)
    changes: dict[str, Any] = {"mode": "full", "epochs": 2, "warmup": 0.0}
    (found,) = tuned(model, train=train, dev=dev, learning_rates=(1e38, 1e-3), **changes)
    assert found.learning_rate == 1e-3 and found.dev_scores[1e38] == ()
    for data in (dev, []):
        with pytest.raises(PicoLMError, match=r"diverges at every learning rate \(1e\+38\): name smaller ones"):
            tuned(model, train=train, dev=data, learning_rates=(1e38,), **changes)


def test_the_curve_is_that_of_the_chosen_training(model: Transformer) -> None:
    train, dev = words(70, seed=0), words(20, seed=1)
    changes: dict[str, Any] = {"epochs": 4, "patience": 0, "curve_every": 3}
    (several,) = tuned(model, train=train, dev=dev, learning_rates=(1e-2, 1e-3), **changes)
    (alone,) = tuned(model, train=train, dev=dev, learning_rates=(several.learning_rate,), **changes)
    (without,) = tuned(model, train=train, dev=dev, learning_rates=(1e-2, 1e-3), **{**changes, "curve_every": 0})
    for found in (several, alone):
        np.testing.assert_array_equal(found.curve.losses, without.curve.losses)
        assert found.curve.steps.tolist() == [0, 3, 6, 9, 12, 15, 18, 20]
        # After whole epochs (of five steps) the dev set was scored for the choice too.
        assert found.curve.dev[[5, 7]].tolist() == [found.dev_scores[found.learning_rate][epoch] for epoch in (2, 3)]
        assert torch.equal(found.head.weight, without.head.weight), "looking changes nothing"
    assert without.curve.steps.tolist() == [] and len(without.curve.dev) == 0
    # The first loss is that of the head's initial values, near that of a guess.
    assert without.curve.losses[0] == pytest.approx(math.log(LABELS), abs=0.1)
    assert step_at_share(*binned(several.curve.losses, 3)) is not None


def test_progress_counts_every_text_once(model: Transformer) -> None:
    train, dev = words(20, seed=0), words(5, seed=1)
    told: list[tuple[int, int]] = []
    settings = Tuning(learning_rates=(1e-2, 1e-3), epochs=5, patience=1, seeds=(0, 1), curve_every=2)
    meter = Meter(lambda _, done, total: told.append((done, total)))
    for _ in tune(reader_of(engine(model), settings), softmax, train, dev, lambda *_: 0.0, settings, meter=meter):
        pass
    total = 20 * 5 * 2 * 3
    assert told[-1] == (total, total) and {total for _, total in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_dropout_is_on_while_a_model_is_tuned_and_keyed(tokenizer: Tokenizer) -> None:
    train, dev = words(20, seed=0), words(5, seed=1)
    changes: dict[str, Any] = {"mode": "full", "learning_rates": (1e-3,), "epochs": 2}
    plain, first = (small_model(tokenizer, dropout=dropout) for dropout in (0.0, 0.3))
    torch.manual_seed(1)
    (one,) = tuned(first, train=train, dev=dev, **changes)
    torch.manual_seed(2)
    (two,) = tuned(first, train=train, dev=dev, **changes)
    (without,) = tuned(plain, train=train, dev=dev, **changes)
    assert same(one, two) and one.curve.losses[0] != without.curve.losses[0]
    assert np.array_equal(one.predict(dev)[0], one.predict(dev)[0])


def test_bf16_runs_the_backbone_and_not_the_head(model: Transformer) -> None:
    train, dev = words(60, seed=0), words(10, seed=1)
    for mode in ("head", "full"):
        changes: dict[str, Any] = {"mode": mode, "learning_rates": (1e-2,), "epochs": 3}
        (rough,) = tuned(engine(model, precision="bf16"), train=train, dev=dev, **changes)
        (exact,) = tuned(model, train=train, dev=dev, **changes)
        assert rough.head.weight.dtype == torch.float32
        assert rough.curve.losses[0] != exact.curve.losses[0]
        np.testing.assert_allclose(rough.curve.losses, exact.curve.losses, atol=0.1)


def test_a_masked_model_is_tuned_too(tokenizer: Tokenizer) -> None:
    model = small_model(tokenizer, attention="bidirectional")
    train, dev = words(60, seed=0), words(20, seed=1)
    (found,) = tuned(model, train=train, dev=dev, mode="full", learning_rates=(1e-2,))
    assert accuracy(dev, found.predict(dev)) > 0.9


# The order of texts, and the learning rate.


def test_batches_hold_every_text_once_in_another_order_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1700).tolist()
    orders = [shuffled(lengths, 16, seed=0, epoch=epoch) for epoch in (1, 2, 1)]
    for batches in orders:
        assert sorted(np.concatenate(batches).tolist()) == list(range(1700))
        assert max(map(len, batches)) == 16 and len(batches) == math.ceil(1700 / 16)
    assert all(np.array_equal(a, b) for a, b in zip(orders[0], orders[2], strict=True))
    assert not np.array_equal(np.concatenate(orders[0]), np.concatenate(orders[1]))
    assert not np.array_equal(np.concatenate(orders[0]), np.concatenate(shuffled(lengths, 16, seed=1, epoch=1)))
    spread = [np.ptp([lengths[place] for place in batch]) for batch in orders[0]]
    assert np.mean(spread) < 15, "texts of a batch are of similar length"
    means = [np.mean([lengths[place] for place in batch]) for batch in orders[0]]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3, "and no length has its own time"


def test_the_learning_rate_rises_and_falls_in_straight_lines() -> None:
    recipe = Recipe(warmup=0.1)
    shares = [recipe.share(step, 100) for step in range(100)]
    np.testing.assert_allclose(shares[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(shares[10:], np.arange(90, 0, -1) / 90)
    assert Recipe(warmup=0.0).share(0, 10) == 1.0 and Recipe(warmup=1.0).share(9, 10) == 1.0


def test_the_usual_rates_and_readout_stand_in_the_identity() -> None:
    assert Tuning().identity(is_causal=True)["learning_rates"] == list(RATES["head"])
    assert Tuning(mode="full").identity(is_causal=True)["learning_rates"] == list(RATES["full"])
    assert Tuning().identity(is_causal=True)["readout"] == "last"
    assert Tuning().identity(is_causal=False)["readout"] == "mean"
    assert Tuning(readout="first").identity(is_causal=True)["readout"] == "first"
    assert "standardize" not in Tuning(mode="full").identity(is_causal=True)
