"""The ages at which children acquire words: as a list says, or as their recorded speech shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from picolm.errors import PicoLMError
from picolm.evaluation.located import form_of
from picolm.evaluation.records import Record, read_records
from picolm.evaluation.word_values import read_word_values, real_number

CHILD = "Target_Child"
"""The role of the child in CHILDES."""


def read_ages(path: Path | str, word_field: str = "word", age_field: str = "age") -> dict[str, float]:
    """Read ages of acquisition in months; of several for one form the mean (Chang & Bergen 2022).

    Args:
        path: `.jsonl`, `.csv` or `.tsv`: see `read_word_values`.
        word_field: the name of the words.
        age_field: the name of the ages; a word without one is left out.

    Raises:
        PicoLMError: the file is not what it must be, or an age is not above 0.
    """
    ages: dict[str, list[float]] = {}
    for form, age in read_word_values(Path(path), word_field, age_field):
        if age <= 0:
            raise PicoLMError(f"{path} has the age {age:g} for '{form}', which must be above 0 months")
        ages.setdefault(form, []).append(age)
    return {form: float(np.mean(own)) for form, own in ages.items()}


def first_uses(path: Path | str, least: int = 2) -> pa.Table:
    """At which age children say words, as far as their recorded speech shows.

    For each child and word the age of the first utterance with it; a child who is not heard to say it is followed to
    the last of its utterances. The share of children who say it by an age is Kaplan & Meier's (1958), and the age of
    acquisition the first at which that is half of them: without a value where it never is. Recordings are samples that
    begin at different ages, so these ages are later than those of word lists that parents fill in.

    Args:
        path: JSON lines with `child`, `age_months`, `role` and `tokens` (joined by spaces, or a list); utterances
            without an age, and of other speakers than the child, are passed over.
        least: words that fewer children say are left out.

    Returns:
        A row for each word: word (its form), age (months, null: censored), children (who say it), observed (children in
        the file), ages and shares (at which the share of children who say it grows, and to what).

    Raises:
        PicoLMError: the file is not what it must be, or no word is said by so many children.
    """
    first: dict[str, dict[str, float]] = {}
    last: dict[str, float] = {}
    for child, age, words in _utterances(Path(path)):
        last[child] = max(age, last.get(child, age))
        for form in filter(None, map(form_of, words)):
            said = first.setdefault(form, {})
            said[child] = min(age, said.get(child, age))
    said_by = {form: own for form, own in sorted(first.items()) if len(own) >= least}
    if not said_by:
        raise PicoLMError(f"{path} has no word that {least} children say")
    shares = [shares_by_age(own, last) for own in said_by.values()]
    return pa.table(
        {
            "word": pa.array(said_by, pa.string()),
            "age": pa.array([median_age(own) for own in shares], pa.float64()),
            "children": pa.array([len(own) for own in said_by.values()], pa.int32()),
            "observed": pa.array([len(last)] * len(said_by), pa.int32()),
            "ages": pa.array([[age for age, _ in own] for own in shares], pa.list_(pa.float64())),
            "shares": pa.array([[share for _, share in own] for own in shares], pa.list_(pa.float64())),
        }
    )


def shares_by_age(first: Mapping[str, float], last: Mapping[str, float]) -> list[tuple[float, float]]:
    """The share of children who say a word by an age, by Kaplan & Meier.

    Args:
        first: ages of first uses, of those who say it.
        last: until when each child was followed.

    Returns:
        (age, share) wherever the share grows, ascending.
    """
    ages = np.array([first.get(child, end) for child, end in last.items()])
    says = np.array([child in first for child in last])
    found, silent = [], 1.0
    for age in np.unique(ages[says]).tolist():
        silent *= 1 - float((ages[says] == age).sum()) / float((ages >= age).sum())
        found.append((age, 1 - silent))
    return found


def median_age(shares: Sequence[tuple[float, float]]) -> float | None:
    """The age by which half of children say a word; None where it is beyond what was recorded."""
    # Half of an even number, without the rounding of a product.
    return next((age for age, share in shares if share >= 0.5 - 1e-12), None)


def _utterances(path: Path) -> Iterator[tuple[str, float, Sequence[str]]]:
    """Child, age and words of each utterance of a child whose age is known."""
    found = False
    for record in read_records(path, "utterances"):
        if record.values.get("age_months") is not None and record.text("role") == CHILD:
            found = True
            yield record.text("child"), real_number(record, "age_months"), _words(record)
    if not found:
        raise PicoLMError(f"{path} has no utterance of a child (role {CHILD}) with an age")


def _words(record: Record) -> Sequence[str]:
    listed = record.values.get("tokens")
    if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
        return [str(word) for word in listed]
    return record.text("tokens", may_be_empty=True).split()
