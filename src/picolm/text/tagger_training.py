"""Sources -> a tagger with a record of how well it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from picolm.errors import PicoLMError
from picolm.text.hidden_markov import train_hidden_markov
from picolm.text.perceptron import train_perceptron
from picolm.text.sources import expand
from picolm.text.tagged import (
    Advance,
    Sentences,
    inventory_of,
    read_tagged,
    read_words,
    score,
    segmentation_score,
)
from picolm.text.tagger import Tagger
from picolm.text.tagging import UPOS
from picolm.text.tagsets import COARSE

Tagset = Literal["upos", "coarse"]
HELD_OUT_EVERY = 10
"""Where nothing is held out by name, each so-many-th sentence is."""


def train_tagger(
    sources: Sequence[str],
    *,
    held_out: Sequence[str] = (),
    tagset: Tagset = "upos",
    passes: int = 5,
    seed: int = 0,
    advance: Advance = lambda phase, done, total: None,
) -> Tagger:
    """Train an averaged perceptron on annotated text.

    Args:
        sources: CoNLL-U, or records with `tokens` and `upos`.
        held_out: annotated sources that it is scored on; without any, each tenth sentence is not trained on.
        tagset: `upos`, or the `coarse` twelve.
        passes: over the sentences.
        seed: of their order.
        advance: told how far it is.

    Returns:
        The tagger; its record holds the score on what was held out.

    Raises:
        PicoLMError: a source cannot be read or is not annotated.
    """
    learnt, held = _read(sources, held_out, tagset, advance)
    names = COARSE if tagset == "coarse" else UPOS
    number = {name: place for place, name in enumerate(names)}
    tagger = train_perceptron(
        learnt.words,
        [[number[tag] for tag in own] for own in learnt.tags],
        names,
        passes=passes,
        seed=seed,
        advance=lambda done, total: advance("training", done, total),
    )
    tagger.record = _record(sources, held_out, tagset, learnt) | {"held_out": asdict(score(tagger, held))}
    if held_out:
        tagger.record["held_out"]["words_f1"] = segmentation_score(tagger, held_out)
    return tagger


def train_unsupervised(
    sources: Sequence[str],
    *,
    n_classes: int,
    named_by: Sequence[str] = (),
    held_out: Sequence[str] = (),
    tagset: Tagset = "upos",
    iterations: int = 30,
    limit: int = 1_000_000,
    seed: int = 0,
    advance: Advance = lambda phase, done, total: None,
) -> Tagger:
    """Train a hidden Markov model on text, annotated or not; no annotation is used for that.

    Args:
        sources: of any kind.
        n_classes: how many classes of words it tells apart.
        named_by: annotated sources by which each class is named, many classes to one tag; empty: C1, C2, ...
        held_out: annotated sources that the named classes are scored on.
        tagset: of the names.
        iterations: of expectation maximization; 0: as the anchor words have it.
        limit: words that are read at most.
        seed: of what the anchors leave open.
        advance: told how far it is.

    Raises:
        PicoLMError: a source cannot be read, or the text is too short.
    """
    if held_out and not named_by:
        raise PicoLMError("numbered classes have no score: name them by an annotated source, or leave the test out")
    learnt = read_words(sources, limit, advance)
    tagger = train_hidden_markov(
        learnt.words,
        n_classes,
        iterations=iterations,
        seed=seed,
        advance=lambda done, total: advance("training", done, total),
    )
    tagger.record = _record(sources, held_out, None, learnt)
    if not named_by:
        return tagger
    naming = _in(tagset, read_tagged(named_by, advance))
    named = tagger.named_by(naming.words, naming.tags)
    named.record |= {"tagset": tagset, "named_by": [source.name for source in expand(named_by)]}
    if held_out:
        named.record["held_out"] = asdict(score(named, _in(tagset, read_tagged(held_out, advance))))
    return named


def _read(
    sources: Sequence[str], held_out: Sequence[str], tagset: Tagset, advance: Advance
) -> tuple[Sentences, Sentences]:
    annotated = _in(tagset, read_tagged(sources, advance))
    learnt, held = (
        (annotated, _in(tagset, read_tagged(held_out, advance))) if held_out else annotated.part(every=HELD_OUT_EVERY)
    )
    if not held.words or len(inventory_of(learnt)) < 2:
        raise PicoLMError("there is too little annotated text to train a tagger and to hold some out: give more")
    return learnt, held


def _in(tagset: Tagset, annotated: Sentences) -> Sentences:
    return annotated.coarse() if tagset == "coarse" else annotated


def _record(
    sources: Sequence[str], held_out: Sequence[str], tagset: Tagset | None, learnt: Sentences
) -> dict[str, Any]:
    return {
        "sources": [{"name": source.name, "sha256": source.sha256()} for source in expand(sources)],
        "held_out_sources": [source.name for source in expand(held_out)],
        "tagset": tagset,
        "sentences": len(learnt.words),
        "words": learnt.n_words,
    }
