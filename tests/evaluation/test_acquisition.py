"""Ages of acquisition: planted curves are recovered, censoring is named, regressions are those of the textbook."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import picolm
from picolm.errors import PicoLMError
from picolm.evaluation.acquisition import acquisition, age_of, compare
from picolm.evaluation.human_ages import first_uses, median_age, read_ages, shares_by_age
from picolm.evaluation.learning_curves import LearningCurves, learning_curves, read_learning_curves
from picolm.evaluation.regression import regress
from picolm.evaluation.sigmoids import Sigmoid, fit_sigmoid
from picolm.evaluation.trajectories import read_trajectories
from picolm.runs.directory import RunDirectory

STEPS = np.array([0, *(2**power for power in range(13))])
X = np.log10(STEPS[1:])


def curve(upper: float, lower: float, middle: float, scale: float) -> np.ndarray:
    """The sigmoid written out."""
    return lower + (upper - lower) / (1 + np.exp((X - middle) / scale))


# Sigmoids.


@given(st.floats(8, 11), st.floats(2, 6), st.floats(0.4, 3.2), st.floats(0.08, 0.5))
def test_a_fit_recovers_a_planted_sigmoid(upper: float, lower: float, middle: float, scale: float) -> None:
    found = fit_sigmoid(X, curve(upper, lower, middle, scale))
    assert tuple(found) == pytest.approx((upper, lower, middle, scale, 1.0), rel=1e-4)


@given(st.lists(st.floats(0, 10), min_size=len(X), max_size=len(X)), st.integers(0, 10))
def test_no_sigmoid_nearby_fits_better(values: list[float], seed: int) -> None:
    y = np.array(values)
    assume(np.ptp(y) > 0.1)
    found = fit_sigmoid(X, y)
    error = np.square(y - found.at(X)).sum()
    assert found.r_squared == pytest.approx(1 - error / np.square(y - y.mean()).sum(), abs=1e-9)
    random = np.random.default_rng(seed)
    length = X[-1] - X[0]
    for size in (1e-4, 1e-2, 0.3):
        near = np.array(found[:4]) * (1 + size * random.normal(size=(50, 4)))
        near[:, 2] = np.clip(near[:, 2], X[0] - length / 2, X[-1] + length / 2)
        near[:, 3] = np.clip(np.abs(near[:, 3]), length / 200, length)
        errors = [np.square(y - Sigmoid(*row, 0.0).at(X)).sum() for row in near.tolist()]
        assert min(errors) >= error * (1 - 1e-3) - 1e-9


def test_a_flat_and_a_rising_curve_are_fitted_as_what_they_are() -> None:
    flat = fit_sigmoid(X, np.full(len(X), 3.0))
    assert (flat.upper, flat.lower) == pytest.approx((3.0, 3.0)) and math.isnan(flat.r_squared)
    assert fit_sigmoid(X, curve(3, 8, 1.5, 0.2)).upper < 4 < fit_sigmoid(X, curve(3, 8, 1.5, 0.2)).lower


# Ages.


def test_the_age_is_where_the_fit_is_half_way_from_the_baseline_to_the_minimum() -> None:
    """With the baseline at the upper level and the minimum at the lower one, that is the middle."""
    y = curve(9, 3, 1.6, 0.1)
    age = age_of(X, y, baseline=9 + (3 - y.min()))
    assert (age.log10_step, age.censored) == (pytest.approx(1.6, abs=1e-4), "")
    assert age.threshold == pytest.approx(6)
    # Otherwise by the inverse of the sigmoid.
    age = age_of(X, y, baseline=7)
    threshold = (7 + y.min()) / 2
    assert age.log10_step == pytest.approx(1.6 + 0.1 * math.log((9 - threshold) / (threshold - 3)), abs=1e-4)


@pytest.mark.parametrize(
    ("y", "baseline", "censored"),
    [
        (curve(9, 8, 1.6, 0.2), 7.0, "after"),  # never below chance
        (curve(9, 3, 4.5, 0.1), 9.0, "after"),  # falls behind the last checkpoint
        (curve(3, 8, 1.5, 0.2), 9.0, "after"),  # unlearns what it never should have known
        (np.full(len(X), 9.0), 9.0, "after"),
        (curve(4, 3, 1.6, 0.2), 9.0, "before"),  # known at the first checkpoint
        (curve(9, 3, -1.5, 0.1), 9.0, "before"),
    ],
)
def test_words_without_an_age_are_censored(y: np.ndarray, baseline: float, censored: str) -> None:
    age = age_of(X, y, baseline, least_gain=0.5)
    assert (age.censored, age.log10_step) == (censored, X[-1] if censored == "after" else X[0])


def test_one_low_value_makes_no_age() -> None:
    """Half-way to an outlier may lie below the whole fit: the word was not acquired."""
    y = np.full(len(X), 8.9)
    y[5] = 1.0
    assert age_of(X, y, 9.0).censored == "after"


def test_a_gain_that_is_next_to_nothing_is_none() -> None:
    y = curve(9, 8.5, 1.6, 0.1)
    assert age_of(X, y, 9.0, least_gain=0.4).log10_step == pytest.approx(1.6, abs=1e-3)
    assert age_of(X, y, 9.0, least_gain=0.6).censored == "after"
    assert [row["censored"] for row in acquisition(curves_of([1.6]), least_gain=6.1).to_pylist()] == ["after"]


def curves_of(middles: Sequence[float], tokens: float = 1.0) -> LearningCurves:
    words = tuple(f"word{number}" for number in range(len(middles)))
    surprisal = np.stack([np.concatenate([[9.5], curve(9, 3, middle, 0.1)]) for middle in middles], axis=1)
    n = len(middles)
    random = np.random.default_rng(3)
    return LearningCurves(
        steps=STEPS,
        words=words,
        surprisal=surprisal * tokens,
        occurrences=np.arange(1, n + 1),
        tokens=np.full(n, tokens),
        unigram=np.full(n, 9.0 * tokens),
        log_frequency=random.normal(-8, 1, n),
        vocab_size=8103,
    )


def test_ages_of_many_words_are_one_row_each() -> None:
    middles = [0.8, 1.2, 1.6, 2.0, 9.0]
    table = acquisition(curves_of(middles), ages={"word1": 20, "word4": 30, "other": 1}).to_pylist()
    assert [row["word"] for row in table] == [f"word{number}" for number in range(5)]
    # ln 8103 = 9.0: chance is the upper level.
    assert [row["log10_step"] for row in table[:4]] == pytest.approx(middles[:4], abs=2e-3)
    assert [row["step"] for row in table[:4]] == pytest.approx([10**middle for middle in middles[:4]], rel=0.01)
    assert [row["censored"] for row in table] == ["", "", "", "", "after"]
    assert [row["age"] for row in table] == [None, 20.0, None, None, 30.0]
    assert table[0]["first"] == pytest.approx(curve(9, 3, 0.8, 0.1)[0]), "not that of step 0"
    assert table[0]["middle"] == pytest.approx(0.8, abs=1e-4) and table[0]["r_squared"] > 0.9999


def test_chance_counts_tokens_and_the_unigram_is_another_baseline() -> None:
    one, two = (acquisition(curves_of([1.2, 1.6], tokens)).to_pylist() for tokens in (1.0, 2.0))
    assert [row["log10_step"] for row in one] == pytest.approx([row["log10_step"] for row in two], abs=1e-6)
    unigram = acquisition(curves_of([1.2, 1.6]), baseline="unigram").to_pylist()
    assert [row["threshold"] for row in unigram] == pytest.approx([6.0, 6.0], abs=1e-3)
    with pytest.raises(PicoLMError, match="there is no baseline 'chanse'; did you mean 'chance'"):
        acquisition(curves_of([1.2]), baseline="chanse")  # type: ignore[arg-type]


# Curves.


@pytest.fixture(scope="module")
def asked(trained: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("words") / "eval"
    tasks = ["words tokens_per_domain=0", "tokens tokens_per_domain=0"]
    picolm.evaluate(trained.path, tasks, checkpoints="all", out=out)
    return out


def test_a_curve_is_the_mean_over_a_words_occurrences(asked: Path) -> None:
    found = read_learning_curves(asked, least=3)
    assert found.steps.tolist() == [0, 4, 8]
    for row, step in enumerate((0, 4, 8)):
        (file,) = (asked / "files").glob(f"step-{step:08d}.words.*.words.parquet")
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        for word in ("seven", "twelve"):
            own = [one["surprisal"] for one in rows if one["form"] == word]
            assert found.of(word)[row] == pytest.approx(np.mean(own), rel=1e-12)
            assert found.occurrences[found.words.index(word)] == len(own) >= 3
    assert np.isfinite(found.unigram).all() and np.isfinite(found.log_frequency).all()
    with pytest.raises(PicoLMError, match="there is no curve of the word 'sevn'; did you mean 'seven'"):
        found.of("sevn")
    with pytest.raises(PicoLMError, match="no word stands in the texts 10,000 times"):
        read_learning_curves(asked, least=10_000)
    with pytest.raises(PicoLMError, match=r"through 2 checkpoints after step 0 has no age: ask 5"):
        acquisition(asked)


def test_words_and_tokens_give_the_same_curves(asked: Path) -> None:
    words, tokens = read_learning_curves(asked), learning_curves(read_trajectories(asked))
    assert words.words == tokens.words and words.vocab_size == tokens.vocab_size == 300
    np.testing.assert_array_equal(words.occurrences, tokens.occurrences)
    np.testing.assert_allclose(words.tokens, tokens.tokens)
    np.testing.assert_allclose(words.surprisal, tokens.surprisal, atol=5 * 0.00025)
    # Both add one to the counts of training tokens.
    np.testing.assert_allclose(words.unigram, tokens.unigram, rtol=1e-5)


# Regression and comparison.


@pytest.mark.parametrize("predictors", [0, 1, 3])
def test_leaving_out_one_by_one_is_what_one_fit_says(predictors: int) -> None:
    random = np.random.default_rng(predictors)
    x, y = random.normal(size=(20, predictors)) * [1, 1000, 0.01][:predictors], random.normal(20, 4, 20)
    found = regress(y, x)
    errors = []
    for place in range(20):
        others = np.arange(20) != place
        weights = np.linalg.lstsq(np.column_stack([np.ones(19), x[others]]), y[others], rcond=None)[0]
        errors.append(abs(y[place] - weights[0] - x[place] @ weights[1:]))
    assert found.deviation == pytest.approx(np.mean(errors), rel=1e-9)
    whole = np.linalg.lstsq(np.column_stack([np.ones(20), x]), y, rcond=None)[0]
    np.testing.assert_allclose([found.intercept, *found.coefficients], whole, rtol=1e-7)
    explained = np.column_stack([np.ones(20), x]) @ whole
    assert found.r_squared == pytest.approx(np.square(explained - y.mean()).sum() / np.square(y - y.mean()).sum())
    assert found.n == 20


def test_what_cannot_be_regressed_says_so() -> None:
    y = np.arange(10.0)
    with pytest.raises(PicoLMError, match="needs 4 items; there are 3"):
        regress(y[:3], y[:3, None])
    with pytest.raises(PicoLMError, match="constant, or follows from the others"):
        regress(y, np.ones((10, 1)))
    with pytest.raises(PicoLMError, match="constant, or follows from the others"):
        regress(y, np.column_stack([y**2, y, 2 * y + 3]))
    with pytest.raises(PicoLMError, match="one item alone decides"):
        regress(y, np.eye(10)[:, :1])


def test_children_and_models_are_compared_over_words_that_both_acquired() -> None:
    random = np.random.default_rng(0)
    middles = [*random.uniform(0.5, 3, 40), 9.0, 9.0]
    curves = curves_of(middles)
    ages = {word: 10 + 5 * middle + random.normal(0, 0.5) for word, middle in zip(curves.words, middles, strict=True)}
    del ages["word0"]
    table = acquisition(curves, ages=ages)
    found = compare(table, ("log10_step", "log_frequency"))
    rows = [row for row in table.to_pylist() if row["age"] is not None and not row["censored"]]
    assert found.left_out == {"censored": 2, "without a predictor": 0} and found.regression.n == len(rows) == 39
    x, y = ([row[name] for row in rows] for name in ("log10_step", "age"))
    assert found.pearson is not None and found.pearson.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.pearson.low is not None and found.pearson.low > 0.9
    design = np.column_stack([x, [row["log_frequency"] for row in rows]])
    np.testing.assert_allclose(found.regression.coefficients, regress(np.array(y), design).coefficients)
    assert found.predictors == ("log10_step", "log_frequency")
    assert found.regression.coefficients[0] == pytest.approx(5, abs=0.5)
    assert found.without.deviation > 3 * found.regression.deviation, "the model's age foretells the children's"
    with pytest.raises(PicoLMError, match="there is no column 'frequency'; did you mean 'log_frequency'"):
        compare(table, ("log10_step", "frequency"))


# Children.


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=10))
def test_the_median_age_is_that_of_the_definition(children: list[tuple[int, bool]]) -> None:
    """S(t) is the product over ages up to t of the share, of those still followed, who do not say it first then."""
    last = {str(number): float(age) for number, (age, _) in enumerate(children)}
    first = {str(number): float(age) for number, (age, says) in enumerate(children) if says}
    wanted = None
    for until in range(1, 7):
        share = 1.0
        for age in range(1, until + 1):
            followed = sum(other >= age for other, _ in children)
            share *= 1 - sum(other == age and says for other, says in children) / followed if followed else 1.0
        if share <= 0.5 + 1e-9:
            wanted = float(until)
            break
    shares = shares_by_age(first, last)
    assert median_age(shares) == wanted
    assert [age for age, _ in shares] == sorted(set(first.values()))
    if all(says for _, says in children):
        for age, share in shares:
            assert share == pytest.approx(np.mean([other <= age for other, _ in children])), "nobody is censored"


def utterance(child: str, age: float | None, tokens: str, role: str = "Target_Child") -> dict[str, Any]:
    return {"child": child, "age_months": age, "tokens": tokens, "role": role}


def test_first_uses_are_the_childrens_own(write_jsonl: Callable[..., Path]) -> None:
    file = write_jsonl(
        [
            utterance("A", 20, "Dog !"),
            utterance("A", 18, "no dog ."),
            utterance("A", 15, "dog", role="Mother"),
            utterance("B", 24, "a dog"),
            utterance("B", None, "cat"),
            utterance("C", 30, "cat no"),
            {**utterance("D", 12, ""), "tokens": ["No", "moo", "."]},
        ],
        "utterances.jsonl",
    )
    rows = {row["word"]: row for row in first_uses(file).to_pylist()}
    assert rows.keys() == {"dog", "no"}, "words that two children say"
    assert (rows["dog"]["age"], rows["dog"]["children"], rows["dog"]["observed"]) == (24.0, 2, 4)
    assert (rows["dog"]["ages"], rows["dog"]["shares"]) == ([18.0, 24.0], pytest.approx([1 / 3, 2 / 3]))
    # D at 12 of four children, A at 18 of three: 3/4 * 2/3 = 1/2.
    assert (rows["no"]["age"], rows["no"]["children"]) == (18.0, 3)
    everything = {row["word"]: row for row in first_uses(file, least=1).to_pylist()}
    assert everything["cat"]["age"] == 30.0 and everything["moo"]["age"] is None, "one of four: 3/4 do not"


def test_files_of_utterances_are_checked(write_jsonl: Callable[..., Path]) -> None:
    for record, message in [
        (utterance("A", 20, "dog", role="Mother"), "has no utterance of a child"),
        ({"child": "A", "age_months": 20, "role": "Target_Child"}, "line 1 has no field 'tokens'"),
        ({**utterance("A", 20, "dog"), "age_months": "young"}, "line 1 has 'young' as its 'age_months'"),
        (utterance("A", 20, "dog"), "has no word that 2 children say"),
    ]:
        with pytest.raises(PicoLMError, match=message):
            first_uses(write_jsonl([record]))


def test_ages_of_one_form_are_averaged(tmp_path: Path) -> None:
    file = tmp_path / "ages.csv"
    file.write_text("word,age\nDog,18\ndog,20\ncat,\nshe,30.5\n")
    assert read_ages(file) == {"dog": 19.0, "she": 30.5}
    file.write_text(json.dumps({"word": "dog", "age": 0}))
    with pytest.raises(PicoLMError):
        read_ages(file)
    other = tmp_path / "ages.jsonl"
    other.write_text(json.dumps({"word": "dog", "age": 0}))
    with pytest.raises(PicoLMError, match="has the age 0 for 'dog', which must be above 0 months"):
        read_ages(other)


def test_real_children_say_first_words_first(shared_data: Path) -> None:
    table = first_uses(shared_data / "childes_en" / "utterances.train.jsonl.gz", least=3)
    ages = dict(zip(table["word"].to_pylist(), table["age"].to_pylist(), strict=True))
    assert table.num_rows > 500 and set(table["observed"].to_pylist()) == {7}
    early, late = (
        [ages[word] for word in words] for words in (("no", "the", "that", "it"), ("because", "which", "if"))
    )
    known = [age for age in late if age is not None]
    assert None not in early and np.mean(early) < np.mean(known)
