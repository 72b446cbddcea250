import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.sources import SourceFile


def read(path: Path, content: bytes, **data: object) -> list[Document]:
    path.write_bytes(content)
    return list(read_documents(SourceFile(path), Data(**data)))  # type: ignore[arg-type]


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_records_become_documents(tmp_path: Path) -> None:
    content = lines(
        {"id": "x", "text": "One.", "domain": "news", "age": 3, "tags": ["a", None]},
        {"id": 7, "text": "Two."},
        {"id": True, "text": "Three.", "domain": ""},
    )
    assert read(tmp_path / "d.jsonl", content) == [
        Document("x", "One.", "news", {"age": 3, "tags": ["a", None]}),
        Document("7", "Two.", "d", {}),
        Document("d.jsonl:3", "Three.", "d", {"id": True}),
    ]


def test_fields_can_be_named(tmp_path: Path) -> None:
    content = lines({"content": "One.", "genre": "news", "text": 5})
    (document,) = read(tmp_path / "d.jsonl", content, text_field="content", domain_field="genre")
    assert (document.text, document.domain, document.metadata) == ("One.", "news", {"text": 5})


def test_blank_lines_are_skipped_and_blank_documents_dropped(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([b'{"text": "a"}\r', b"  ", b'{"text": " \\n"}', b'{"text": "b"}']))
    reader = read_documents(SourceFile(path), Data())
    assert [(document.id, document.text) for document in reader] == [("d.jsonl:1", "a"), ("d.jsonl:4", "b")]
    assert reader.dropped == 1
    assert reader.bytes_read == path.stat().st_size


def test_numbers_that_json_cannot_hold_are_null(tmp_path: Path) -> None:
    (document,) = read(tmp_path / "d.jsonl", b'{"text": "a", "id": Infinity, "x": [NaN, 1e999, -1.5e3]}')
    assert (document.id, document.metadata) == ("d.jsonl:1", {"id": None, "x": [None, None, -1500.0]})


