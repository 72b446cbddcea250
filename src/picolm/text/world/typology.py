"""Languages as parameters: the order of words, the marking of case, the agreement of the verb.

All realise the same messages with the same stems, so that two corpora differ in the parameters and in nothing else.
Orders are harmonic: a language that ends in its verb puts adjectives and relative clauses before the noun, adpositions
and particles behind it, and the tense behind the verb; the others do the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from picolm.text.document import Document
from picolm.text.world import pseudowords
from picolm.text.world.messages import Entity, Message, Relative, messages
from picolm.text.world.words import Page, Word, Words, sentence

Order = Literal["svo", "sov", "vso"]
Case = Literal["none", "particle"]
Agreement = Literal["none", "subject", "both"]
Role = Literal["subject", "object"]


@dataclass(frozen=True, slots=True)
class Language:
    """A point of the typology.

    Attributes:
        order: of subject, verb and object.
        case: whether a particle says what is subject and what object.
        agreement: whether the verb takes an ending for the number of its subject, or of its object too.
        lexicon_seed: which stems.
    """

    order: Order
    case: Case
    agreement: Agreement
    lexicon_seed: int = 0

    @property
    def is_head_final(self) -> bool:
        """Whether what is modified comes last."""
        return self.order == "sov"

    def document(self, seed: int, index: int) -> Document:
        """Say the messages of a document."""
        page = Page()
        for message in messages(seed, index):
            page.write(self.say(message))
        return Document(f"{self.order}-{index}", page.text, self.order, {}, tuple(page.tags))

    def say(self, message: Message) -> Words:
        """Realise one message as a sentence."""
        subject = self.phrase(message.subject, "subject")
        target = self.phrase(message.object, "object") if message.object else ()
        return sentence(*self._ordered(subject, self.verb(message), target))

    def verb(self, message: Message) -> Words:
        """Realise verb and tense."""
        stems = self._lexicon.transitive if message.object else self._lexicon.intransitive
        form = self._conjugated(stems[message.verb], message.subject, message.object)
        tense = (Word(pseudowords.PAST if message.past else pseudowords.PRESENT, "AUX"),)
        return (*form, *tense) if self.is_head_final else (*tense, *form)

    def phrase(self, entity: Entity, role: Role | None) -> Words:
        """Realise an entity; no role: inside another phrase, where there is no case."""
        stem = getattr(self._lexicon, entity.kind)[entity.rank]
        noun: Words = (Word(stem + (pseudowords.PLURAL if entity.plural else ""), "NOUN"),)
        if entity.quality is not None:
            noun = self._headed(noun, (Word(self._lexicon.quality[entity.quality.rank], "ADJ"),))
        if entity.near is not None:
            relation, place = entity.near
            adposition = (Word(self._lexicon.relation[relation], "ADP"),)
            noun = self._headed(noun, self._headed(adposition, self.phrase(place, None)))
        if entity.relative is not None:
            noun = self._headed(noun, self._relative(entity.relative, entity))
        if role is None or self.case == "none":
            return noun
        return self._headed((Word(pseudowords.CASES[role], "ADP"),), noun)

    def _relative(self, relative: Relative, head: Entity) -> Words:
        stem = self._lexicon.transitive[relative.verb]
        subject, target = (head, relative.other) if relative.is_subject else (relative.other, head)
        verb = self._conjugated(stem, subject, target)
        role: Role = "object" if relative.is_subject else "subject"
        other = self.phrase(relative.other, role)
        clause = self._ordered(() if relative.is_subject else other, verb, other if relative.is_subject else ())
        return self._headed((Word(pseudowords.RELATIVE, "SCONJ"),), tuple(word for part in clause for word in part))

    def _conjugated(self, stem: str, subject: Entity, target: Entity | None) -> Words:
        form = stem
        if self.agreement != "none":
            form += pseudowords.AGREEMENT["subject", subject.plural]
        if self.agreement == "both" and target is not None:
            form += pseudowords.AGREEMENT["object", target.plural]
        return (Word(form, "VERB"),)

    def _ordered(self, subject: Words, verb: Words, target: Words) -> Iterable[Words]:
        parts = {"s": subject, "v": verb, "o": target}
        return [parts[letter] for letter in self.order]

    def _headed(self, head: Words, modifier: Words) -> Words:
        return (*modifier, *head) if self.is_head_final else (*head, *modifier)

    @property
    def _lexicon(self) -> pseudowords.Lexicon:
        return pseudowords.lexicon(self.lexicon_seed)


LANGUAGES: dict[str, Language] = {
    "svo": Language("svo", "none", "subject"),
    "sov": Language("sov", "particle", "none"),
    "vso": Language("vso", "none", "both"),
}
