"""The classes of words that an intervention tells apart, from the parts of speech that stand with the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from picolm.errors import PicoLMError, nearest
from picolm.seams import IntArray, Run
from picolm.text.tagging import UPOS
from picolm.text.tagsets import COARSE, COARSE_OF, inventory

Tagset = Literal["stored", "coarse"]
OTHER = "X"
"""What a token without a part of speech (a separator, white space) counts as, where the inventory has it."""

_LOOKED_AT = 256
"""Rows among which parts of speech must differ."""


@dataclass(frozen=True, slots=True)
class WordClasses:
    """The classes that tokens can have.

    Attributes:
        names: of the classes, in their order.
        of_tag: the class of each number in `Sequences.tags`, int64 [tags + 1]; -1 for none.
    """

    names: tuple[str, ...]
    of_tag: IntArray

    @classmethod
    def of(cls, run: Run, tagset: Tagset, asking: str) -> WordClasses:
        """Find the classes of a run's data.

        Args:
            run: the run.
            tagset: `stored`: as the data have them; `coarse`: the twelve, in CLIMB's order.
            asking: the intervention's name, the beginning of an error.

        Raises:
            PicoLMError: the data have no parts of speech, or none that can become the twelve.
        """
        stored = run.tag_names
        if not stored:
            raise PicoLMError(
                f"{asking} needs parts of speech with the tokens: prepare CoNLL-U, records with `tokens` and `upos`, "
                "or any text with `data.tagger` (`picolm text train-tagger` makes one)"
            )
        if tagset == "stored":
            return cls(stored, _with_other(list(range(len(stored))), stored))
        kind = inventory(stored)
        if kind == "other":
            raise PicoLMError(
                f"{asking} asks for the twelve coarse tags, but the data have {', '.join(stored[:5])}, ...: "
                "set tagset=stored, or name the classes of the tagger with --named-by"
            )
        coarse = [COARSE_OF[tag] for tag in stored] if kind == "upos" else list(stored)
        return cls(COARSE, _with_other([COARSE.index(tag) for tag in coarse], COARSE))

    def numbers(self, tags: Sequence[str], asking: str) -> tuple[tuple[str, ...], IntArray]:
        """Number some of the classes from 1.

        Args:
            tags: their names, each once; one that is in an inventory but not in that of the data is passed over.
            asking: the beginning of an error.

        Returns:
            Those that the data can have, in order; and for each number in `Sequences.tags` 1 + the place among them, or
            0 for every other class.

        Raises:
            PicoLMError: a name is in no inventory, or the data can have none of them.
        """
        for tag in tags:
            if tag not in (*self.names, *UPOS, *COARSE):
                raise PicoLMError(f"{asking} names the tag '{tag}', which there is not{nearest(tag, self.names)}")
        present = tuple(tag for tag in tags if tag in self.names)
        if not present:
            raise PicoLMError(f"{asking}: the data have none of {', '.join(tags)}; they have {', '.join(self.names)}")
        places = np.array([0, *(1 + present.index(name) if name in present else 0 for name in self.names)])
        return present, np.asarray(places[self.of_tag + 1], dtype=np.int64)

    def refuse_uniform(self, run: Run, asking: str) -> None:
        """Raise PicoLMError where all words have the same class: then a tagger has failed, or never ran."""
        sequences = run.sequences(run.rng("looked at").permutation(run.n_rows)[:_LOOKED_AT])
        assert sequences.tags is not None, "the data have tags, or the classes would have been refused"
        ordinary = ~np.isin(sequences.tokens, list(run.tokenizer.special_ids))
        found = np.unique(self.of_tag[sequences.tags[ordinary]])
        if len(found) < 2:
            name = self.names[found[0]] if len(found) and found[0] >= 0 else "none"
            raise PicoLMError(
                f"{asking}: all words of the data have the part of speech {name}, so there is nothing to learn"
            )


def _with_other(of_stored: Sequence[int], names: Sequence[str]) -> IntArray:
    untagged = names.index(OTHER) if OTHER in names else -1
    return np.array([untagged, *of_stored], dtype=np.int64)
