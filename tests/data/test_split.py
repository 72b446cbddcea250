from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from picolm.data import writing
from picolm.data.prepared import TokenData
from picolm.data.spool import Facts

Prepare = Callable[..., TokenData]

TEXTS = {"a": [f"text {n}" for n in range(30)], "b": [f"other{n} " * (n + 1) for n in range(20)]}


@pytest.fixture
def data(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> TokenData:
    monkeypatch.setattr(writing, "SHARD_BYTES", 200)
    return prepared(TEXTS, validation_fraction=0.2)


def whole_stream(data: TokenData) -> list[int]:
    shards = data.manifest.splits["train"].shards
    return [id for shard in shards for id in np.fromfile(data.directory / shard.file, dtype="<u2").tolist()]


def test_the_stream_is_separated_documents(data: TokenData) -> None:
    split, tokenizer = data.split("train"), data.tokenizer()
    stream = whole_stream(data)
    expected = [0]
    for index in range(split.n_documents):
        start, stop = split.document_span(index)
        assert start == len(expected)
        text = tokenizer.decode(split.tokens(start, stop))
        assert text in TEXTS[split.documents()["domain"][index].as_py()]
        expected += [*tokenizer.encode(text).tolist(), 0]
        assert stop == len(expected)
    assert stream == expected
    assert split.n_tokens == len(stream)


def test_shards_are_cut_at_their_size_and_read_as_one(data: TokenData) -> None:
    shards = data.manifest.splits["train"].shards
    assert len(shards) > 5
    assert {shard.bytes for shard in shards[:-1]} == {200}
    split, stream = data.split("train"), whole_stream(data)
    for start in range(0, split.n_tokens + 1, 7):
        for stop in {start, min(start + 1, split.n_tokens), min(start + 333, split.n_tokens), split.n_tokens}:
            found = split.tokens(start, stop)
            assert found.dtype == np.int64
            assert found.tolist() == stream[start:stop]


def test_beyond_the_stream_is_refused(data: TokenData) -> None:
    split = data.split("train")
    for start, stop in ((-1, 3), (0, split.n_tokens + 1), (5, 4)):
        with pytest.raises(IndexError, match="tokens in train"):
            split.tokens(start, stop)
    for position in (-1, split.n_tokens):
        with pytest.raises(IndexError):
            split.document_at(np.array([position]))
    for document in (-1, split.n_documents):
        with pytest.raises(IndexError):
            split.document_span(document)


def test_positions_find_their_documents(data: TokenData) -> None:
    split = data.split("train")
    found = split.document_at(np.arange(split.n_tokens)).tolist()
    expected = [0] + [i for i in range(split.n_documents) for _ in range(*split.document_span(i))]
    assert found == expected
    assert split.document_at(np.array([[0, split.n_tokens - 1]])).tolist() == [[0, split.n_documents - 1]]


def test_domains_add_up(data: TokenData) -> None:
    for name in ("train", "validation"):
        split = data.split(name)
        members = {domain: split.domain_documents(domain) for domain in ("a", "b")}
        assert sorted(np.concatenate(list(members.values())).tolist()) == list(range(split.n_documents))
        for domain, counts in split.domains.items():
            assert counts.documents == len(members[domain])
            assert counts.tokens == split.document_lengths(members[domain]).sum()
            table = split.documents().take(members[domain])
            assert counts.bytes == sum(table["bytes"].to_pylist())
        assert split.domain_documents("c").tolist() == []


def test_threads_read_the_same(data: TokenData) -> None:
    stream = whole_stream(data)
    split = TokenData.open(data.directory).split("train")
    spans = [(start, min(start + 150, len(stream))) for start in range(0, len(stream), 3)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda span: split.tokens(*span).tolist(), spans))
    assert found == [stream[start:stop] for start, stop in spans]


def test_large_vocabularies_take_four_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SHARD_BYTES", 8)
    writer = writing.SplitWriter(tmp_path, "train", 0, "uint32")
    writer.add(Facts("x", "a", "x.txt", 4, 4, "{}"), np.array([70_000, 2**32 - 1]))
    shards = writer.finish().shards
    assert [shard.bytes for shard in shards] == [8, 8]
    ids = np.concatenate([np.fromfile(tmp_path / shard.file, dtype="<u4") for shard in shards])
    assert ids.tolist() == [0, 70_000, 2**32 - 1, 0]
