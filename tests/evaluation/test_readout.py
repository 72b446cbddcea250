"""Features equal hidden states that are picked out of one text at a time, in float64."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.evaluation.readers import FrozenReader, MovingReader
from picolm.evaluation.readout import Example, Piece, Readout, begins, features
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, tiny_model


def examples_of(vocab_size: int, *, seed: int = 0, count: int = 9) -> list[Example]:
    """Texts of one to three pieces, whose units are spans of one to three tokens and are read in any order."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        pieces, n_units = [], 0
        order = draw.permutation(30)
        for _ in range(draw.integers(1, 4)):
            tokens = draw.integers(3, vocab_size, draw.integers(4, 20))
            own = draw.integers(1, 4)
            firsts = np.sort(draw.choice(len(tokens), own, replace=False))
            lasts = np.minimum(firsts + draw.integers(0, 3, own), len(tokens) - 1)
            pieces.append((tokens, order[n_units : n_units + own], firsts, lasts))
            n_units += own
        ranks = np.argsort(np.argsort(order[:n_units]))
        numbered, at = [], 0
        for tokens, units, firsts, lasts in pieces:
            numbered.append(Piece(tokens, ranks[at : at + len(units)], firsts, lasts))
            at += len(units)
        found.append(Example(tuple(numbered), draw.integers(0, 3, n_units)))
    return found


def one_by_one(model: Transformer, example: Example, readout: Readout) -> Tensor:
    rows: dict[int, Tensor] = {}
    with torch.no_grad():
        for piece in example.pieces:
            hidden = model(torch.from_numpy(piece.tokens)[None])[0]
            for unit, first, last in zip(piece.units, piece.firsts, piece.lasts, strict=True):
                span = hidden[first : last + 1]
                rows[int(unit)] = {"first": span[0], "last": span[-1], "mean": span.mean(0)}[readout]
    return torch.stack([rows[unit] for unit in range(len(example.labels))])


@pytest.mark.parametrize("readout", ["first", "last", "mean"])
@pytest.mark.parametrize("kind", ["causal", "masked"])
@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_features_are_hidden_states_of_each_text_alone(
    kind: str, readout: Readout, budget: int, tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    model: Transformer = request.getfixturevalue(kind)
    examples = examples_of(tokenizer.vocab_size)
    found = features(engine(model, batch_tokens=budget), examples, readout)
    starts = begins(examples)
    for number, example in enumerate(examples):
        own = found[starts[number] : starts[number + 1]]
        torch.testing.assert_close(own, one_by_one(model, example, readout), rtol=1e-9, atol=1e-9)
    assert found.dtype == torch.float64 and not found.requires_grad and not found.is_inference()


def test_a_batch_of_the_frozen_reader_is_one_of_the_moving_reader(causal: Transformer, tokenizer: Tokenizer) -> None:
    """Features that were kept are those that are computed again."""
    examples = examples_of(tokenizer.vocab_size)
    frozen = FrozenReader(engine(causal), "last", standardize=False)
    frozen.begin(examples, [])
    moving = MovingReader(engine(causal), "last").fresh()
    for places in (np.array([3, 0, 7]), np.array([5]), np.arange(9)[::-1]):
        kept = frozen.batch(examples, places)
        with moving.reading():
            again = moving.batch(examples, places)
        counts = [len(examples[place].labels) for place in places]
        assert kept.mask.sum(1).tolist() == counts and kept.mask.shape == (len(places), max(counts))
        assert torch.equal(kept.mask, again.mask) and torch.equal(kept.labels, again.labels)
        torch.testing.assert_close(kept.features[kept.mask], again.features[again.mask], rtol=1e-9, atol=1e-9)
        for row, place in enumerate(places):
            assert kept.labels[row, : counts[row]].tolist() == examples[place].labels.tolist()


def test_what_was_read_is_not_read_again(
    causal: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, others = examples_of(tokenizer.vocab_size), examples_of(tokenizer.vocab_size, seed=1)
    calls: list[int] = []

    def counted(engine: object, examples: Sequence[Example], readout: Readout) -> Tensor:
        calls.append(len(examples))
        return features(engine, examples, readout)  # type: ignore[arg-type]

    monkeypatch.setattr("picolm.evaluation.readers.features", counted)
    reader = FrozenReader(engine(causal), "last", standardize=True)
    reader.begin(examples, others)
    for _ in range(3):
        reader.batch(examples, np.array([0]))
        reader.batch(others, np.array([0]))
    assert calls == [9, 9]


def test_standardized_features_have_mean_0_and_sd_1_on_the_training_units(
    causal: Transformer, tokenizer: Tokenizer
) -> None:
    train, dev = examples_of(tokenizer.vocab_size), examples_of(tokenizer.vocab_size, seed=1)
    reader = FrozenReader(engine(causal), "mean", standardize=True)
    reader.begin(train, dev)
    batch = reader.batch(train, np.arange(len(train)))
    own = batch.features[batch.mask]
    torch.testing.assert_close(own.mean(0), torch.zeros_like(own[0]), atol=1e-9, rtol=0)
    torch.testing.assert_close(own.std(0, correction=0), torch.ones_like(own[0]))
    raw, other = features(engine(causal), train, "mean"), features(engine(causal), dev, "mean")
    expected = (other - raw.mean(0)) / raw.std(0, correction=0)
    batch = reader.batch(dev, np.arange(len(dev)))
    torch.testing.assert_close(batch.features[batch.mask], expected)


def test_a_feature_that_is_constant_but_for_rounding_is_not_blown_up(
    causal: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = examples_of(tokenizer.vocab_size)
    found = features(engine(causal), examples, "last")
    found[:, 3] = 0.0
    found[:, 4] = 1000 + 1e-5 * torch.rand(len(found), dtype=torch.float64)
    monkeypatch.setattr("picolm.evaluation.readers.features", lambda *_: found.clone())
    reader = FrozenReader(engine(causal), "last", standardize=True)
    reader.begin(examples, examples)
    batch = reader.batch(examples, np.arange(len(examples)))
    own = batch.features[batch.mask]
    assert bool((own[:, 3] == 0).all()) and bool((own[:, 4].abs() < 1e-5).all())
    assert bool((own[:, 5].std(correction=0) - 1).abs() < 1e-9)


def test_a_broken_model_is_an_error(tokenizer: Tokenizer) -> None:
    model = tiny_model(tokenizer)
    with torch.no_grad():
        model.output_norm.weight[0] = torch.nan
    with pytest.raises(PicoLMError, match="hidden state that is not finite"):
        features(engine(model), examples_of(tokenizer.vocab_size), "last")
