"""Parts of speech beside the tokens: found by brute force, the same for any number of workers, kept with the shards."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.config import schema
from picolm.data import encoding, preparation
from picolm.data.preparation import prepare
from picolm.data.prepared import TokenData
from picolm.data.rows import Rows, ValidationRows
from picolm.data.tagging import packed, tags_of_tokens
from picolm.errors import PicoLMError
from picolm.text.document import Tag
from picolm.text.tagging import UPOS
from picolm.text.tokenizer import Tokenizer

BPE = schema.Tokenizer(vocab_size=400)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.sampled_from(UPOS)), max_size=8),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12),
)
def test_a_token_has_the_tag_of_the_word_it_shares_most_with(
    words: list[tuple[int, int, str]], tokens: list[tuple[int, int]]
) -> None:
    tags, position = [], 0
    for gap, length, name in words:
        tags.append(Tag(position + gap, position + gap + length, name))
        position += gap + length
    spans = [(start, start + length) for start, length in tokens]
    expected = []
    for start, stop in spans:
        shared = [len(set(range(start, stop)) & set(range(tag.start, tag.stop))) for tag in tags]
        most = max(shared, default=0)
        expected.append(UPOS.index(tags[shared.index(most)].upos) + 1 if most else 0)
    found = tags_of_tokens(np.array(spans, dtype=np.int32).reshape(-1, 2), packed(tags))
    assert found.tolist() == expected


TEXTS = [("Le café 😀 ferme.", "DET NOUN SYM VERB PUNCT"), ("don't  go", "AUX PART VERB"), ("日本 語", "PROPN NOUN")]
WORDS = ["Le café 😀 ferme .", "do n't go", "日本 語"]


def tagged_source(path: Path, copies: int = 8) -> str:
    records = [
        {"text": text, "tokens": words, "upos": upos, "id": f"{n}-{copy}"}
        for copy in range(copies)
        for n, ((text, upos), words) in enumerate(zip(TEXTS, WORDS, strict=True))
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"text": "no tags"}\n')
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> TokenData:
    return prepare(schema.Data(sources=(tagged_source(tmp_path / "d.jsonl"),)), BPE, tmp_path / "out")


def test_every_character_of_a_word_carries_its_tag(data: TokenData) -> None:
    assert data.manifest.tag_names == UPOS
    split, tokenizer = data.split("train"), data.tokenizer()
    for document in range(split.n_documents):
        start, stop = split.document_span(document)
        ids, tags = split.tokens(start, stop), split.tags(start, stop)
        assert tags[-1] == 0
        name = split.documents()["id"][document].as_py()
        if name == "d.jsonl:25":
            assert not tags.any()
            continue
        words: list[tuple[str, str]] = []
        pieces: list[int] = []
        previous = 0
        number = int(name.split("-")[0])
        expected = list(zip(WORDS[number].split(), TEXTS[number][1].split(), strict=True))
        for id, tag in [*zip(ids.tolist(), tags.tolist(), strict=True), (split.separator_id, 0)]:
            if tag != previous and pieces:
                words.append((tokenizer.decode(pieces).strip(), UPOS[previous - 1]))
                pieces = []
            if tag:
                pieces.append(id)
            previous = tag
        assert words == expected


def test_spans_lie_in_the_text_and_ids_are_the_same() -> None:
    texts = [text for text, _ in TEXTS] + ["", "a\nb"]
    for tokenizer in (Tokenizer.train_bpe(texts, 300), Tokenizer.characters(texts)):
        for text, ids, (same, spans) in zip(
            texts, tokenizer.encode_batch(texts), tokenizer.encode_spans(texts), strict=True
        ):
            assert ids.tolist() == same.tolist()
            assert spans.shape == (len(ids), 2)
            covered = {place for start, stop in spans.tolist() for place in range(start, stop)}
            assert covered == set(range(len(text)))


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_tags(
    data: TokenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(preparation, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", 40)
    config = schema.Data(sources=(str(tmp_path / "d.jsonl"),), preparation_workers=workers)
    other = prepare(config, BPE, tmp_path / "other")
    assert other.fingerprint == data.fingerprint
    for split in ("train", "validation"):
        file = f"{split}/tags-00000.bin"
        assert (other.directory / file).read_bytes() == (data.directory / file).read_bytes()


def test_tags_are_content(data: TokenData, tmp_path: Path) -> None:
    source = tagged_source(tmp_path / "e.jsonl")
    Path(source).write_text(Path(source).read_text().replace("VERB", "AUX"))
    Path(source).rename(tmp_path / "d.jsonl")
    other = prepare(schema.Data(sources=(str(tmp_path / "d.jsonl"),)), BPE, tmp_path / "other")
    assert other.fingerprint != data.fingerprint
    train = data.directory / "train"
    damaged = bytearray((train / "tags-00000.bin").read_bytes())
    damaged[3] ^= 1
    (train / "tags-00000.bin").write_bytes(damaged)
    with pytest.raises(PicoLMError, match=r"tags-00000.bin holds other bytes"):
        TokenData.open(data.directory)


def test_rows_read_tags_as_they_read_tokens(data: TokenData) -> None:
    split = data.split("train")
    for domains in (None, ["d"]):
        rows = Rows(split, 9, domains)
        ids = np.arange(rows.n_rows)[::-1].copy()
        tags = rows.read_tags(ids)
        assert tags is not None
        np.testing.assert_array_equal(tags[::-1][:, 1:].ravel(), split.tags(1, rows.n_rows * 9 + 1))
    held_out = ValidationRows(data.split("validation"), "d", 4, 10**6)
    assert held_out.row_tags is not None
    assert ((held_out.row_tags > 0) <= (held_out.row_documents >= 0)).all()
    assert held_out.row_tags.any()


def test_data_without_tags_say_so(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(9)))
    data = prepare(schema.Data(sources=(str(path),)), BPE, tmp_path / "out")
    split = data.split("train")
    assert split.tag_names == ()
    assert Rows(split, 3).read_tags(np.array([0])) is None
    assert not list(data.directory.rglob("tags-*"))
    with pytest.raises(PicoLMError, match="have no parts of speech: prepare sources that have them"):
        split.tags(0, 1)
    manifest = json.loads((data.directory / "manifest.json").read_text())
    manifest["tag_names"] = ["NOUN"]
    (data.directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PicoLMError, match="is damaged: the tags of train do not fit its tokens"):
        TokenData.open(data.directory)
