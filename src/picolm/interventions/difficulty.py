"""How hard rows of training data are: by what is known of their documents, by their n-grams, by chance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from picolm.config.yaml12 import parse_yaml
from picolm.errors import PicoLMError, nearest
from picolm.interventions.scanning import scanned
from picolm.seams import IntArray, Run

Scores = npt.NDArray[np.float64]
"""How hard each row is [rows]; inf where it is not known."""

LARGEST_N = 3
"""An n-gram is counted by its number in base V, which must fit 64 bits."""


@cache
def named_ranks() -> Mapping[str, Mapping[str, float]]:
    """The orders of sources that come with PicoLM, by name."""
    text = files("picolm.interventions").joinpath("orders.yaml").read_text(encoding="utf-8")
    parsed: dict[str, dict[str, float]] = parse_yaml(text, origin="orders.yaml")
    return parsed


def by_field(run: Run, field: str, ranks: Mapping[str, float] | None) -> Scores:
    """The mean of a field over the tokens of a row; tokens of documents that have none do not count.

    Args:
        run: the run.
        field: of the metadata, or of the table of documents (`domain`, `source`, `characters`, ...).
        ranks: what each value of the field stands for; None: the values are numbers.

    Raises:
        PicoLMError: a value is no number, or has no rank, or no training document has the field.
    """
    values = np.array([_number(value, field, ranks) for value in run.metadata("train", field)], dtype=np.float64)
    if np.isnan(values).all():
        raise PicoLMError(f"no training document has the field '{field}': name one of the metadata, or domain, source")
    found = []
    for rows in scanned(run, f"reading {field}"):
        assert rows.documents is not None
        of_tokens = values[rows.documents[:, 1:]]
        known = ~np.isnan(of_tokens)
        counts = known.sum(axis=1)
        sums = np.where(known, of_tokens, 0.0).sum(axis=1)
        found.append(np.where(counts > 0, sums / np.maximum(counts, 1), np.inf))
    return np.concatenate(found)


def _number(value: Any, field: str, ranks: Mapping[str, float] | None) -> float:
    if value is None:
        return np.nan
    if ranks is not None:
        if str(value) not in ranks:
            raise PicoLMError(f"the {field} '{value}' has no rank{nearest(str(value), ranks)}")
        return float(ranks[str(value)])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PicoLMError(f"the field '{field}' holds '{value}', which is no number: give `ranks` for its values")
    return float(value)


def by_perplexity_of_ngrams(run: Run, n: int) -> Scores:
    """The perplexity of each row under maximum-likelihood n-grams of all training rows.

    As CLIMB computes it, by all orders: the mean of -log p over the 1-grams, 2-grams, ..., n-grams of a row, each given
    the tokens before it in the n-gram.

    Args:
        run: the run.
        n: 1 to 3.
    """
    tokens = np.concatenate([rows.tokens[:, :-1] for rows in scanned(run, "counting n-grams")])
    return perplexity_of_ngrams(tokens, n)


def perplexity_of_ngrams(tokens: IntArray, n: int) -> Scores:
    """The same of rows of tokens [R, T] under their own n-grams [R]."""
    base = int(tokens.max()) + 1
    assert base**n < 2**63, "an n-gram fits a number"
    nats, n_grams = np.zeros(len(tokens)), 0
    for order in range(1, min(n, tokens.shape[1]) + 1):
        n_places = tokens.shape[1] - order + 1
        codes = np.zeros((len(tokens), n_places), dtype=np.int64)
        for ahead in range(order):
            codes = codes * base + tokens[:, ahead : ahead + n_places]
        _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
        # The n-grams that begin with the same n - 1 tokens.
        _, history, of_history = np.unique(codes // base, return_inverse=True, return_counts=True)
        p = counts[place.ravel()] / of_history[history.ravel()]
        nats -= np.log(p).reshape(codes.shape).sum(axis=1)
        n_grams += n_places
    return np.exp(nats / n_grams)


def at_random(run: Run) -> Scores:
    """Numbers that say nothing, the same for every step."""
    return run.rng("difficulty").random(run.n_rows)
