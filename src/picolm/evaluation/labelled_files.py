"""Files of texts with labels: JSON lines, or tables whose columns tabs part; plain or gzipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.records import Record, read_lines, read_records
from picolm.randomness import generator
from picolm.text.lines import decode

_WHAT = "labelled texts"
_TABLES = (".tsv", ".tsv.gz")
_LINES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Fields:
    """The names under which a record holds what is asked for; `pair` is None where texts come one by one."""

    text: str = "text"
    pair: str | None = None
    label: str = "label"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, or a pair of texts, with its label.

    Attributes:
        text: the text.
        pair: the second text; None: there is none.
        label: as a text, whatever it was in the file.
        place: file and line, for errors.
    """

    text: str
    pair: str | None
    label: str
    place: str


def read_labelled(path: Path, fields: Fields) -> list[Labelled]:
    """Read all texts of a file; its ending says what it is.

    Raises:
        PicoLMError: it is not there, empty, damaged, or a record lacks a text or a label; named by line.
    """
    if path.name.endswith(_LINES):
        records = read_records(path, _WHAT)
    elif path.name.endswith(_TABLES):
        records = _rows(path)
    else:
        raise PicoLMError(f"{path} is not {', '.join((*_LINES, *_TABLES[:1]))} or {_TABLES[1]}: only these can be read")
    return [
        Labelled(
            text=record.text(fields.text),
            pair=None if fields.pair is None else record.text(fields.pair),
            label=_label(record, fields.label),
            place=record.place,
        )
        for record in records
    ]


def as_label(value: object) -> object:
    """A label as the text that it is known by: 1 and "1" are one label, so are true and "true"."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def _label(record: Record, name: str) -> str:
    value = record.values.get(name)
    if isinstance(value, float):
        raise PicoLMError(f"{record.place} has {value} as its '{name}': a label is a text, a whole number or a boolean")
    label = as_label(value)
    return label if isinstance(label, str) and label.strip() else record.text(name)


def _rows(path: Path) -> list[Record]:
    """The rows of a table under the names in its first line; nothing in it is quoted, as in the tables of GLUE."""
    (_, first), *rest = read_lines(path, _WHAT, strip=False) or [(0, b"")]
    names = decode(str(path), first, 1).split("\t")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PicoLMError(f"{path} has two columns called '{twice}' in its first line, which must name the columns")
    if not rest:
        raise PicoLMError(f"{path} is empty: it has no {_WHAT}")
    records = []
    for number, line in rest:
        place, cells = f"{path}, line {number}", decode(str(path), line, number).split("\t")
        if len(cells) != len(names):
            raise PicoLMError(
                f"{place} has {len(cells)} columns, but the first line names {len(names)} "
                f"({', '.join(names)}): columns are parted by tabs, and no quotes are read"
            )
        records.append(Record(dict(zip(names, cells, strict=True)), place))
    return records


def label_numbers(texts: Sequence[Labelled], labels: Sequence[str], origin: Path) -> list[int]:
    """The number of each text's label.

    Args:
        texts: with labels.
        labels: those that are known, sorted.
        origin: the file of training texts, for errors.

    Raises:
        PicoLMError: a label is not known.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    for text in texts:
        if text.label not in numbers:
            hint = nearest(text.label, labels)
            raise PicoLMError(f"{text.place} has the label '{text.label}', which no text in {origin} has{hint}")
    return [numbers[text.label] for text in texts]


def held_out(texts: Sequence[Labelled], share: float) -> tuple[list[Labelled], list[Labelled]]:
    """Part texts into those to learn from and those to choose by, which are drawn, one at least; both keep their order.

    The draw depends on nothing but the number of texts, so that all models and seeds have the same.
    """
    count = max(1, round(share * len(texts)))
    drawn = set(generator(0, "held-out texts").permutation(len(texts))[:count].tolist())
    rest = [text for place, text in enumerate(texts) if place not in drawn]
    return rest, [texts[place] for place in sorted(drawn)]


def sample(texts: Sequence[Labelled], count: int) -> list[Labelled]:
    """Draw some texts, in the order of the file; all where there are fewer."""
    places = generator(0, "sample of texts").permutation(len(texts))[:count]
    return [texts[place] for place in sorted(places.tolist())]
