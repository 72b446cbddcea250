import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.generation import Sampling, generate
from picolm.model.initialization import build_model

CONFIG = schema.Model(vocab_size=30, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=24, max_length=8)
LOGITS = np.log(np.array([0.1, 0.5, 0.05, 0.3, 0.05]))


def drawn(sampling: Sampling, seed: int = 0, n: int = 20, **options: object) -> list[int]:
    model = build_model(CONFIG, seed=0)
    # A flat output matrix would leave nothing to sample from.
    model.output_matrix.data *= 40
    return list(generate(model, [3, 4], max_tokens=n, sampling=sampling, seed=seed, stop=-1, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.5, 0.05, 0.3, 0.05]),
        (Sampling(temperature=0.0), [0, 1, 0, 0, 0]),
        (Sampling(temperature=0.5), np.array([0.01, 0.25, 0.0025, 0.09, 0.0025]) / 0.355),
        (Sampling(top_k=2), [0, 0.625, 0, 0.375, 0]),
        (Sampling(top_k=1), [0, 1, 0, 0, 0]),
        (Sampling(top_p=0.79), [0, 0.625, 0, 0.375, 0]),
        (Sampling(top_p=0.81), np.array([0.1, 0.5, 0, 0.3, 0]) / 0.9),
        (Sampling(top_p=1e-9), [0, 1, 0, 0, 0]),
        (Sampling(top_k=3, top_p=0.6), [0, 0.625, 0, 0.375, 0]),
    ],
)
def test_probabilities_by_hand(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(sampling.probabilities(LOGITS), expected, atol=1e-12)


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=40),
    st.floats(0, 5),
    st.integers(0, 50),
    st.floats(0.001, 1.0),
)
def test_probabilities_are_a_distribution_over_the_likeliest(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    values = np.array(logits)
    probabilities = Sampling(temperature, top_k, top_p).probabilities(values)
    assert probabilities.sum() == pytest.approx(1)
    kept = probabilities > 0
    assert kept.any() and (not top_k or kept.sum() <= top_k)
    assert values[kept].min() >= (values[~kept].max() if (~kept).any() else -np.inf) or temperature < 0.1


def test_the_same_seed_gives_the_same_text_and_another_seed_or_key_another() -> None:
    text = drawn(Sampling())
    assert text == drawn(Sampling())
    assert text != drawn(Sampling(), seed=1)
    assert text != drawn(Sampling(), key=1)
    assert drawn(Sampling(), n=5) == text[:5]


def test_temperature_zero_takes_the_argmax_of_a_direct_forward() -> None:
    model = build_model(CONFIG, seed=0)
    ids = [3, 4]
    for _ in range(12):
        context = torch.tensor([ids[-8:]])
        ids.append(int(model.logits(model(context))[0, -1].argmax()))
    model.train()
    assert list(generate(model, [3, 4], max_tokens=12, sampling=Sampling(0.0), seed=0, stop=-1)) == ids[2:]
    assert model.training


def test_frequencies_follow_the_distribution() -> None:
    model = build_model(CONFIG, seed=0)
    model.output_matrix.data *= 40
    expected = model.logits(model(torch.tensor([[3, 4]])))[0, -1].softmax(-1).detach().numpy()
    first = [next(generate(model, [3, 4], max_tokens=1, sampling=Sampling(), seed=s, stop=-1)) for s in range(2000)]
    counts = np.bincount(first, minlength=30)
    common = expected > 0.01
    chi_square = ((counts - 2000 * expected)[common] ** 2 / (2000 * expected[common])).sum()
    # The 99.99% quantile of chi-square with 29 degrees of freedom is 66.
    assert chi_square < 66


def test_stop_and_rows_beyond_the_tokenizer() -> None:
    sure = drawn(Sampling(0.0), n=3)
    model = build_model(CONFIG, seed=0)
    model.output_matrix.data *= 40
    assert list(generate(model, [3, 4], max_tokens=3, sampling=Sampling(0.0), seed=0, stop=sure[1])) == sure[:1]
    assert max(drawn(Sampling(temperature=5.0), n=60, vocab_size=6)) < 6


def test_a_bidirectional_model_is_refused() -> None:
    config = schema.Model.model_validate({**CONFIG.model_dump(), "attention": "bidirectional"})
    with pytest.raises(PicoLMError, match="cannot generate"):
        next(generate(build_model(config, seed=0), [1], max_tokens=1, sampling=Sampling(), seed=0, stop=0))
