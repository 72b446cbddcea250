"""Which nouns and verbs never stand side by side in the corpus, so that minimal pairs test rules and not memory.

One combination in six, chosen by a hash of the two dictionary forms, whatever the seed of a corpus: of a combination
that is held out no form of the noun is ever directly followed by a form of the verb (`be`, `have` and `do` are verbs
here).
"""

from __future__ import annotations

import zlib
from functools import cache
from itertools import pairwise

from picolm.text.world import lexicon
from picolm.text.world.words import Words

ONE_IN = 6

_AUXILIARIES = {
    "be": ("am", "are", "is", "was", "were"),
    "have": ("have", "has", "had"),
    "do": ("do", "does", "did"),
}


@cache
def is_held_out(noun: str, verb: str) -> bool:
    """Return whether this noun (its singular) and this verb (its base) are kept apart."""
    return zlib.crc32(f"{noun} {verb}".encode()) % ONE_IN == 0


@cache
def _noun_of() -> dict[str, str]:
    nouns = [noun for kinds in lexicon.NOUNS.values() for some in kinds.values() for noun in some]
    nouns += lexicon.STUFF
    return {form: noun.singular for noun in nouns for form in (noun.singular, noun.plural)}


@cache
def _verb_of() -> dict[str, str]:
    forms = {form: base for base, some in _AUXILIARIES.items() for form in some}
    for some in lexicon.VERBS.values():
        for verb in some:
            forms |= dict.fromkeys((verb.base, verb.third, verb.past, verb.participle, verb.ing), verb.base)
    return forms


@cache
def _is_kept_apart(first: str, second: str) -> bool:
    noun, verb = _noun_of().get(first.lower()), _verb_of().get(second)
    return noun is not None and verb is not None and is_held_out(noun, verb)


def is_admissible(sentence: Words) -> bool:
    """Return whether no combination that is held out stands side by side in a sentence."""
    return not any(
        word.upos == "NOUN" and after.upos in ("VERB", "AUX") and _is_kept_apart(word.text, after.text)
        for word, after in pairwise(sentence)
    )
