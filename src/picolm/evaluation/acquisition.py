"""When a model acquires a word, and whether children acquire words in the same order (Chang & Bergen 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.correlation import Correlation, correlation, pearson, spearman
from picolm.evaluation.human_ages import read_ages
from picolm.evaluation.learning_curves import LearningCurves, read_learning_curves
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.regression import Regression, regress
from picolm.evaluation.sigmoids import Sigmoid, fit_sigmoid

Baseline = Literal["chance", "unigram"]
Censored = Literal["", "before", "after"]
_FEWEST = 5
"""A sigmoid has four parameters."""
PREDICTORS = ("log10_step", "log_frequency", "length")


class Age(NamedTuple):
    """When a curve is half-way from a baseline to its minimum."""

    log10_step: float
    censored: Censored
    """`after`: not within the checkpoints, of which `log10_step` is the last; `before`: already at the first one."""
    threshold: float
    """Nats."""
    fit: Sigmoid


def age_of(x: FloatArray, curve: FloatArray, baseline: float, least_gain: float = 0.0) -> Age:
    """Age of acquisition of one word.

    The threshold is half-way between the baseline and the minimum of the curve; the age is where a sigmoid that is
    fitted to the curve crosses it, however noisy the curve is.

    Args:
        x: log10 of the steps, ascending [S].
        curve: mean surprisal there, nats [S].
        baseline: surprisal of a model that knows nothing.
        least_gain: by how many nats the minimum must be below it, or the word is never acquired.
    """
    fit, least = fit_sigmoid(x, curve), float(curve.min())
    threshold = (baseline + least) / 2
    first, last = float(x[0]), float(x[-1])
    if least >= baseline - least_gain or fit.upper <= fit.lower or threshold <= fit.lower:
        return Age(last, "after", threshold, fit)
    if threshold >= fit.upper:
        return Age(first, "before", threshold, fit)
    at = fit.crossing(threshold)
    censored: Censored = "after" if at > last else "before" if at < first else ""
    return Age(min(max(at, first), last), censored, threshold, fit)


def acquisition(
    place: Path | str | LearningCurves,
    *,
    ages: Path | str | Mapping[str, float | None] | None = None,
    label: str | None = None,
    baseline: Baseline = "chance",
    least: int = 1,
    least_gain: float = math.log(2),
) -> pa.Table:
    """Ages of acquisition of the words of a text that the task `words` asked at several checkpoints.

    Step 0 is left out: it has no logarithm.

    Args:
        place: the run, or its `eval/`; or curves, for example of a run's `tokens`.
        ages: of children, in months: a file (see `read_ages`), or by form.
        label: how the task is named; None: the only one that is there.
        baseline: `chance`: log V for each token, as in the paper; `unigram`: what counts of training tokens alone give.
        least: words that stand in the texts fewer times are left out.
        least_gain: words whose surprisal never falls by so many nats below the baseline are not acquired; log 2: whose
            probability never doubles. 0: the rule of the paper, by which a word that falls by a hair has an age.

    Returns:
        A row for each word: word, occurrences, length (in characters), tokens (mean), log_frequency, unigram (nats);
        first, last and least (surprisal of the curve, nats); log10_step and step (its age), censored (`before`, `after`
        or empty), threshold (nats); upper, lower, middle, scale and r_squared (the fit); age (of children, months).

    Raises:
        PicoLMError: there is nothing to read, there are fewer than five checkpoints, or the baseline is not known.
    """
    curves = place if isinstance(place, LearningCurves) else read_learning_curves(place, label, least)
    later = curves.steps > 0
    if later.sum() < _FEWEST:
        raise PicoLMError(
            f"a curve through {later.sum()} checkpoints after step 0 has no age: ask {_FEWEST} at least, "
            "each after about twice as many steps as the one before"
        )
    human = {} if ages is None else ages if isinstance(ages, Mapping) else read_ages(ages)
    known_nothing = _baselines(curves, baseline)
    x, surprisal = np.log10(curves.steps[later].astype(np.float64)), curves.surprisal[later]
    found = [age_of(x, curve, float(base), least_gain) for curve, base in zip(surprisal.T, known_nothing, strict=True)]
    return pa.table(
        {
            "word": pa.array(curves.words, pa.string()),
            "occurrences": pa.array(curves.occurrences),
            "length": pa.array([len(word) for word in curves.words], pa.int64()),
            "tokens": pa.array(curves.tokens),
            "log_frequency": pa.array(curves.log_frequency, from_pandas=True),
            "unigram": pa.array(curves.unigram, from_pandas=True),
            "first": pa.array(surprisal[0]),
            "last": pa.array(surprisal[-1]),
            "least": pa.array(surprisal.min(axis=0)),
            "log10_step": pa.array([age.log10_step for age in found], pa.float64()),
            "step": pa.array([10**age.log10_step for age in found], pa.float64()),
            "censored": pa.array([age.censored for age in found], pa.string()),
            "threshold": pa.array([age.threshold for age in found], pa.float64()),
            **{
                name: pa.array([getattr(age.fit, name) for age in found], pa.float64(), from_pandas=True)
                for name in Sigmoid._fields
            },
            "age": pa.array([human.get(word) for word in curves.words], pa.float64()),
        }
    )


def _baselines(curves: LearningCurves, baseline: Baseline) -> FloatArray:
    if baseline == "chance":
        return np.asarray(np.log(curves.vocab_size) * curves.tokens)
    if baseline != "unigram":
        raise PicoLMError(f"there is no baseline '{baseline}'{nearest(baseline, ('chance', 'unigram'))}")
    if np.isnan(curves.unigram).any():
        raise PicoLMError("baseline='unigram' needs the run's training tokens, which were not there: take 'chance'")
    return curves.unigram


@dataclass(frozen=True, slots=True)
class Comparison:
    """Children and a model, over words that both acquired.

    Attributes:
        pearson: of children's ages in months and log10 steps; None where it is not defined.
        spearman: likewise.
        regression: of children's ages on all predictors.
        without: on the same words and all predictors but the model's age: what that adds is the difference.
        predictors: their names, in the order of the coefficients.
        left_out: words with an age of children that were left out, by reason.
    """

    pearson: Correlation | None
    spearman: Correlation | None
    regression: Regression
    without: Regression
    predictors: tuple[str, ...]
    left_out: Mapping[str, int]


def compare(
    table: pa.Table, predictors: Sequence[str] = PREDICTORS, *, bootstrap: int = 2000, seed: int = 0
) -> Comparison:
    """Compare a model's ages of acquisition with children's.

    Args:
        table: from `acquisition`, with ages of children.
        predictors: columns of it, `log10_step` among them.
        bootstrap: draws of words for the intervals.
        seed: of them.

    Raises:
        PicoLMError: a predictor is not there, or too few words are left.
    """
    for name in ("log10_step", *predictors):
        if name not in table.column_names:
            raise PicoLMError(f"there is no column '{name}'{nearest(name, table.column_names)}")
    others = [name for name in predictors if name != "log10_step"]
    with_age = table.filter(pc.is_valid(table["age"]))
    acquired = with_age.filter(pc.equal(with_age["censored"], ""))
    whole = acquired.select(["age", "log10_step", *others]).drop_null()
    left_out = {
        "censored": with_age.num_rows - acquired.num_rows,
        "without a predictor": acquired.num_rows - whole.num_rows,
    }
    y, age = (whole[name].to_numpy().astype(np.float64) for name in ("age", "log10_step"))
    rest = np.column_stack([np.empty((len(y), 0)), *(whole[name].to_numpy().astype(np.float64) for name in others)])
    drawn = {"draws": bootstrap, "seed": seed}
    return Comparison(
        regression=regress(y, np.column_stack([age, rest])),
        without=regress(y, rest),
        pearson=correlation(pearson, age, y, key="ages", **drawn),
        spearman=correlation(spearman, age, y, key="ages", **drawn),
        predictors=("log10_step", *others),
        left_out=left_out,
    )