def test_gzip_reads_as_plain_does(tmp_path: Path) -> None:
    content = lines(*({"text": f"document {n}\u2028é", "domain": "x"} for n in range(50)))
    plain = read(tmp_path / "d.jsonl", content)
    packed = read(tmp_path / "d.jsonl.gz", gzip.compress(content))
    assert [document.text for document in plain] == [document.text for document in packed]
    assert len(packed) == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": }\n', "line 2 is not valid JSON: .* at column 10"),
        (b'{"text": "a"}\n\n[1]\n', "line 3 is not a JSON object but a list"),
        (b'{"txet": "a"}\n', "line 1 has no text field 'text'; did you mean 'txet'.*data.text_field"),
        (b"{}\n", "line 1 has no text field 'text'; the record has no fields"),
        (b'{"text": null}\n', "line 1 has null as its 'text', which must be a string"),
        (b'{"text": "a", "domain": {}}\n', "line 1 has an object as its 'domain'"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: byte 0xff at offset 10 of the line is not valid UTF-8"),
        (b'{"text": "\\ud800"}\n', "line 1 has half of a surrogate pair"),
        (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "line 1 is not usable JSON"),
        (b'{"text": ' + b"[" * 100_000, "line 1 is not usable JSON|line 1 is not valid JSON"),
        (b"", "is empty: it has no records"),
        (b"\n \n", "is empty: it has no records"),
    ],
)
def test_damaged_records_are_named_by_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    for name, stored in (("d.jsonl", content), ("d.jsonl.gz", gzip.compress(content))):
        with pytest.raises(PicoLMError, match=message) as caught:
            read(tmp_path / name, stored)
        assert str(tmp_path / name) in str(caught.value)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(lines(*({"text": f"document {n}"} for n in range(2000))))
    with pytest.raises(PicoLMError, match=r"d.jsonl.gz is truncated: the gzip stream ends within line \d+"):
        read(tmp_path / "d.jsonl.gz", packed[: len(packed) // 2])
    with pytest.raises(PicoLMError, match=r"d.jsonl.gz is not valid gzip, at line 1"):
        read(tmp_path / "d.jsonl.gz", b'{"text": "a"}')
    with pytest.raises(PicoLMError, match="is not valid gzip"):
        read(tmp_path / "d.jsonl.gz", packed[:-8] + b"12345678")


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    content = b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r\n"
    assert read(path, content) == [Document("book.txt:1", "one\ntwo\n\nthree\n", "book")]
    assert [(d.id, d.text) for d in read(path, content, txt_documents="paragraphs")] == [
        ("book.txt:1", "one\ntwo"),
        ("book.txt:4", "three\n"),
    ]
    assert [(d.id, d.text) for d in read(path, content, txt_documents="lines")] == [
        ("book.txt:1", "one"),
        ("book.txt:2", "two"),
        ("book.txt:4", "three"),
    ]


def test_pieces_of_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    documents = read(tmp_path / "book.txt", b"first\n" + b"x" * 50_000)
    assert len({document.id for document in documents}) == len(documents) > 3
    assert "".join(document.text for document in documents) == "first\n" + "x" * 50_000
    assert documents[1].id == f"book.txt:2:{len(documents[0].text) - 6 + 1}"


def test_text_errors(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match=r"book.txt, line 2: byte 0xe9 at offset 3 of the line is not valid UTF-8"):
        read(tmp_path / "book.txt", b"one\ncaf\xe9\n")
    with pytest.raises(PicoLMError, match=r"book.txt is empty"):
        read(tmp_path / "book.txt", b"\xef\xbb\xbf")
    with pytest.raises(PicoLMError, match=r"cannot read .*gone.txt"):
        list(read_documents(SourceFile(tmp_path / "gone.txt"), Data()))


RECORDS = lines(
    {"id": "x", "text": "One é.", "domain": "news", "age": 3.5},
    {"text": "Two 😀."},
    {"id": 1, "text": "Three", "nested": {"a": [1, {"b": None}]}},
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(RECORDS)), st.integers(0, 3), st.binary(max_size=4)), max_size=6))
def test_any_mutation_parses_or_is_refused(tmp_path: Path, edits: list[tuple[int, int, bytes]]) -> None:
    content = RECORDS
    for position, removed, inserted in edits:
        content = content[:position] + inserted + content[position + removed :]
    try:
        documents = read(tmp_path / "d.jsonl", content)
    except PicoLMError as error:
        assert "d.jsonl" in str(error)
    else:
        for document in documents:
            assert document.text.strip()
            assert (document.text + document.id + document.domain).encode()
            json.dumps(dict(document.metadata), allow_nan=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_any_damage_to_gzip_parses_or_is_refused(tmp_path: Path, position: int, inserted: bytes) -> None:
    packed = gzip.compress(RECORDS, mtime=0)
    position %= len(packed)
    damaged = packed[:position] + inserted + packed[position + len(inserted) :]
    try:
        documents = read(tmp_path / "d.jsonl.gz", damaged)
    except PicoLMError as error:
        assert "d.jsonl.gz" in str(error)
    else:
        # What still unpacks has the right checksum, or is cut by gzip's rule that zeros may follow.
        assert len(documents) in (0, 3)


def test_the_real_corpus(shared_data: Path) -> None:
    documents = list(read_documents(SourceFile(shared_data / "corpus_en" / "val.jsonl.gz"), Data()))
    assert len(documents) == 708
    assert len({document.domain for document in documents}) == 8
    assert sum(len(document.text.split()) for document in documents) == 477_758
    assert documents[0].metadata["age_months"] == 28


def test_tinyshakespeare_falls_into_pieces(shared_data: Path) -> None:
    path = shared_data / "tinyshakespeare" / "input.txt"
    documents = list(read_documents(SourceFile(path), Data()))
    assert "".join(document.text for document in documents) == path.read_text()
    assert 100 < len(documents) < 180
