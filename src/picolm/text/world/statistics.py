"""What an embedded corpus holds, counted: the figures of its data card."""

from __future__ import annotations

from collections import Counter

from picolm.text.document import JSON
from picolm.text.world import pcfg
from picolm.text.world.circumstances import information
from picolm.text.world.corpus import Corpus
from picolm.text.world.pairs import make_pairs

_FREQUENT = 5


def describe(corpus: Corpus) -> dict[str, JSON]:
    """Generate a corpus and count.

    Returns:
        `source`, `documents`, `bytes`, `words` (punctuation counts as words), `types` (in small letters), `once` (types
        that occur once); `domains`: the same counts in each; `tags`: the share of each part of speech; `most_frequent`:
        the commonest words of the open classes; `paradigms`: name, phenomenon, field, rule and an example of each; what
        is known exactly: `floor` for `pcfg`, `context` for `english`.
    """
    words: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    open_classes: dict[str, Counter[str]] = {upos: Counter() for upos in ("NOUN", "VERB", "ADJ")}
    domains: dict[str, Counter[str]] = {}
    for document in corpus.documents():
        counts = domains.setdefault(document.domain, Counter())
        counts.update(documents=1, bytes=len(document.text.encode()), words=len(document.tags))
        for start, stop, upos in document.tags:
            word = document.text[start:stop].lower()
            words[word] += 1
            tags[upos] += 1
            if upos in open_classes:
                open_classes[upos][word] += 1
    total = sum(domains.values(), Counter())
    described: dict[str, JSON] = {
        "source": corpus.source,
        **total,
        "types": len(words),
        "once": sum(count == 1 for count in words.values()),
        "domains": {name: dict(counts) for name, counts in domains.items()},
        "tags": {upos: count / total["words"] for upos, count in tags.most_common()},
        "most_frequent": {
            upos: [word for word, _ in found.most_common(_FREQUENT)] for upos, found in open_classes.items()
        },
        "paradigms": paradigm_table(corpus),
    }
    if corpus.name == "pcfg":
        described["floor"] = dict(pcfg.floor())
    if corpus.name == "english":
        described["context"] = dict(information())
    return described


def paradigm_table(corpus: Corpus) -> list[JSON]:
    """Describe each paradigm of a corpus, with its first pair."""
    rows: list[JSON] = []
    for paradigm in corpus.paradigms():
        pair = next(make_pairs([paradigm], count=2, seed=0, key="example"))
        rows.append(
            {
                "paradigm": paradigm.name,
                "phenomenon": paradigm.phenomenon,
                "field": paradigm.field,
                "rule": paradigm.rule,
                "misleads": paradigm.misleads,
                "good": pair.good,
                "bad": pair.bad,
            }
        )
    return rows
