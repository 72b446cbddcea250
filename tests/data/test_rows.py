from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picolm.data.prepared import TokenData
from picolm.data.rows import Rows, ValidationRows
from picolm.data.split import Split
from picolm.errors import PicoLMError

Prepare = Callable[..., TokenData]

TEXTS = {
    "long": [f"{n}: " + "abc defg " * (n % 5 + 1) for n in range(40)],
    "short": [f"w{n} é日" for n in range(60)],
}


@pytest.fixture
def data(prepared: Prepare) -> TokenData:
    return prepared(TEXTS, validation_fraction=0.3)


def stream(split: Split) -> list[int]:
    return split.tokens(0, split.n_tokens).tolist()


@pytest.mark.parametrize("length", [1, 7, 64])
def test_every_token_but_the_first_is_predicted_once(data: TokenData, length: int) -> None:
    split = data.split("train")
    rows = Rows(split, length)
    assert rows.n_rows == (split.n_tokens - 1) // length
    read = rows.read(np.arange(rows.n_rows))
    assert read.shape == (rows.n_rows, length + 1)
    assert read.dtype == np.int64
    tokens = stream(split)
    predicted = [(row * length + i + 1, int(read[row, i + 1])) for row in range(rows.n_rows) for i in range(length)]
    assert predicted == list(enumerate(tokens))[1 : rows.n_rows * length + 1]
    assert len(tokens) - 1 - rows.n_rows * length < length
    np.testing.assert_array_equal(read[:-1, -1], read[1:, 0])


def test_rows_come_in_any_order(data: TokenData) -> None:
    rows = Rows(data.split("train"), 16)
    ids = np.array([5, 0, 5, rows.n_rows - 1])
    np.testing.assert_array_equal(rows.read(ids), rows.read(np.arange(rows.n_rows))[ids])
    for outside in (-1, rows.n_rows):
        with pytest.raises(IndexError):
            rows.read(np.array([outside]))


def test_too_short_a_split_is_refused(data: TokenData) -> None:
    split = data.split("validation")
    assert Rows(split, split.n_tokens - 1).n_rows == 1
    with pytest.raises(PicoLMError, match=rf"{split.n_tokens} tokens, too few for one row of {split.n_tokens} \+ 1"):
        Rows(split, split.n_tokens)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    domain=st.sampled_from(["long", "short"]),
    length=st.integers(1, 80),
    max_tokens=st.integers(1, 800),
)
def test_validation_predicts_each_token_of_whole_documents_once(
    data: TokenData, domain: str, length: int, max_tokens: int
) -> None:
    split = data.split("validation")
    chosen = ValidationRows(split, domain, length, max_tokens)
    tokens, valid = chosen.rows
    predicted: list[int] = []
    for row, n in zip(tokens.tolist(), valid.tolist(), strict=True):
        predicted += row[1:n]
        assert row[n:] == [split.pad_id] * (length + 1 - n)
        assert n >= 2
    documents = [split.tokens(*split.document_span(i)).tolist() for i in chosen.documents.tolist()]
    assert predicted == [token for document in documents for token in document]
    assert int(tokens[0, 0]) == split.separator_id
    assert all(document[-1] == split.separator_id for document in documents)
    np.testing.assert_array_equal(tokens[1:, 0], tokens[:-1, -1])

    table = split.documents().to_pylist()
    assert {table[i]["domain"] for i in chosen.documents} == {domain}
    assert chosen.n_bytes == sum(table[i]["bytes"] for i in chosen.documents)
    assert chosen.n_documents == len(set(chosen.documents.tolist())) >= 1
    assert len(predicted) <= max_tokens or chosen.n_documents == 1
    everything = ValidationRows(split, domain, length, 10**9)
    assert everything.documents[: chosen.n_documents].tolist() == chosen.documents.tolist()
    if chosen.n_documents < everything.n_documents:
        following = int(everything.documents[chosen.n_documents])
        assert len(predicted) + int(split.document_lengths(np.array([following]))[0]) > max_tokens


