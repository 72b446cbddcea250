"""Scores of the items behind a figure of an evaluation, where the task keeps them: pairs, tokens, words, texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from picolm.errors import PicoLMError
from picolm.evaluation.pairs import OUTCOMES, PAIRS
from picolm.evaluation.tokens import STEPS_PER_NAT, TOKENS, TRAJECTORY, unpacked
from picolm.evaluation.words import WORDS
from picolm.experiments.quantity import Quantity
from picolm.runs.evaluations import FOLDER, Kept, kept

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True, slots=True)
class Items:
    """The items that a figure is the mean of.

    Attributes:
        scores: by the name of the item, in the unit of the figure.
        groups: of each item in the same order, what it was drawn together with: the document of a token. Empty where
            each item was drawn by itself.
    """

    scores: Mapping[str, float]
    groups: tuple[str, ...] = ()


def items_of(run: Path, quantity: Quantity, step: int, value: float) -> Items | None:
    """The items behind the figure of an evaluation.

    Args:
        run: its directory.
        quantity: of an evaluation.
        step: of the checkpoint.
        value: the figure. Items whose mean it is not are those of another figure, such as a correlation.

    Returns:
        None where the task keeps no items, or not those of this figure.

    Raises:
        PicoLMError: a newer PicoLM wrote them.
    """
    # How a task is called need not say of which kind it is.
    for kind, reader in _READERS.items():
        for part in kept(run / FOLDER, kind):
            if part.label == quantity.evaluation and part.part.step == step:
                try:
                    found = reader(part, quantity)
                except (PicoLMError, KeyError, pa.ArrowException):
                    # What an earlier PicoLM wrote has no such file, or a subset is of another kind.
                    return None
                return found if found is not None and _is_mean(found, value) else None
    return None


def _is_mean(items: Items, value: float) -> bool:
    mean = sum(items.scores.values()) / len(items.scores) if items.scores else math.nan
    # Surprisals of tokens are kept to half a unit in 16 bits.
    return math.isclose(mean, value, rel_tol=1e-6, abs_tol=0.5 / STEPS_PER_NAT)


def _tokens(part: Kept, quantity: Quantity) -> Items | None:
    """Each scored token of a text; those of a document were drawn together."""
    if quantity.score not in ("surprisal", "right"):
        return None
    table, trajectory = part.table(TOKENS), part.table(TRAJECTORY)
    column = trajectory[quantity.score].to_numpy()
    scores = 100.0 * column if quantity.score == "right" else unpacked(column).astype(np.float64)
    own = _of_domain(table, quantity.subset)
    if own is None:
        return None
    documents, starts = table["document"].to_pylist(), table["start"].to_pylist()
    stops, positions = table["stop"].to_pylist(), table["position"].to_pylist()
    places = np.flatnonzero(own).tolist()
    # With where it stands, so that tokens of another tokenizer are other items.
    names = [f"{documents[at]}/{positions[at]}/{starts[at]}-{stops[at]}" for at in places]
    scored = dict(zip(names, scores[places].tolist(), strict=True))
    return Items(scored, tuple(str(documents[at]) for at in places))


def _words(part: Kept, quantity: Quantity) -> Items | None:
    """Each word that has a surprisal; those of a text were drawn together."""
    if quantity.score != "surprisal":
        return None
    table = part.table(WORDS)
    own = _of_domain(table, quantity.subset)
    if own is None:
        return None
    surprisal, texts, starts = (table[name].to_pylist() for name in ("surprisal", "text", "start"))
    places = [at for at in np.flatnonzero(own).tolist() if surprisal[at] is not None]
    scored = {f"{texts[at]}/{starts[at]}": surprisal[at] for at in places}
    return Items(scored, tuple(str(texts[at]) for at in places))


def _classification(part: Kept, quantity: Quantity) -> Items | None:
    """Each text: how many in a hundred of the tuned heads label it right."""
    if quantity.score != "accuracy":
        return None
    right: dict[str, list[float]] = {}
    table = part.table(PREDICTIONS).select(["subset", "place", "label", "predicted"]).to_pylist()
    for row in table:
        if quantity.subset in ("all", row["subset"]):
            right.setdefault(f"{row['subset']}/{row['place']}", []).append(100.0 * (row["label"] == row["predicted"]))
    return Items({name: sum(own) / len(own) for name, own in right.items()})


def _pairs(part: Kept, quantity: Quantity) -> Items | None:
    """Each pair of sentences: 100 where the better one was found, 50 for a tie.

    The mean over paradigms counts the pairs of a small paradigm for more: their scores are weighed accordingly.
    """
    if quantity.score not in ("accuracy", "accuracy_over_pairs"):
        return None
    table = part.table(PAIRS)
    kind, _, name = quantity.subset.partition("/")
    outcomes = 50.0 * np.frombuffer(part.content(OUTCOMES), dtype=np.uint8)
    own = np.arange(table.num_rows)
    if quantity.subset != "all":
        own = np.flatnonzero([group == name for group in table[kind].to_pylist()])
    paradigms, ids = table["paradigm"].to_pylist(), table["id"].to_pylist()
    counts = Counter(paradigms[at] for at in own)
    weights = {paradigm: len(own) / (len(counts) * n) for paradigm, n in counts.items()}
    whole = quantity.score == "accuracy_over_pairs"
    # A file may give no ids: the place of a pair names it too.
    return Items(
        {f"{paradigms[at]}/{ids[at]}/{at}": outcomes[at] * (1.0 if whole else weights[paradigms[at]]) for at in own}
    )


def _of_domain(table: pa.Table, subset: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Which rows belong to a subset; None where it is no domain."""
    if subset == "all":
        return np.ones(table.num_rows, dtype=bool)
    kind, _, name = subset.partition("/")
    return np.array([domain == name for domain in table["domain"].to_pylist()]) if kind == "domain" else None


_READERS: Mapping[str, Callable[[Kept, Quantity], Items | None]] = {
    "pairs": _pairs,
    "lexical": _pairs,
    "tokens": _tokens,
    "words": _words,
    "classification": _classification,
}
"""By the kind of a task."""
