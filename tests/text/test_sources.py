from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.text.sources import expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.jsonl", "deep/er/c.jsonl.gz", "deep/d.txt", "notes.md", ".hidden.txt", ".git/e.txt"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "corpus"


def names(*sources: object) -> list[str]:
    return [file.name for file in expand([str(source) for source in sources])]


def test_a_folder_is_read_recursively_and_sorted_without_hidden_files(folder: Path) -> None:
    assert names(folder) == ["a.jsonl", "b.txt", "d.txt", "c.jsonl.gz"]


def test_globs_take_the_files_that_can_be_read(folder: Path) -> None:
    assert names(folder / "*") == ["a.jsonl", "b.txt"]
    assert names(folder / "**" / "*.txt") == ["b.txt", "d.txt"]


def test_the_order_of_sources_is_kept_and_duplicates_go(folder: Path) -> None:
    assert names(
        "embedded:english", folder / "b.txt", folder, folder / "deep" / ".." / "b.txt", "embedded:english"
    ) == [
        "embedded:english",
        "b.txt",
        "a.jsonl",
        "d.txt",
        "c.jsonl.gz",
    ]


def test_relative_sources_are_seen_from_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names("*.txt", "a.jsonl") == ["b.txt", "a.jsonl"]


def test_the_stem_loses_the_whole_suffix(folder: Path) -> None:
    assert [file.stem for file in expand([str(folder / "deep")])] == ["d", "c"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("x")
    assert names(tmp_path / "a[1].txt") == ["a[1].txt"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("corpus/a.jsnl", "there is no .*a.jsnl; did you mean '.*a.jsonl'"),
        ("corpsu/a.jsonl", "there is no .*; did you mean '.*corpus'"),
        ("corpus/zzzzzzzz", "has no such entry"),
        ("corpus/*.csv", "matches no file"),
        ("corpus/*.md", "matches .*notes.md, but no text file; PicoLM reads .txt, .jsonl, .* and .conllu.gz"),
        ("corpus/notes.md", "suffix is unknown; PicoLM reads .txt, .jsonl, .* and .conllu.gz"),
        ("corpus/.git/..data", "there is no"),
        ("empty", "holds no text files"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, source: str, message: str) -> None:
    (folder.parent / "empty").mkdir()
    with pytest.raises(PicoLMError, match=message):
        expand([str(folder.parent / source)])


def test_unknown_embedded_corpora_are_named() -> None:
    with pytest.raises(PicoLMError, match="no embedded corpus 'englisch'; did you mean 'english'"):
        expand(["embedded:englisch"])
