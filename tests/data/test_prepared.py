import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picolm.data.prepared import TokenData
from picolm.data.summary import summarise
from picolm.errors import PicoLMError

Prepare = Callable[..., TokenData]

TEXTS = {"a": [f"text {n}" for n in range(30)], "b": [f"other {n}" for n in range(20)]}


@pytest.fixture
def data(prepared: Prepare) -> TokenData:
    return prepared(TEXTS)


def change(data: TokenData, edit: Callable[[Any], None]) -> None:
    path = data.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("file", ["tokens-00000.bin", "offsets.npy", "documents.parquet"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_one_changed_byte_is_refused_by_name(data: TokenData, split: str, file: str) -> None:
    path = data.directory / split / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PicoLMError, match=rf"{split}/{file} holds other bytes under the same name"):
        TokenData.open(data.directory)


@pytest.mark.parametrize("verify", ["hashes", "sizes"])
def test_cut_and_missing_files_are_refused_by_name(data: TokenData, verify: Any) -> None:
    path = data.directory / "train" / "tokens-00000.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    with pytest.raises(PicoLMError, match=rf"tokens-00000.bin has {len(content) - 2} bytes instead of {len(content)}"):
        TokenData.open(data.directory, verify=verify)
    path.unlink()
    with pytest.raises(PicoLMError, match=r"tokens-00000.bin is missing"):
        TokenData.open(data.directory, verify=verify)


def test_another_tokenizer_is_refused(data: TokenData) -> None:
    path = data.directory / "tokenizer.json"
    path.write_text(path.read_text().replace('"x"', '"X"'))
    with pytest.raises(PicoLMError, match=r"tokenizer.json is not the tokenizer that made the tokens"):
        TokenData.open(data.directory).tokenizer()


def test_what_was_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match=r"there is no prepared directory .*gone; make one with `picolm data prep"):
        TokenData.open(tmp_path / "gone")
    with pytest.raises(PicoLMError, match=r"is not a prepared directory: it has no manifest.json"):
        TokenData.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"kind": "run"}')
    with pytest.raises(PicoLMError, match="does not describe prepared data"):
        TokenData.open(tmp_path)


def test_newer_formats_ask_for_an_upgrade(data: TokenData) -> None:
    change(data, lambda manifest: manifest.update(format=2))
    with pytest.raises(PicoLMError, match="has format 2, this PicoLM reads up to 1: upgrade picolm"):
        TokenData.open(data.directory)


@pytest.mark.parametrize("path", ["../secret.bin", "/etc/passwd", "train/../../x", "..\\x", "C:x"])
def test_paths_out_of_the_directory_are_refused(data: TokenData, path: str) -> None:
    change(data, lambda manifest: manifest["splits"]["train"]["shards"][0].update(file=path))
    with pytest.raises(PicoLMError, match="leads out of the directory"):
        TokenData.open(data.directory)


def test_other_content_has_another_fingerprint(data: TokenData) -> None:
    change(data, lambda manifest: manifest["splits"]["train"]["shards"][0].update(sha256="0" * 64))
    with pytest.raises(PicoLMError, match="its fingerprint is not that of its content"):
        TokenData.open(data.directory)


def test_a_moved_directory_is_the_same_data(data: TokenData, tmp_path: Path) -> None:
    moved = data.directory.rename(tmp_path / "elsewhere")
    assert TokenData.open(moved).fingerprint == data.fingerprint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(where=st.integers(0, 10**6), removed=st.integers(0, 30), inserted=st.text(alphabet='{}[]",:0-1a.e', max_size=3))
def test_any_damage_to_the_manifest_is_refused_or_harmless(
    data: TokenData, where: int, removed: int, inserted: str
) -> None:
    path = data.directory / "manifest.json"
    original = path.read_text()
    where %= len(original)
    path.write_text(original[:where] + inserted + original[where + removed :])
    try:
        opened = TokenData.open(data.directory, verify="sizes")
        assert opened.fingerprint == data.fingerprint
    except PicoLMError as error:
        assert str(data.directory) in str(error)
    finally:
        path.write_text(original)


def test_the_summary_counts_what_is_there(data: TokenData) -> None:
    summary: Any = summarise(data, samples=4)
    assert json.loads(json.dumps(summary)) == summary
    total = sum(len(text.encode()) for texts in TEXTS.values() for text in texts)
    assert sum(split["bytes"] for split in summary["splits"].values()) == total
    for name, split in summary["splits"].items():
        stream = data.split(name).tokens(0, data.split(name).n_tokens)
        assert split["tokens"] == len(stream)
        assert split["vocabulary_used"] == len(set(stream.tolist()))
        assert split["bytes_per_token"] == split["bytes"] / split["tokens"]
        assert split["documents"] == sum(domain["documents"] for domain in split["domains"].values())
    assert len({sample["id"] for sample in summary["samples"]}) == 4
    for sample in summary["samples"]:
        assert sample["text"] in TEXTS[sample["domain"]]
    assert summarise(data, samples=10**6)["samples"][:4] == summary["samples"]  # type: ignore[index]
