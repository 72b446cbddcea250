"""A second opinion on the grammar: reads sentences back from text and tags, and knows nothing of how they were made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from picolm.text.document import Document, Tag
from picolm.text.world import lexicon

NOUNS = {noun for kinds in lexicon.NOUNS.values() for nouns in kinds.values() for noun in nouns}
SINGULARS, PLURALS = {noun.singular for noun in NOUNS}, {noun.plural for noun in NOUNS}
VERBS = {verb for verbs in lexicon.VERBS.values() for verb in verbs}
BASES, THIRDS = {verb.base for verb in VERBS}, {verb.third for verb in VERBS}
PASTS = {verb.past for verb in VERBS}
GENDERS = {form: noun.gender for noun in NOUNS for form in (noun.singular, noun.plural)}

_NOUN_PHRASE = r"\w+/(?:DET|NUM|ADJ) (?:\w+/ADJ )?\w+/NOUN "
SUBJECT = re.compile(
    r"(?:^|[.?!]/PUNCT |that/SCONJ )\w+/(?:DET|NUM|ADJ) (?:\w+/ADJ )?(?P<head>\w+)/NOUN "
    rf"(?:\w+/ADP (?P<near>{_NOUN_PHRASE})|that/PRON (?P<by>{_NOUN_PHRASE})(?P<inner>\w+)/VERB )?"
    r"(?P<verb>\w+)/(?:AUX|VERB) (?P<after>\w+)?"
)


def sentences(text: str, tags: Sequence[Tag]) -> Iterator[list[tuple[str, str]]]:
    """Cut a text behind full stops, question and exclamation marks: (word, tag); `Anna:` is left out."""
    sentence: list[tuple[str, str]] = []
    for start, stop, upos in tags:
        sentence.append((text[start:stop].lower(), upos))
        if text[start:stop] == ":":
            sentence = []
        elif text[start:stop] in ".?!":
            yield sentence
            sentence = []
    assert not sentence, f"{text!r} ends within a sentence"


def of(documents: Sequence[Document]) -> list[list[tuple[str, str]]]:
    """All sentences of documents."""
    return [sentence for document in documents for sentence in sentences(document.text, document.tags)]


def line(sentence: Sequence[tuple[str, str]]) -> str:
    """`the/DET dog/NOUN sleeps/VERB ./PUNCT `."""
    return "".join(f"{word}/{upos} " for word, upos in sentence)


def noun_number(word: str) -> str | None:
    """`one` or `many`; None where the form does not tell."""
    return {(True, False): "one", (False, True): "many"}.get((word in SINGULARS, word in PLURALS))


def verb_number(word: str) -> str | None:
    """`one` or `many`; None where the form does not tell, as in most pasts."""
    if word in {"is", "has", "does", "was"}:
        return "one"
    if word in {"are", "have", "do", "were"}:
        return "many"
    if word in PASTS or word in {"can", "could", "had", "did"}:
        return None
    return "one" if word in THIRDS else "many" if word in BASES else None


def agreements(sentence: Sequence[tuple[str, str]]) -> Iterator[tuple[bool, str | None]]:
    """For each subject whose number shows: whether its verb agrees, and the number of a noun in between."""
    for found in SUBJECT.finditer(line(sentence)):
        head, verb = noun_number(found["head"]), verb_number(found["verb"])
        between = found["near"] or found["by"]
        inner = noun_number(re.findall(r"(\w+)/NOUN", between)[-1]) if between else None
        if head and verb:
            yield head == verb, inner if inner != head else None
        if found["inner"] and inner and verb_number(found["inner"]):
            yield inner == verb_number(found["inner"]), None
