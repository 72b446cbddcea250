import hashlib
import json
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.runs.manifest import DamagedManifestError, read_manifest, verify, write_manifest


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "step-00000010"
    (directory / "state").mkdir(parents=True)
    (directory / "model.bin").write_bytes(b"weights")
    (directory / "state" / "optimizer.bin").write_bytes(b"moments")
    write_manifest(directory, step=10, transformers="LlamaForCausalLM")
    return directory


def forge(directory: Path, name: str) -> None:
    content = read_manifest(directory)
    content["files"][name] = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(content))


def test_manifest_lists_every_file_with_size_and_hash(directory: Path) -> None:
    assert json.loads((directory / "manifest.json").read_text()) == {
        "format": 1,
        "step": 10,
        "transformers": "LlamaForCausalLM",
        "files": {
            "model.bin": {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()},
            "state/optimizer.bin": {"bytes": 7, "sha256": hashlib.sha256(b"moments").hexdigest()},
        },
    }
    assert verify(directory) == []


def test_each_damage_is_one_sentence(directory: Path) -> None:
    (directory / "model.bin").write_bytes(b"weighTs")
    (directory / "state" / "optimizer.bin").unlink()
    (directory / "extra").touch()
    changed, missing, unlisted = verify(directory)
    assert changed == f"{directory}/model.bin was changed: its SHA-256 is not the one in the manifest"
    assert missing == f"{directory}/state/optimizer.bin is missing"
    assert unlisted == f"{directory}/extra is not in the manifest"


def test_wrong_size_is_named(directory: Path) -> None:
    (directory / "model.bin").write_bytes(b"short")
    assert verify(directory) == [f"{directory}/model.bin has 5 bytes, the manifest says 7"]


def test_directory_in_place_of_a_file_is_damage(directory: Path) -> None:
    (directory / "model.bin").unlink()
    (directory / "model.bin").mkdir()
    assert verify(directory) == [f"{directory}/model.bin is not a file"]


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "..", "", "a\\..\\b", "C:/x", "a\0b"])
def test_names_that_leave_the_directory_are_refused(directory: Path, name: str) -> None:
    (directory.parent / "secret").touch()
    forge(directory, name)
    with pytest.raises(DamagedManifestError, match="outside its directory"):
        read_manifest(directory)
    assert len(verify(directory)) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": "1", "files": {}}', '{"format": 1, "files": {"a": {}}}', "\0" * 9],
)
def test_unreadable_manifest_is_damage(directory: Path, text: str) -> None:
    (directory / "manifest.json").write_text(text)
    with pytest.raises(DamagedManifestError, match=r"manifest\.json"):
        read_manifest(directory)
    assert len(verify(directory)) == 1


def test_missing_manifest_is_damage(directory: Path) -> None:
    (directory / "manifest.json").unlink()
    assert verify(directory) == [f"{directory} has no manifest.json"]


def test_newer_format_is_no_damage_but_an_upgrade(directory: Path) -> None:
    (directory / "manifest.json").write_text('{"format": 2, "contents": {}}')
    for reader in (read_manifest, verify):
        with pytest.raises(PicoLMError, match=r"manifest\.json has format 2.*upgrade PicoLM") as caught:
            reader(directory)
        assert not isinstance(caught.value, DamagedManifestError)
