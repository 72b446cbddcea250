"""A tagger at work while data are prepared: what it says of the words stands beside the tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

from picolm.config import schema
from picolm.data import encoding, preparation
from picolm.data.preparation import prepare
from picolm.data.prepared import TokenData
from picolm.errors import PicoLMError
from picolm.text.perceptron import train_perceptron

BPE = schema.Tokenizer(vocab_size=300)
NAMES = ("DET", "NOUN", "VERB", ".")
TEXTS = ["the theatre sees a apple.", "a cat sees the then café.", "the dog don't 日本語 ."]


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    words = [["the", "theatre", "sees", "a", "apple", "."], ["a", "cat", "runs", "."]] * 5
    train_perceptron(words, [[0, 1, 2, 0, 1, 3], [0, 1, 2, 3]] * 5, NAMES).save(tmp_path / "t.tagger")
    return tmp_path / "t.tagger"


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "d.jsonl"
    records = [{"text": TEXTS[n % 3], "tokens": TEXTS[n % 3].split()[0], "upos": "PRON", "n": n} for n in range(12)]
    path.write_text(
        "".join(json.dumps({**record, "text": f"{record['text']} {record['n']}"}) + "\n" for record in records)
    )
    return str(path)


def prepared(source: str, tagger: Path | None, out: Path, **changes: object) -> TokenData:
    data = schema.Data.model_validate({"sources": [source], "tagger": tagger and str(tagger), **changes})
    return prepare(data, BPE, out)


def test_every_piece_of_a_word_has_the_tag_that_the_tagger_gives_it(source: str, tagger: Path, tmp_path: Path) -> None:
    from picolm.text.tagger import load_tagger

    data, loaded = prepared(source, tagger, tmp_path / "out"), load_tagger(tagger)
    assert data.manifest.tag_names == NAMES
    split, tokenizer = data.split("train"), data.tokenizer()
    for document in range(split.n_documents):
        start, stop = split.document_span(document)
        ids, tags = split.tokens(start, stop - 1), split.tags(start, stop - 1)
        text = tokenizer.decode(ids)
        ((spans,), (table,)) = [offsets for _, offsets in tokenizer.encode_spans([text])], loaded.tag([text])
        for (first, last), tag in zip(spans.tolist(), tags.tolist(), strict=True):
            # The word that covers the token; the space before a word is the word's.
            inside = [code for a, b, code in table.tolist() if a < last and first < b]
            assert [tag] == inside[:1] or (not inside and tag == 0)
        assert split.tags(stop - 1, stop).tolist() == [0]


def test_any_number_of_workers_gives_the_same(
    source: str, tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(source, tagger, tmp_path / "one")
    monkeypatch.setattr(preparation, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", 90)
    two = prepared(source, tagger, tmp_path / "two", preparation_workers=2)
    assert one.fingerprint == two.fingerprint


def test_another_tagger_is_another_setting(source: str, tagger: Path, tmp_path: Path) -> None:
    prepared(source, tagger, tmp_path / "out")
    prepared(source, tagger, tmp_path / "out")
    with pytest.raises(PicoLMError, match=r"was prepared with other settings \(tagger\)"):
        prepared(source, None, tmp_path / "out")
    plain = prepared(source, None, tmp_path / "plain")
    assert plain.manifest.tag_names[0] == "ADJ"
    assert np.unique(plain.split("train").tags(0, plain.split("train").n_tokens)).tolist() == [0, 11]
    with pytest.raises(PicoLMError, match="cannot read the tagger"):
        prepared(source, tmp_path / "none.tagger", tmp_path / "other")
