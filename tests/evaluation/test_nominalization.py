"""Shares of candidates against people's; correlations against the textbook."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.evaluation.correlation import correlation, pearson, ranks, spearman
from picolm.evaluation.nominalization import NominalizationSettings, read_items, share_of_first
from picolm.evaluation.scoring import CausalScorer
from picolm.evaluation.task import Figure, Subject, parse_task
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, material

Table = Mapping[tuple[str, str], Figure]
RATIOS = [0.9, 0.1, 0.5, 0.3, 0.8, 0.0, 1.0]
FIRST = ["one two", "two three four", "café", "猫", "six seven", "eight", "nine ten"]
SECOND = ["two one", "three", "Zoë", "好き", "seven", "nine ten eleven", "ten"]


def measured(model: Transformer, tokenizer: Tokenizer, words: str) -> Table:
    task = parse_task(words)
    task.prepare(material(model, tokenizer))
    return {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}


def items(**changes: object) -> list[dict[str, object]]:
    return [
        {"sentences": f"{one}\t{other}", "ratio": ratio, **changes}
        for one, other, ratio in zip(FIRST, SECOND, RATIOS, strict=True)
    ]


def test_figures_equal_a_direct_computation(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    found = measured(causal, tokenizer, f"nominalization:{write_jsonl(items())}")
    scorer = CausalScorer(engine(causal), tokenizer)
    log_p = np.array([scorer.score(FIRST).log_p, scorer.score(SECOND).log_p])
    share = torch.from_numpy(log_p).softmax(0)[0].numpy()
    order = np.argsort(np.argsort(log_p[0] - log_p[1]))
    people = np.argsort(np.argsort(RATIOS))
    n = len(RATIOS)
    rho = 1 - 6 * float(np.square(order - people).sum()) / (n * (n * n - 1))
    assert found["all", "spearman"].value == pytest.approx(100 * rho)
    assert found["all", "pearson"].value == pytest.approx(100 * np.corrcoef(share, RATIOS)[0, 1])
    same = [(s > 0.5) == (r > 0.5) for s, r in zip(share, RATIOS, strict=True) if r != 0.5]
    agreement = found["all", "agreement"]
    assert (agreement.value, agreement.n) == (pytest.approx(100 * np.mean(same)), n - 1), "0.5 prefers neither"
    assert found["all", "spearman_low"].value < found["all", "spearman"].value < found["all", "spearman_high"].value


def test_controls_stand_beside_and_a_constant_has_no_correlation(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    found = measured(causal, tokenizer, f"nominalization:{write_jsonl(items())}")
    assert found["all", "agreement_constant"].value == 50.0
    assert not [metric for _, metric in found if metric in ("spearman_constant", "pearson_constant")]
    lengths = [[-len(tokenizer.encode(text)) for text in own] for own in (FIRST, SECOND)]
    wanted = spearman(np.subtract(*np.array(lengths, dtype=np.float64)), np.array(RATIOS))
    assert wanted is not None and found["all", "spearman_length"].value == pytest.approx(100 * wanted)
    assert ("all", "spearman_unigram") in found and ("all", "spearman_untrained") in found
    assert np.isfinite([figure.value for figure in found.values()]).all()
    same = [{"sentences": ["one", "one"], "ratio": ratio} for ratio in RATIOS]
    alike = measured(causal, tokenizer, f"nominalization:{write_jsonl(same, 'same.jsonl')}")
    assert {metric for _, metric in alike} == {
        f"agreement{control}" for control in ("", "_unigram", "_length", "_constant", "_untrained")
    }


def test_the_untrained_model_is_asked_once(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl(items())
    asked: list[int] = []

    def untrained() -> Transformer:
        asked.append(1)
        return causal

    task = parse_task(f"nominalization:{file}")
    task.prepare(material(causal, tokenizer, untrained=untrained))
    first = task.measure(Subject(engine(causal))).figures
    other = parse_task(f"nominalization:{file}")
    other.prepare(material(causal, tokenizer, untrained=untrained))
    other.recall(task.shared_files())
    assert other.measure(Subject(engine(causal))).figures == first and len(asked) == 1
    table = {figure.metric: figure.value for figure in first}
    assert table["spearman_untrained"] == table["spearman"]


def test_groups_and_other_names(causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]) -> None:
    lines = [
        {"candidates": [one, other], "people": str(ratio), "class": "a" if place < 4 else "b"}
        for place, (one, other, ratio) in enumerate(zip(FIRST, SECOND, RATIOS, strict=True))
    ]
    names = "candidates_field=candidates ratio_field=people group_field=class"
    found = measured(causal, tokenizer, f"nominalization:{write_jsonl(lines)} {names} controls=length")
    assert found["group/a", "agreement"].n == 3 and found["group/b", "pearson"].n == 3
    assert not [metric for _, metric in found if "unigram" in metric or "untrained" in metric]


def test_masked_models_have_shares_too(
    masked: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    found = measured(masked, tokenizer, f"nominalization:{write_jsonl(items())} controls=[]")
    assert found["all", "spearman"].n == len(RATIOS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"sentences": "a\tb"}, "line 1 has no field 'ratio'"),
        ({"sentence": "a\tb", "ratio": 1}, "line 1 has no field 'sentences'; did you mean 'sentence'"),
        ({"sentences": "a", "ratio": 1}, "line 1 has 1 candidates in its 'sentences', which must be two"),
        ({"sentences": "a\tb\tc", "ratio": 1}, "has 3 candidates"),
        ({"sentences": ["a", "b", "c"], "ratio": 1}, "has 3 candidates"),
        ({"sentences": "a\t ", "ratio": 1}, "which must be two"),
        ({"sentences": ["a", 3], "ratio": 1}, "has a number in its 'sentences'"),
        ({"sentences": "a\tb", "ratio": 60}, "line 1 has 60 as its 'ratio', which must be a share from 0 to 1"),
        ({"sentences": "a\tb", "ratio": "many"}, "line 1 has 'many' as its 'ratio', which must be a number"),
        ({"sentences": "a\tb", "ratio": None}, "line 1 has null as its 'ratio'"),
    ],
)
def test_bad_items_are_named_by_line(write_jsonl: Callable[..., Path], line: dict[str, object], message: str) -> None:
    with pytest.raises(PicoLMError) as error:
        read_items(write_jsonl([line]), NominalizationSettings())
    assert message in str(error.value)
    with pytest.raises(PicoLMError, match="the task nominalization needs a file"):
        parse_task("nominalization")


def test_babylms_items_are_read_whole(shared_data: Path) -> None:
    path = shared_data / "wug" / "wug_adj_nominalization.jsonl"
    found = read_items(path, NominalizationSettings())
    assert len(found) == 200
    assert all(item.first.endswith("ity") and item.second.endswith("ness") for item in found)
    ratios = [json.loads(line)["ratio"] for line in path.read_text().splitlines()]
    assert [item.ratio for item in found] == ratios


# Correlations.


@given(st.lists(st.floats(-700, 700), min_size=1))
def test_shares_are_a_softmax(differences: list[float]) -> None:
    x = np.array(differences)
    wanted = torch.stack([torch.from_numpy(x), torch.zeros(len(x), dtype=torch.float64)]).softmax(0)[0].numpy()
    np.testing.assert_allclose(share_of_first(x), wanted, atol=1e-15)


values = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=12)


@given(values)
def test_ranks_are_counted_one_by_one(pairs: list[tuple[int, int]]) -> None:
    x = np.array([float(one) for one, _ in pairs])
    wanted = [sum(other < one for other in x) + (sum(other == one for other in x) + 1) / 2 for one in x]
    np.testing.assert_allclose(ranks(x), wanted)


@given(values)
def test_coefficients_are_those_of_the_textbook(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array([float(pair[side]) for pair in pairs]) for side in (0, 1))
    found = pearson(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None and spearman(x, y) is None
        return
    assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert spearman(x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1], abs=1e-12)
    assert spearman(np.exp(x), y**3) == pytest.approx(spearman(x, y), abs=1e-12), "only order matters"
    assert pearson(3 * x + 1, -y) == pytest.approx(-found, abs=1e-9)


def test_the_interval_agrees_with_fishers() -> None:
    """Of a bivariate normal sample: atanh r is normal with standard deviation 1 / sqrt(n - 3)."""
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    y = 0.6 * x + 0.8 * random.normal(size=400)
    found = correlation(pearson, x, y, draws=4000, seed=0, key="a")
    assert found is not None and found.low is not None and found.high is not None
    z = np.arctanh(found.value)
    low, high = np.tanh(z - 1.96 / np.sqrt(397)), np.tanh(z + 1.96 / np.sqrt(397))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    again = correlation(pearson, x, y, draws=4000, seed=0, key="a")
    assert again == found != correlation(pearson, x, y, draws=4000, seed=1, key="a")


def test_too_few_different_items_have_no_interval() -> None:
    found = correlation(pearson, np.array([1.0, 2.0]), np.array([1.0, 2.0]), draws=100, seed=0, key="a")
    assert found is not None and (found.value, found.low, found.high, found.n) == (1.0, None, None, 2)
    assert correlation(pearson, np.ones(5), np.arange(5.0), draws=10, seed=0, key="a") is None
