"""Text <-> token ids: byte-level BPE or characters of our own, or any Hugging Face `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_json
from picolm.text.words import WordTable

SEPARATOR, PAD, MASK, UNKNOWN = "<eos>", "<pad>", "<mask>", "<unk>"

_SEPARATORS = (SEPARATOR, "<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]")
_PADS = (PAD, "[PAD]", "<|padding|>", "<|pad|>")
_MASKS = (MASK, "[MASK]", "<|mask|>")
_UNKNOWNS = (UNKNOWN, "[UNK]", "<|unk|>")

_TRAINING_BATCH = 256


class Tokenizer:
    """A Hugging Face tokenizer together with the roles of its special tokens.

    Special tokens written out in a text are encoded as the characters they are: only PicoLM itself places them.

    Attributes:
        separator: the token that stands before, between and after documents; it serves as bos and eos.
        vocab_size: rows that an embedding needs: the highest id, added tokens included, plus one.
        separator_id: the separator's id.
        pad_id: the padding token's id; the separator's where there is none.
        mask_id: the mask token's id, if there is one.
        unk_id: the id of what the vocabulary does not hold, if there is one.
        special_ids: ids of all tokens that the tokenizer declares special.
    """

    def __init__(self, inner: tokenizers.Tokenizer, separator: str) -> None:
        # A tokenizer.json may carry these two from its training; documents are never cut or filled up here.
        inner.no_truncation()
        inner.no_padding()
        inner.encode_special_tokens = True
        self._inner = inner
        self._words = WordTable.of(inner)
        vocabulary: dict[str, int] = inner.get_vocab(with_added_tokens=True)
        self.separator = separator
        self.vocab_size: int = max(vocabulary.values()) + 1
        self.separator_id: int = vocabulary[separator]
        self._pad = _first(_PADS, vocabulary)
        self._mask = _first(_MASKS, vocabulary)
        self._unknown = _first(_UNKNOWNS, vocabulary)
        self.pad_id: int = vocabulary[self._pad] if self._pad else self.separator_id
        self.mask_id: int | None = vocabulary[self._mask] if self._mask else None
        self.unk_id: int | None = vocabulary[self._unknown] if self._unknown else None
        declared = {id for id, token in inner.get_added_tokens_decoder().items() if token.special}
        self.special_ids: frozenset[int] = frozenset(declared | {self.separator_id})

    @classmethod
    def train_bpe(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Train byte-level BPE (Sennrich et al. 2016; bytes and pre-tokenization as in GPT-2). Deterministic.

        Args:
            texts: read once, streaming.
            vocab_size: entries, three special tokens and 256 bytes included; fewer result when the texts are short.
        """
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[_special(token) for token in (SEPARATOR, PAD, MASK)],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(_batches(texts), trainer)
        return cls(inner, SEPARATOR)

    @classmethod
    def characters(cls, texts: Iterable[str]) -> Tokenizer:
        """Make every character (Unicode code point) of the texts a token; others become `<unk>`."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        tokens = [SEPARATOR, PAD, MASK, UNKNOWN, *sorted(seen)]
        # BPE that has nothing to merge leaves characters alone, faster than a pre-tokenizer that isolates each.
        inner = tokenizers.Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, [], unk_token=UNKNOWN))
        inner.decoder = decoders.Fuse()
        inner.add_special_tokens([_special(token) for token in tokens[:4]])
        return cls(inner, SEPARATOR)

    @classmethod
    def load(cls, path: str | Path, separator: str | None = None) -> Tokenizer:
        """Load a `tokenizer.json`, or the one in a directory.

        Args:
            path: the file or directory.
            separator: the token between documents; None: the first of the usual names that it has.

        Raises:
            PicoLMError: nothing is there, it is not a tokenizer, or no separator is found.
        """
        file = Path(path).expanduser()
        if file.is_dir():
            file /= "tokenizer.json"
        try:
            text = file.read_text(encoding="utf-8")
            json.loads(text)
        except OSError as error:
            raise PicoLMError(f"cannot read the tokenizer {file}: {error.strerror}") from error
        except ValueError as error:
            raise PicoLMError(f"the tokenizer {file} is not JSON: {error}") from error
        return cls.from_json(text, separator, name=str(file))

    @classmethod
    def from_json(cls, text: str, separator: str | None = None, *, name: str = "tokenizer.json") -> Tokenizer:
        """Build a tokenizer from the text of a `tokenizer.json`; `name` is what errors call it."""
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise PicoLMError(f"{name} is not a tokenizer that Hugging Face tokenizers can read: {error}") from error
        vocabulary = inner.get_vocab(with_added_tokens=True)
        if separator is not None and separator not in vocabulary:
            raise PicoLMError(f"tokenizer.separator '{separator}' is not a token of {name}")
        separator = separator or _first(_SEPARATORS, vocabulary)
        if separator is None:
            usual = ", ".join(_SEPARATORS)
            raise PicoLMError(
                f"{name} has none of the usual tokens between documents ({usual}): name its own in tokenizer.separator"
            )
        return cls(inner, separator)

    @classmethod
    def from_config(cls, config: schema.Tokenizer, texts: Iterable[str]) -> Tokenizer:
        """Make the tokenizer that a configuration describes.

        Args:
            config: the kind, and what the kind needs.
            texts: the training documents; left unread by `kind: file`.
        """
        if config.path is not None:
            return cls.load(config.path, config.separator)
        if config.kind == "characters":
            return cls.characters(texts)
        return cls.train_bpe(texts, config.vocab_size)

    def encode(self, text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the text's ids, int64 [n], without any special token added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
        """Return each text's ids, int64 [n], without any special token added.

        Raises:
            PicoLMError: a text has what a loaded tokenizer neither knows nor has an unknown token for.
        """
        found = [None if self._words is None else self._words.encode(text) for text in texts]
        others = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        encodings = iter(self._encoded(self._inner.encode_batch_fast, others))
        return [np.array(next(encodings).ids, dtype=np.int64) if ids is None else ids for ids in found]

    def encode_spans(
        self, texts: Sequence[str]
    ) -> list[tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int32]]]]:
        """Return each text's ids, int64 [n], and which characters each stands for, int32 [n, 2] (start, stop).

        A token that begins with a space has the space in its span; those of one character's bytes all span it.

        Raises:
            PicoLMError: as `encode_batch`.
        """
        encodings = self._encoded(self._inner.encode_batch, texts)
        return [
            (np.array(encoding.ids, dtype=np.int64), np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2))
            for encoding in encodings
        ]

    def _encoded(self, encode: Callable[..., list[Any]], texts: Sequence[str]) -> list[Any]:
        try:
            return encode(texts, add_special_tokens=False)
        except Exception as error:  # the library raises bare Exception
            raise PicoLMError(f"the tokenizer cannot encode a text: {error}") from error

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Return the text of ids; special tokens are left out unless `skip_special` is false."""
        text: str = self._inner.decode([int(id) for id in ids], skip_special_tokens=skip_special)
        return text

    def to_json(self) -> str:
        """Return the content of `tokenizer.json`."""
        text: str = self._inner.to_str(pretty=True)
        return text

    def id_of(self, token: str) -> int | None:
        """Return the id of a token, None where there is no such one."""
        found: int | None = self._inner.token_to_id(token)
        return found

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal for equal tokenizers, however the file is laid out."""
        return sha256_of_json(json.loads(self._inner.to_str()))

    def save(self, directory: Path, max_length: int | None) -> None:
        """Write the files that `transformers.AutoTokenizer` opens.

        Args:
            directory: exists already.
            max_length: longest sequence of the model that it goes with, in tokens; None: not known.
        """
        roles = {"bos_token": self.separator, "eos_token": self.separator, "pad_token": self._pad or self.separator}
        roles |= {"mask_token": self._mask} if self._mask else {}
        roles |= {"unk_token": self._unknown} if self._unknown else {}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **roles,
            **({} if max_length is None else {"model_max_length": max_length}),
        }
        _write(directory / "tokenizer.json", self.to_json())
        _write(directory / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False))
        _write(directory / "special_tokens_map.json", json.dumps(roles, indent=2, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    # Bytes, so that line ends are the same everywhere.
    path.write_bytes((text + "\n").encode())


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _first(candidates: Sequence[str], vocabulary: dict[str, int]) -> str | None:
    return next((token for token in candidates if token in vocabulary), None)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _TRAINING_BATCH:
            yield batch
            batch = []
    yield batch
