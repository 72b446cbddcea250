"""The embedded corpora by name: `embedded:english`, `embedded:sov?documents=20000&seed=3`, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast, get_args

from picolm.errors import PicoLMError, nearest
from picolm.runs.digest import sha256_of_json
from picolm.text.document import Document
from picolm.text.world import english, pcfg, typology
from picolm.text.world.pairs import MinimalPair, make_pairs, select
from picolm.text.world.paradigms import typological
from picolm.text.world.paradigms.english import ENGLISH
from picolm.text.world.paradigms.paradigm import Paradigm

PREFIX = "embedded:"
# Of the generator: raised with every change of what it makes, because the identity of a corpus is this and its
# parameters. A test compares beginnings of all corpora with digests that belong to a version.
VERSION = 2
# Of `embedded:english` as it is by default: these let a cache know it without generating it. A test compares them.
CORPUS_BYTES = 2483709
CORPUS_SHA256 = "b013c2b8af33d3bf1f33847eee5c4220aada5821bc33c2600a1f4e839e408f22"

# Documents of a corpus by default, and their mean size in bytes, from which the size of others is estimated.
_DEFAULTS = {"english": (16000, 150), "svo": (5000, 387), "sov": (5000, 425), "vso": (5000, 407), "pcfg": (5000, 330)}
NAMES: tuple[str, ...] = tuple(_DEFAULTS)
_NUMBERS = ("documents", "seed")
_CHOICES = {"case": get_args(typology.Case), "agreement": get_args(typology.Agreement)}


@dataclass(frozen=True, slots=True)
class Corpus:
    """One of the embedded corpora, with its parameters.

    Attributes:
        name: `english`, `svo`, `sov`, `vso` or `pcfg`.
        n_documents: how many; fewer are a prefix of more.
        seed: of the whole corpus.
        language: the typology's parameters; None for the other corpora.
    """

    name: str
    n_documents: int
    seed: int = 0
    language: typology.Language | None = None

    @property
    def source(self) -> str:
        """How it is named as a source: what differs from the defaults stands behind a `?`."""
        values: dict[str, object] = {"documents": self.n_documents, "seed": self.seed}
        defaults: dict[str, object] = {"documents": _DEFAULTS[self.name][0], "seed": 0}
        if self.language is not None:
            usual = typology.LANGUAGES[self.name]
            for key in ("case", "agreement"):
                values[key], defaults[key] = getattr(self.language, key), getattr(usual, key)
            values["lexicon"], defaults["lexicon"] = self.language.lexicon_seed, usual.lexicon_seed
        changed = "&".join(f"{key}={value}" for key, value in values.items() if value != defaults[key])
        return f"{PREFIX}{self.name}" + (f"?{changed}" if changed else "")

    @property
    def stream(self) -> str:
        """What its documents are drawn from: two corpora of one stream share their first documents."""
        language = self.language
        return f"{self.name} {self.seed} {language}"

    @property
    def size(self) -> int:
        """Bytes of text: exact for the default corpus, else an estimate."""
        return CORPUS_BYTES if self._is_default else self.n_documents * _DEFAULTS[self.name][1]

    def sha256(self) -> str:
        """Return the SHA-256 of the default corpus; else that of the generator's version and all parameters."""
        if self._is_default:
            return CORPUS_SHA256
        return sha256_of_json({"generator": VERSION, "documents": self.n_documents, "stream": self.stream})

    @property
    def _is_default(self) -> bool:
        return self.source == f"{PREFIX}english"

    def document(self, index: int) -> Document:
        """Generate one document, a pure function of the parameters and the index."""
        if self.language is not None:
            return self.language.document(self.seed, index)
        makers: dict[str, Callable[[int, int], Document]] = {"english": english.document, "pcfg": pcfg.document}
        return makers[self.name](self.seed, index)

    def documents(self) -> Iterator[Document]:
        """Generate all documents, in order."""
        return (self.document(index) for index in range(self.n_documents))

    def paradigms(self) -> tuple[Paradigm, ...]:
        """Return the ways in which its rules can be tested; none for `pcfg`."""
        if self.language is not None:
            return typological.paradigms(self.language)
        return ENGLISH if self.name == "english" else ()


def open_corpus(source: str) -> Corpus:
    """Find the corpus that a source string means.

    Args:
        source: `embedded:NAME` or `embedded:NAME?key=value&...`; `embedded:` may be left out. All corpora know
            `documents` and `seed`, the typologies also `case`, `agreement` and `lexicon` (the seed of their stems).

    Raises:
        PicoLMError: there is no such corpus or parameter, or a value is not one.
    """
    name, mark, query = source.removeprefix(PREFIX).partition("?")
    if name not in NAMES:
        raise PicoLMError(f"there is no embedded corpus '{name}'{nearest(name, NAMES)}")
    language = typology.LANGUAGES.get(name)
    known = (*_NUMBERS, *(("lexicon", *_CHOICES) if language else ()))
    values: dict[str, str] = {}
    for part in query.split("&") if mark else ():
        key, equals, value = part.partition("=")
        if key not in known:
            raise PicoLMError(f"embedded:{name} has no parameter '{key}'{nearest(key, known)}")
        if not equals or key in values:
            raise PicoLMError(f"'{source}' must give '{key}' once, as {key}=VALUE")
        values[key] = value
    documents = _number(source, values, "documents", _DEFAULTS[name][0], least=1)
    seed = _number(source, values, "seed", 0, least=0)
    if language is not None:
        language = typology.Language(
            language.order,
            cast(typology.Case, _choice(source, values, "case", language.case)),
            cast(typology.Agreement, _choice(source, values, "agreement", language.agreement)),
            _number(source, values, "lexicon", 0, least=0),
        )
    return Corpus(name, documents, seed, language)


def _number(source: str, values: dict[str, str], key: str, default: int, least: int) -> int:
    text = values.get(key, str(default))
    if not (text.isascii() and text.isdigit()) or not least <= int(text) < 2**63:
        raise PicoLMError(f"'{source}': {key} must be a whole number from {least} on, not '{text}'")
    return int(text)


def _choice(source: str, values: dict[str, str], key: str, default: str) -> str:
    value = values.get(key, default)
    if value not in _CHOICES[key]:
        raise PicoLMError(f"'{source}': {key} must be one of {', '.join(_CHOICES[key])}, not '{value}'")
    return value


def documents(seed: int = 0, count: int | None = None) -> Iterator[Document]:
    """Generate documents of the English corpus; the defaults are `embedded:english`."""
    return Corpus("english", _DEFAULTS["english"][0] if count is None else count, seed).documents()


def minimal_pairs(
    phenomenon: str | None = None, *, count: int = 200, seed: int = 0, corpus: str = "embedded:english"
) -> list[MinimalPair]:
    """Make minimal pairs of an embedded corpus.

    Args:
        phenomenon: the name of a phenomenon, or of one paradigm of it; None: all.
        count: pairs of each paradigm; even, because pairs come as mirror images.
        seed: of the pairs; the seed of the corpus does not matter to them.
        corpus: whose rules are tested.

    Raises:
        PicoLMError: an unknown name, an odd count, or more pairs than there are.
    """
    opened = open_corpus(corpus)
    if not opened.paradigms():
        raise PicoLMError(f"{opened.source} has no minimal pairs; its test is the known best loss")
    key = opened.name if opened.language is None else f"{opened.name} {opened.language}"
    return list(make_pairs(select(opened.paradigms(), phenomenon), count=count, seed=seed, key=key))
