"""A record (a JSON object, a row of a table) -> a document."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Mapping
from typing import Any

from picolm.config.schema import Data
from picolm.errors import PicoLMError, nearest
from picolm.text.document import JSON, Document, Tag
from picolm.text.tagging import align

WORDS, TAGS = "tokens", "upos"
"""The fields that, both present, hold a text's words and their parts of speech: lists, or joined by white space."""


def document_of(record: Mapping[str, JSON], data: Data, *, id: str, domain: str, place: str) -> Document:
    """Make a document of a record: its text, id and domain, tags where it has words and their parts of speech.

    Args:
        record: plain values.
        data: names the text and domain fields.
        id: where the record has none.
        domain: where the record has none.
        place: source and line or row, the beginning of an error.

    Raises:
        PicoLMError: the record has no text, or a field is not what it must be.
    """
    field = data.text_field
    if field not in record:
        hint = nearest(field, record) or "; the record has no fields"
        raise PicoLMError(f"{place} has no text field '{field}'{hint} (data.text_field names it)")
    text = record[field]
    if not isinstance(text, str):
        raise PicoLMError(f"{place} has {describe(text)} as its '{field}', which must be a string")
    given_id, given_domain = record.get("id"), record.get(data.domain_field)
    if isinstance(given_domain, list | dict):
        name = data.domain_field
        raise PicoLMError(f"{place} has {describe(given_domain)} as its '{name}', which must be a string")
    is_named = isinstance(given_id, str | int | float) and not isinstance(given_id, bool)
    tags = _tags(record, text, place)
    used = {field, data.domain_field} | ({"id"} if is_named else set()) | ({WORDS, TAGS} if tags is not None else set())
    document = Document(
        id=str(given_id) if is_named else id,
        text=text,
        domain=domain if given_domain in (None, "") else str(given_domain),
        metadata={key: value for key, value in record.items() if key not in used},
        tags=tags or (),
    )
    for name, value in (("text", document.text), ("id", document.id), ("domain", document.domain)):
        if not _is_unicode(value):
            raise PicoLMError(f"{place} has half of a surrogate pair (\\ud800 to \\udfff) in its {name}")
    return document


def plain(value: Any) -> JSON:
    """Turn a value of a table into one that JSON can hold: times by ISO 8601, bytes and non-finite numbers as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    return None


def describe(value: JSON) -> str:
    """Name the kind of a JSON value, for an error."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return kinds[type(value)]


def _tags(record: Mapping[str, JSON], text: str, place: str) -> tuple[Tag, ...] | None:
    words, tags = _strings(record.get(WORDS)), _strings(record.get(TAGS))
    return None if words is None or tags is None else align(text, words, tags, place=place)


def _strings(value: JSON) -> list[str] | None:
    """The strings of a list or of a joined string; None where the value is neither."""
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        strings = [item for item in value if isinstance(item, str)]
        return strings if len(strings) == len(value) else None
    return None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
