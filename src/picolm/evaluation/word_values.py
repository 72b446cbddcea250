"""Lists of words with a number for each, such as frequencies or ages: JSON lines, or tables with a line of names."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.located import form_of
from picolm.evaluation.records import Record, read_lines, read_records
from picolm.text.lines import decode
from picolm.text.records import describe

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_word_values(path: Path, word_field: str, value_field: str) -> list[tuple[str, float]]:
    """Read words and their numbers, in order; a form may stand there several times.

    Args:
        path: `.jsonl`, `.csv` or `.tsv`, plain or gzipped (`.gz`); the latter two begin with a line of names.
        word_field: the name of the words.
        value_field: the name of the numbers; a word without one is left out, and so is one without a letter.

    Returns:
        (form, number): see `form_of`.

    Raises:
        PicoLMError: the file is not there, empty, damaged, or lacks a field; named by line.
    """
    separator = _SEPARATORS.get(Path(path.name.removesuffix(".gz")).suffix)
    found = []
    for record in read_records(path, "words") if separator is None else _rows(path, separator):
        for name in (word_field, value_field):
            if name not in record.values:
                raise PicoLMError(f"{record.place} has no field '{name}'{nearest(name, record.values)}")
        if record.values[value_field] in (None, "", "NA"):
            continue
        if form := form_of(record.text(word_field)):
            found.append((form, real_number(record, value_field)))
    if not found:
        raise PicoLMError(f"{path} has no word with a '{value_field}'")
    return found


def real_number(record: Record, name: str) -> float:
    """A field that must be a finite number, or its digits as a text."""
    if name not in record.values:
        raise PicoLMError(f"{record.place} has no field '{name}'{nearest(name, record.values)}")
    value = record.values[name]
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = f"'{value}'" if isinstance(value, str) else describe(value)
        raise PicoLMError(f"{record.place} has {shown} as its '{name}', which must be a number")
    return number


def _rows(path: Path, separator: str) -> Iterator[Record]:
    """The rows of a table, each a line: a word does not hold the end of one."""
    names: list[str] = []
    for number, line in read_lines(path, "words", strip=False):
        place = f"{path}, line {number}"
        try:
            (cells,) = csv.reader([decode(str(path), line, number)], delimiter=separator, strict=True)
        except csv.Error as error:
            raise PicoLMError(f"{place} is no row of a table: {error}") from None
        if not names:
            names = cells
        elif len(cells) != len(names):
            raise PicoLMError(f"{place} has {len(cells)} cells, where the first line names {len(names)}")
        else:
            yield Record(dict(zip(names, cells, strict=True)), place)
