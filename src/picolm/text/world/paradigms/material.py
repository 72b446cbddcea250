"""What English paradigms are made of: nouns of a frequency band, and verbs that the corpus keeps apart from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from picolm.text.world import lexicon
from picolm.text.world.circumstances import topic_marginals
from picolm.text.world.draw import Draw, zipf_probabilities
from picolm.text.world.holdout import is_held_out
from picolm.text.world.lexicon import Gender, Kind, Noun, Verb, VerbClass
from picolm.text.world.paradigms.paradigm import BANDS, Band
from picolm.text.world.phrases import Phrase, determiner, name
from picolm.text.world.speaker import ACTIONS, TOPIC_SHARE, Speaker
from picolm.text.world.words import Word, Words

_Item = TypeVar("_Item")


@cache
def nouns_by_band(*kinds: Kind) -> dict[Band, tuple[Noun, ...]]:
    """Divide the nouns of these kinds into thirds by how often the grammar uses them, as far as it can be computed.

    Nouns whose plural is their singular are left out: no verb disagrees with them.
    """
    share: dict[Noun, float] = {}
    for topic, probability in topic_marginals().items():
        probability = TOPIC_SHARE * probability + (1.0 - TOPIC_SHARE) / len(lexicon.TOPICS)
        for kind in kinds:
            nouns = lexicon.NOUNS[topic][kind]
            for noun, given_topic in zip(nouns, zipf_probabilities(len(nouns)), strict=True):
                if noun.singular != noun.plural:
                    share[noun] = share.get(noun, 0.0) + probability * given_topic
    return _thirds(sorted(share, key=lambda noun: -share[noun]))


@cache
def people_by_band(gender: Gender) -> dict[Band, tuple[Noun, ...]]:
    """Divide the nouns for people of one gender into thirds, the commonest first."""
    people = [noun for nouns in nouns_by_band("person").values() for noun in nouns]
    return _thirds([noun for noun in people if noun.gender == gender])


@cache
def verbs_by_band(name: VerbClass) -> dict[Band, tuple[Verb, ...]]:
    """Divide the verbs that belong to no other class into thirds, the commonest first."""
    return _thirds(lexicon.only(name))


def _thirds(items: Sequence[_Item]) -> dict[Band, tuple[_Item, ...]]:
    cuts = [round(len(items) * number / len(BANDS)) for number in range(len(BANDS) + 1)]
    return {band: tuple(items[cuts[i] : cuts[i + 1]]) for i, band in enumerate(BANDS)}


class Material:
    """Draws the words of one pair and its mirror image.

    Attributes:
        draw: where every choice comes from.
        band: of the head.
        speaker: for what stands around the contrast.
    """

    def __init__(self, draw: Draw, band: Band) -> None:
        self.draw = draw
        self.band = band
        self.speaker = Speaker(draw, draw.one_of(lexicon.TOPICS))

    def noun(self, *kinds: Kind) -> Noun:
        """Choose a noun of the band, all being equally likely."""
        return self.draw.one_of(nouns_by_band(*kinds)[self.band])

    def other_noun(self, *kinds: Kind) -> Noun:
        """Choose any noun that has a singular and a plural."""
        while (noun := self.speaker.noun(*kinds)).singular == noun.plural:
            pass
        return noun

    def verb(self, name: VerbClass) -> Verb:
        """Choose a verb of the band and of this class only."""
        return self.draw.one_of(verbs_by_band(name)[self.band])

    def apart(self, kinds: Sequence[Kind], *verbs: Sequence[Verb]) -> tuple[Noun, tuple[Verb, ...]]:
        """Choose a noun of the band, and of each sequence a verb that is held out with it."""
        while True:
            noun = self.noun(*kinds)
            choices = [[verb for verb in some if is_held_out(noun.singular, verb.base)] for some in verbs]
            if all(choices):
                return noun, tuple(self.draw.one_of(some) for some in choices)

    def apart_from(self, auxiliary: str, *kinds: Kind) -> Noun:
        """Choose a noun of the band that is held out with `be`, `have` or `do`."""
        while not is_held_out((noun := self.noun(*kinds)).singular, auxiliary):
            pass
        return noun

    def the(self, noun: Noun, plural: bool = False, word: str = "the") -> Phrase:
        """Build a bare noun phrase."""
        kernel = Word(noun.plural if plural else noun.singular, "NOUN")
        return Phrase((*determiner(word), kernel), plural, noun.gender or "it", noun.kind)

    def near(self, head: Phrase, *kinds: Kind) -> Phrase:
        """Put a noun of the other number behind a head."""
        inner = self.the(self.other_noun(*(kinds or ("place", "thing", "animal"))), not head.plural)
        return head.then(self.speaker.preposition(), inner.words)

    def person(self) -> Phrase:
        """Choose a person's name, of the commoner ones."""
        gender = self.gender()
        return name(self.draw.zipf(lexicon.GIRLS if gender == "she" else lexicon.BOYS), gender)

    def gender(self) -> Gender:
        """Choose `she` or `he`."""
        return "she" if self.draw.chance(0.5) else "he"

    def doing(self) -> tuple[Verb, Words]:
        """Choose what someone does: a verb, with its object if it takes one."""
        return (self.draw.zipf(lexicon.VERBS["act"]), ()) if self.draw.chance(0.5) else self.action()

    def action(self) -> tuple[Verb, Words]:
        """Choose a transitive verb with its object."""
        verbs, kind = self.draw.one_of(ACTIONS)
        return self.draw.zipf(lexicon.VERBS[verbs]), self.the(self.other_noun(kind), self.draw.chance(0.4)).words
