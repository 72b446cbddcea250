import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.cache import KeyValueCache
from picolm.model.generation import Sampling, generate, generate_batch
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel, Role
from picolm.model.transformer import Transformer

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


VARIANTS: dict[str, dict[str, object]] = {
    "grouped": {},
    "one key for each query": {"n_kv_heads": 4},
    "qk_norm": {"qk_norm": True},
    "tied": {"tied": True},
}
WIDE = schema.Model(vocab_size=40, d_model=32, n_layers=3, n_heads=4, n_kv_heads=2, d_ffn=48, max_length=24)
PROMPTS = [[3], [5, 7, 9, 11, 13], [2] * 24, [4, 8], [1] * 30]
"""Short ones, one that just fits the model, one that does not."""


def decided(variant: str) -> Transformer:
    """A model with large matrices: what follows depends on what came before, by margins far above rounding."""
    config = {**WIDE.model_dump(), **VARIANTS[variant], "init": {"std": 0.6}}
    model = build_model(schema.Model.model_validate(config), seed=2)
    for name, parameter in model.named_parameters():
        parameter.data *= 4 if name.endswith(("v_proj.weight", "o_proj.weight", "down_proj.weight")) else 1
    return model.eval()


def uncached(model: Transformer, prompt: list[int], n: int, sampling: Sampling, key: int) -> list[int]:
    """What generation means: each token drawn from a whole forward over the last `max_length` tokens."""
    ids = list(prompt)
    for number in range(n):
        logits = model.logits(model(torch.tensor([ids[-model.config.max_length :]])))[0, -1]
        ids.append(sampling.draw(logits.detach().double().numpy(), 7, key, number))
    return ids[len(prompt) :]


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(), Sampling(0.7, top_k=9, top_p=0.9)], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_equals_uncached_token_by_token_for_batches_with_padding(variant: str, sampling: Sampling) -> None:
    model, keys = decided(variant), [0, 1, 2, 3, 4]
    expected = [uncached(model, prompt, 30, sampling, key) for prompt, key in zip(PROMPTS, keys, strict=True)]
    # The rows are worth comparing: they are not one token over and over, nor each other.
    assert len({tuple(row) for row in expected}) == 5 and len({token for row in expected for token in row}) > 10
    added = generate_batch(model, PROMPTS, max_tokens=30, sampling=sampling, seed=7, stop=-1, keys=keys)
    assert added == expected
    alone = [
        list(generate(model, prompt, max_tokens=30, sampling=sampling, seed=7, stop=-1, key=key))
        for prompt, key in zip(PROMPTS, keys, strict=True)
    ]
    assert alone == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_logits_equal_those_of_a_whole_forward(variant: str) -> None:
    model = decided(variant).double()
    tokens = torch.randint(0, 40, (3, 20), generator=torch.Generator().manual_seed(1))
    lengths, filled = [4, 9, 1], tokens[:, :9].clone()
    for row, length in enumerate(lengths):
        filled[row, length:] = 39
    with torch.no_grad():
        whole = model.logits(model(tokens))
        cache = KeyValueCache(3, lengths, capacity=20)
        beginning = model.logits(model(filled, cache=cache))
        for row, length in enumerate(lengths):
            torch.testing.assert_close(beginning[row, :length], whole[row, :length], rtol=0, atol=1e-11)
        rows = [0, 1, 2]
        while rows:
            places = torch.tensor(cache.lengths)
            logits = model.logits(model(tokens[rows, places][:, None], cache=cache))[:, 0]
            torch.testing.assert_close(logits, whole[rows, places], rtol=0, atol=1e-11)
            # The longest row ends first; its place in the batch closes.
            going = [place for place, length in enumerate(cache.lengths) if length < 20]
            if going and len(going) < len(rows):
                cache.keep(going)
            rows = [rows[place] for place in going]


def test_rows_end_on_their_own() -> None:
    model = decided("grouped")
    free = generate_batch(model, PROMPTS[:3], max_tokens=12, sampling=Sampling(0.0), seed=0, stop=-1)
    stop = free[1][4]
    ended = generate_batch(
        model,
        PROMPTS[:3],
        max_tokens=12,
        sampling=Sampling(0.0),
        seed=0,
        stop=stop,
        ended=lambda number, ids: number == 0 and len(ids) == 2,
    )
    until = [row.index(stop) if stop in row else 12 for row in free]
    assert until[1] <= 4
    assert ended == [free[0][: min(2, until[0])], free[1][: until[1]], free[2][: until[2]]]


def test_a_step_with_a_cache_reads_one_position_and_holds_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shapes = decided("grouped"), []
    attention = F.scaled_dot_product_attention

    def recorded(query: Tensor, key: Tensor, *rest: Tensor, **options: Tensor | None) -> Tensor:
        mask = options.get("attn_mask")
        shapes.append((query.shape[2], key.shape[2], None if mask is None else tuple(mask.shape)))
        return attention(query, key, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    generate_batch(model, [[1, 2, 3]], max_tokens=4, sampling=Sampling(), seed=0, stop=-1)
    # Three layers each; then two query heads for each key head stand where positions stood.
    assert shapes == [(3, 3, None)] * 3 + [(2, 4, None)] * 3 + [(2, 5, None)] * 3 + [(2, 6, None)] * 3
    shapes.clear()
    generate_batch(model, [[1, 2, 3], [1]], max_tokens=2, sampling=Sampling(), seed=0, stop=-1)
    assert shapes == [(3, 3, None)] * 3 + [(2, 4, (2, 1, 1, 4))] * 3


class Counter(LanguageModel):
    """A model without a cache: it predicts the number of real tokens it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.config = schema.Model(vocab_size=9, d_model=24, max_length=6)
        self.matrix = torch.nn.Parameter(torch.eye(9))

    def forward(self, input_ids: Tensor, *, attention_mask: Tensor | None = None) -> Tensor:
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        return F.one_hot(real.cumsum(1), 9).float()

    @property
    def output_matrix(self) -> Tensor:
        return self.matrix

    def role(self, name: str) -> Role:
        return "matrix"


def test_a_model_that_keeps_no_cache_generates_too() -> None:
    added = generate_batch(Counter(), [[0], [0, 0, 0]], max_tokens=6, sampling=Sampling(0.0), seed=0, stop=-1)
    assert added == [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 6, 6]]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(PicoLMError, match="at least one token"):
        generate_batch(decided("grouped"), [[1], []], max_tokens=1, sampling=Sampling(), seed=0, stop=0)


def test_a_bidirectional_model_is_refused() -> None:
    config = schema.Model.model_validate({**CONFIG.model_dump(), "attention": "bidirectional"})
    with pytest.raises(PicoLMError, match="cannot generate"):
        next(generate(build_model(config, seed=0), [1], max_tokens=1, sampling=Sampling(), seed=0, stop=0))
