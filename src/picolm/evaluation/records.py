"""Records of a file of JSON lines, plain or gzipped, and their fields; whatever is wrong is named by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.text.document import JSON
from picolm.text.lines import Lines, decode
from picolm.text.reading import parse_record
from picolm.text.records import describe


@dataclass(frozen=True, slots=True)
class Record:
    """One line.

    Attributes:
        values: its fields.
        place: file and line, for errors.
    """

    values: Mapping[str, JSON]
    place: str

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        """A field that must be a text."""
        return self._text(self._value(name), f"'{name}'", may_be_empty)

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that must be a list of texts, two at least."""
        listed = self._value(name)
        if not isinstance(listed, list):
            raise PicoLMError(f"{self.place} has {describe(listed)} as its '{name}', which must be a list of strings")
        if len(listed) < 2:
            raise PicoLMError(f"{self.place} has {len(listed)} in its '{name}', where there must be two to choose from")
        return tuple(self._text(value, f"'{name}'", may_be_empty=False) for value in listed)

    def number(self, name: str, first: int, last: int) -> int:
        """A field that must be a whole number between two, or its digits as a text."""
        value = self._value(name)
        digits = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if not (digits.isdecimal() and first <= int(digits) <= last):
            shown = f"'{value}'" if isinstance(value, str) else value if isinstance(value, int) else describe(value)
            raise PicoLMError(
                f"{self.place} has {shown} as its '{name}', which must be a number from {first} to {last}: "
                "a file without the answers cannot be scored"
            )
        return int(digits)

    def inner(self, name: str) -> Record:
        """A field that must be an object."""
        value = self._value(name)
        if not isinstance(value, dict):
            raise PicoLMError(f"{self.place} has {describe(value)} as its '{name}', which must be an object")
        return Record(value, f"{self.place}, '{name}',")

    def label(self, name: str) -> str:
        """A field that may be there and says to which group the record belongs; empty where it is not."""
        value = self.values.get(name)
        if isinstance(value, list | dict):
            raise PicoLMError(f"{self.place} has {describe(value)} as its '{name}', which must be a string")
        return "" if value is None else str(value).replace("/", "_")

    def _value(self, name: str) -> JSON:
        if name not in self.values:
            hint = nearest(name, self.values) or "; it has no fields"
            raise PicoLMError(f"{self.place} has no field '{name}'{hint}")
        return self.values[name]

    def _text(self, value: JSON, name: str, may_be_empty: bool) -> str:
        if not isinstance(value, str):
            raise PicoLMError(f"{self.place} has {describe(value)} in its {name}, which must be a string")
        if not (may_be_empty or value.strip()):
            raise PicoLMError(f"{self.place} has an empty string in its {name}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PicoLMError(f"{self.place} has half of a surrogate pair (\\ud800 to \\udfff) in its {name}") from None
        return value


def read_records(path: Path, what: str) -> list[Record]:
    """Read all records of a file; blank lines are passed over.

    Args:
        path: `.jsonl`, or `.jsonl.gz`.
        what: the file holds, for errors: `questions`.

    Raises:
        PicoLMError: it is not there, empty, damaged or not JSON lines; named by line.
    """
    records = [
        Record(parse_record(decode(str(path), line, number), place), place)
        for number, line in read_lines(path, what)
        for place in [f"{path}, line {number}"]
    ]
    if not records:
        raise PicoLMError(f"{path} is empty: it has no {what}")
    return records


def read_lines(path: Path, what: str, *, strip: bool = True) -> list[tuple[int, bytes]]:
    """Read the numbered lines of a file that are not blank, stripped, or without their line ends alone.

    Raises:
        PicoLMError: it is not there, or damaged; named by line.
    """
    try:
        with path.open("rb") as file:
            lines = Lines(str(path), file, packed=path.suffix == ".gz")
            return [(number, line.strip() if strip else line.rstrip(b"\r\n")) for number, line in lines if line.strip()]
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(str(path), siblings)
        raise PicoLMError(f"there is no file of {what} '{path}'{hint if 'did you mean' in hint else ''}") from None
    except OSError as error:
        raise PicoLMError(f"cannot read the {what} in {path}: {error.strerror or error}") from None
