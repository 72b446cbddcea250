"""Lists of words with a number for each, such as frequencies or ages: JSON lines, or tables with a line of names."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.located import form_of
from picolm.text.document import JSON
from picolm.text.lines import Lines, decode
from picolm.text.reading import parse_record
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
    try:
        with path.open("rb") as file:
            lines = Lines(str(path), file, packed=path.suffix == ".gz")
            for place, record in _records(lines) if separator is None else _rows(lines, separator):
                for name in (word_field, value_field):
                    if name not in record:
                        raise PicoLMError(f"{place} has no field '{name}'{nearest(name, record)}")
                value = _number(record[value_field], value_field, place)
                form = _form(record[word_field], word_field, place)
                if form and value is not None:
                    found.append((form, value))
    except OSError as error:
        raise PicoLMError(f"cannot read the words in {path}: {error.strerror or error}") from None
    if not found:
        raise PicoLMError(f"{path} has no word with a '{value_field}'")
    return found


def _records(lines: Lines) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    for number, line in lines:
        if stripped := line.strip():
            place = f"{lines.name}, line {number}"
            yield place, parse_record(decode(lines.name, stripped, number), place)


def _rows(lines: Lines, separator: str) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    names: list[str] | None = None
    # One line is one row: a word does not hold the end of a line.
    for number, line in lines:
        text = decode(lines.name, line, number).rstrip("\r\n")
        if not text.strip():
            continue
        place = f"{lines.name}, line {number}"
        try:
            cells = next(csv.reader([text], delimiter=separator, strict=True))
        except csv.Error as error:
            raise PicoLMError(f"{place} is no row of a table: {error}") from None
        if names is None:
            names = cells
        elif len(cells) != len(names):
            raise PicoLMError(f"{place} has {len(cells)} cells, where the first line names {len(names)}")
        else:
            yield place, dict(zip(names, cells, strict=True))


def _number(value: JSON, name: str, place: str) -> float | None:
    if value is None or value in ("", "NA"):
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        shown = f"'{value}'" if isinstance(value, str) else describe(value)
        raise PicoLMError(f"{place} has {shown} as its '{name}', which must be a number")
    return number


def _form(value: JSON, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise PicoLMError(f"{place} has {describe(value)} as its '{name}', which must be a string")
    return form_of(value)
