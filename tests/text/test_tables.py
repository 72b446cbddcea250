"""Parquet files and Hugging Face datasets: tables whose rows are documents."""

import datetime
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.document import Document, Tag
from picolm.text.hub import HubDataset, revision_of
from picolm.text.reading import read_documents
from picolm.text.sources import SourceFile, expand

RECORDS = [
    {"id": "x", "text": "One é.", "domain": "news", "age": 3.5, "when": datetime.date(2026, 1, 2), "raw": b"\x00"},
    {"id": None, "text": "Two", "domain": None, "age": float("nan"), "when": None, "raw": None},
    {"id": None, "text": " ", "domain": None, "age": None, "when": None, "raw": None},
    {"id": "y", "text": "Four", "domain": "news", "age": None, "when": None, "raw": b""},
]
DOCUMENTS = [
    Document("x", "One é.", "news", {"age": 3.5, "when": "2026-01-02"}),
    Document("d.parquet:2", "Two", "d", {"id": None, "age": None, "when": None}),
    Document("y", "Four", "news", {"age": None, "when": None}),
]


def write(path: Path, records: list[dict[str, object]], **options: object) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path, **options)
    return path


def read(path: Path, **data: object) -> list[Document]:
    return list(read_documents(SourceFile(path), Data(**data)))  # type: ignore[arg-type]


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_rows_become_documents(tmp_path: Path, row_group_size: int) -> None:
    path = write(tmp_path / "d.parquet", RECORDS, row_group_size=row_group_size)  # type: ignore[arg-type]
    assert read(path) == DOCUMENTS


def test_columns_can_be_named_and_words_tagged(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"content": "a dog", "genre": "x", "tokens": ["a", "dog"], "upos": ["DET", "NOUN"]}
    ]
    (document,) = read(write(tmp_path / "d.parquet", records), text_field="content", domain_field="genre")
    assert document == Document("d.parquet:1", "a dog", "x", {}, (Tag(0, 1, "DET"), Tag(2, 5, "NOUN")))


def test_what_is_wrong_is_named_by_column_and_row(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    with pytest.raises(PicoLMError, match=r"d.parquet has no text column 'text'; did you mean 'texts'"):
        read(write(path, [{"texts": "a"}]))
    with pytest.raises(PicoLMError, match=r"has the type int64 in its text column 'text', which must hold strings"):
        read(write(path, [{"text": 1}]))
    with pytest.raises(PicoLMError, match=r"d.parquet, row 3 \(row group 1\) has null as its 'text'"):
        read(write(path, [{"text": text} for text in ("a", "b", None)], row_group_size=2))
    with pytest.raises(PicoLMError, match=r"d.parquet is empty: it has no rows"):
        read(_empty(path))
    path.write_bytes(b"PAR1 no")
    with pytest.raises(PicoLMError, match=r"d.parquet is not a valid Parquet file"):
        read(path)


def _empty(path: Path) -> Path:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    return path


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [{"text": f"{n} " * 200} for n in range(40)]
    path = write(tmp_path / "d.parquet", records, row_group_size=20, use_dictionary=False, write_page_checksum=True)
    metadata = pq.ParquetFile(path).metadata
    content = bytearray(path.read_bytes())
    start = metadata.row_group(1).column(0).data_page_offset
    content[start : start + metadata.row_group(1).column(0).total_compressed_size] = b"\xff" * (
        metadata.row_group(1).column(0).total_compressed_size
    )
    path.write_bytes(content)
    documents = read_documents(SourceFile(path), Data())
    assert [next(documents).text for _ in range(20)] == [record["text"] for record in records[:20]]
    with pytest.raises(PicoLMError, match=r"d.parquet, row group 1 is damaged"):
        next(documents)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local dataset of two splits."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    for split, count in (("train", 5), ("test", 2)):
        records = [{"text": f"{split} {n}", "n": n} for n in range(count)]
        (tmp_path / "mine" / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("hf:owner/name", HubDataset("owner/name", None, "train")),
        ("hf:name:config@validation", HubDataset("name", "config", "validation")),
        ("hf:./folder@test", HubDataset("./folder", None, "test")),
    ],
)
def test_a_dataset_is_named_in_one_string(source: str, parsed: HubDataset) -> None:
    assert expand([source, source]) == [parsed]


def test_a_folder_is_streamed(folder: Path) -> None:
    (test,) = expand([f"hf:{folder}@test"])
    assert list(read_documents(test, Data())) == [
        Document("hf:mine@test:1", "test 0", "mine", {"n": 0}),
        Document("hf:mine@test:2", "test 1", "mine", {"n": 1}),
    ]
    train, test = expand([f"hf:{folder}"])[0], expand([f"hf:{folder}@test"])[0]
    before = (train.sha256(), test.sha256())
    assert before[0] != before[1]
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "more", "n": 9}\n')
    assert train.sha256() != before[0]
    assert test.sha256() == before[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:nobody/no-such-dataset", "cannot read hf:nobody/no-such-dataset@train: .*needs a network"),
        ("hf:{folder}@trian", "has no split 'trian'; it has train, test|Available splits"),
        ("hf:{folder}:other", "cannot read hf:.*:other@train: .*'other' not found"),
    ],
)
def test_what_is_not_there_is_explained(folder: Path, source: str, message: str) -> None:
    dataset = expand([source.format(folder=folder)])[0]
    with pytest.raises(PicoLMError, match=message):
        dataset.sha256()
    with pytest.raises(PicoLMError):
        list(read_documents(dataset, Data()))


def test_what_is_read_from_the_hub_is_pinned_to_a_commit() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert revision_of([f"hf://datasets/owner/name@{commit}/data/train.parquet"]) == commit
    assert revision_of(["/home/me@work/train.parquet"]) is None


def test_a_form_that_names_nothing_is_refused() -> None:
    with pytest.raises(PicoLMError, match=r"'hf:' does not name a dataset: write hf:NAME"):
        expand(["hf:"])


def test_without_the_package_the_command_to_install_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        PicoLMError, match=r"hf:x/y@train needs the package `datasets`: pip install 'picolm\[datasets\]'"
    ):
        list(read_documents(HubDataset("x/y", None, "train"), Data()))
