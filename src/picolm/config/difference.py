"""What differs between two configurations, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Change:
    """One key whose values differ; a key that one side lacks has the value `ABSENT` there."""

    key: str
    left: Any
    right: Any


def difference(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Change]:
    """Compare two nested mappings of plain data.

    Returns:
        The changes in the order of `left`'s keys, then those that only `right` has.
    """
    flat_left, flat_right = _flatten(left), _flatten(right)
    keys = [*flat_left, *(key for key in flat_right if key not in flat_left)]
    pairs = ((key, flat_left.get(key, ABSENT), flat_right.get(key, ABSENT)) for key in keys)
    return [Change(key, a, b) for key, a, b in pairs if a != b or type(a) is not type(b)]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