def test_all_documents_of_the_domain_are_taken_in_an_order_of_their_own(data: TokenData) -> None:
    split = data.split("validation")
    for domain, counts in split.domains.items():
        everything = ValidationRows(split, domain, 32, 10**9)
        assert Counter(everything.documents.tolist()) == Counter(split.domain_documents(domain).tolist())
        assert everything.documents.tolist() != sorted(everything.documents.tolist())
        assert everything.n_bytes == counts.bytes
        assert int((everything.rows[1] - 1).sum()) == counts.tokens


def test_an_unknown_domain_is_named(data: TokenData) -> None:
    with pytest.raises(PicoLMError, match="no domain 'middle'; valid names: long, short"):
        ValidationRows(data.split("validation"), "middle", 8, 100)


@pytest.mark.parametrize("domains", [None, ["short"], ["short", "long"]])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_rows_say_which_documents_they_hold(data: TokenData, domains: list[str] | None, length: int) -> None:
    split = data.split("train")
    rows = Rows(split, length, domains)
    ids = np.arange(rows.n_rows)
    tokens, documents = rows.read(ids), rows.read_documents(ids)
    holders: dict[int, set[int]] = {}
    for id in ids.tolist():
        rebuilt, numbers = [], []
        for passage in rows.passages(id):
            assert passage.place == len(rebuilt)
            rebuilt += split.tokens(passage.start, passage.stop).tolist()
            numbers += [passage.document] * (passage.stop - passage.start)
            begin, end = split.document_span(passage.document)
            assert begin - 1 <= passage.start < passage.stop <= end or passage[2:] == (0, 1)
            holders.setdefault(passage.document, set()).add(id)
        assert rebuilt == tokens[id].tolist()
        assert numbers == documents[id].tolist()
    for document in range(split.n_documents):
        assert rows.of_document(document).tolist() == sorted(holders.get(document, set()))


@pytest.mark.parametrize("length", [1, 7, 64])
def test_a_domain_is_a_stream_of_its_own(data: TokenData, length: int) -> None:
    split = data.split("train")
    rows = Rows(split, length, ["short", "long"])
    assert [len(part) for part in rows.parts.values()] == [
        split.domains[name].tokens // length for name in ("short", "long")
    ]
    for name, part in rows.parts.items():
        read = rows.read(np.array(part))
        members = split.domain_documents(name).tolist()
        wanted = [split.separator_id]
        for document in members:
            wanted += split.tokens(*split.document_span(document)).tolist()
        assert [int(read[0, 0]), *read[:, 1:].ravel().tolist()] == wanted[: len(part) * length + 1]
        assert set(rows.read_documents(np.array(part)).ravel().tolist()) <= set(members)


def test_a_domain_must_be_there_and_fill_a_row(data: TokenData) -> None:
    split = data.split("train")
    with pytest.raises(PicoLMError, match="no domain 'shor'; did you mean 'short'"):
        Rows(split, 8, ["shor"])
    with pytest.raises(PicoLMError, match=r"the domain 'short' has \d+ tokens, too few for one row of 100000 \+ 1"):
        Rows(split, 100_000, ["short"])


def test_validation_rows_say_which_documents_they_hold(data: TokenData) -> None:
    split = data.split("validation")
    chosen = ValidationRows(split, "long", 16, 10**9)
    tokens, valid = chosen.rows
    assert chosen.row_documents.shape == tokens.shape
    assert chosen.row_tags is None
    for row, n in zip(chosen.row_documents, valid.tolist(), strict=True):
        assert (row[n:] == -1).all()
        assert set(row[:n].tolist()) <= set(chosen.documents.tolist())
    stream = np.concatenate([row[1:n] for row, n in zip(chosen.row_documents, valid.tolist(), strict=True)])
    np.testing.assert_array_equal(stream, np.repeat(chosen.documents, split.document_lengths(chosen.documents)))
