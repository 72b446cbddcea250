"""Two inventories of parts of speech and the map between them: UPOS, and the coarser twelve of Petrov et al. 2012."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.text.tagging import UPOS

COARSE = ("NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "ADP", "NUM", "CONJ", "PRT", ".", "X")
"""The twelve universal tags of Petrov, Das & McDonald (2012), in the order that CLIMB counts them in."""

COARSE_OF = {
    **{tag: tag for tag in ("ADJ", "ADP", "ADV", "DET", "NOUN", "NUM", "PRON", "VERB", "X")},
    **{"AUX": "VERB", "CCONJ": "CONJ", "INTJ": "X", "PART": "PRT", "PROPN": "NOUN", "PUNCT": ".", "SCONJ": "ADP"},
    "SYM": ".",
}
"""UPOS -> the twelve."""


def inventory(tags: Sequence[str]) -> str:
    """Name the inventory that some tags are of: `coarse`, `upos`, or `other`.

    Args:
        tags: all that can occur; those in both inventories alone count as `upos`.
    """
    if set(tags) <= set(UPOS):
        return "upos"
    return "coarse" if set(tags) <= set(COARSE) else "other"
