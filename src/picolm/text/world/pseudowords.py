"""Words that no language has, from a seeded phonotactic grammar: syllables of onset, vowel and sometimes a coda."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from picolm.text.world import messages
from picolm.text.world.draw import Draw

_ONSETS = tuple("ptkbdgmnslrvzf")
_VOWELS = tuple("aeiou")
_CODAS = tuple("nlrsm")

# Endings and particles are short and belong to all lexicons alike.
PLURAL, CASES = "ni", {"subject": "ga", "object": "wo"}
AGREEMENT = {("subject", False): "ka", ("subject", True): "ru", ("object", False): "ti", ("object", True): "mo"}
PAST, PRESENT, RELATIVE = "dal", "ven", "ke"
_RESERVED = (PLURAL, PAST, PRESENT, RELATIVE, *CASES.values(), *AGREEMENT.values())


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The stems of each class, by rank."""

    animate: tuple[str, ...]
    thing: tuple[str, ...]
    place: tuple[str, ...]
    intransitive: tuple[str, ...]
    transitive: tuple[str, ...]
    quality: tuple[str, ...]
    relation: tuple[str, ...]


@cache
def lexicon(seed: int) -> Lexicon:
    """Return the lexicon of a seed; no stem begins another one, so that a word shows its stem and its endings."""
    draw = Draw.keyed(seed, "pseudo-words")
    taken: list[str] = list(_RESERVED)

    def stems(n: int, syllables: int) -> tuple[str, ...]:
        made: list[str] = []
        while len(made) < n:
            # Words that are used much are short, as Zipf also found.
            stem = _stem(draw, syllables + (len(made) > n // 2))
            if not any(stem.startswith(other) or other.startswith(stem) for other in taken):
                taken.append(stem)
                made.append(stem)
        return tuple(made)

    # Adpositions first: with so few syllables they would find no place later.
    return Lexicon(
        relation=stems(messages.RELATIONS, 1),
        animate=stems(messages.ANIMATES, 2),
        thing=stems(messages.THINGS, 2),
        place=stems(messages.PLACES, 2),
        intransitive=stems(messages.INTRANSITIVES, 2),
        transitive=stems(messages.TRANSITIVES, 2),
        quality=stems(messages.QUALITIES, 2),
    )


def _stem(draw: Draw, syllables: int) -> str:
    parts = [draw.one_of(_ONSETS) + draw.zipf(_VOWELS) for _ in range(syllables)]
    return "".join(parts) + (draw.zipf(_CODAS) if draw.chance(0.4) else "")
