"""Only what is asked for is read: counted in pages of the files that are really in memory."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from picolm.analysis.sources.store import SafetensorsStore, Store, open_store
from picolm.errors import PicoLMError
from picolm.model.files import locate_tensors

SIDE = 512
TENSORS = {f"layers.{number}.x.weight": torch.full((SIDE, SIDE), float(number)) for number in range(12)}
EACH = SIDE * SIDE * 4


def in_memory(directory: Path) -> int:
    """Bytes of the files of a directory that this process has mapped and touched."""
    resident, counting = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counting = str(directory) in line
        elif counting and line.startswith("Rss:"):
            resident += int(line.split()[1]) * 1024
    return resident


def written(kind: str, directory: Path) -> Store:
    directory.mkdir(exist_ok=True)
    if kind == "one file":
        save_file(TENSORS, directory / "model.safetensors")
    elif kind == "torch":
        torch.save(TENSORS, directory / "pytorch_model.bin")
    else:
        names = list(TENSORS)
        shards = {"a": names[:5], "b": names[5:]}
        for shard, held in shards.items():
            tensors = {name: TENSORS[name] for name in held}
            if kind == "shards":
                save_file(tensors, directory / f"model-{shard}.safetensors")
            else:
                torch.save(tensors, directory / f"pytorch_model-{shard}.bin")
        stem, suffix = ("model", "safetensors") if kind == "shards" else ("pytorch_model", "bin")
        table = {name: f"{stem}-{shard}.{suffix}" for shard, held in shards.items() for name in held}
        (directory / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": table}))
    return open_store(directory)


@pytest.mark.parametrize("kind", ["one file", "shards", "torch", "torch shards"])
def test_only_the_tensors_that_are_asked_for_are_read(kind: str, tmp_path: Path) -> None:
    store = written(kind, tmp_path / "model")
    assert dict(store.shapes) == dict.fromkeys(TENSORS, (SIDE, SIDE))
    found: dict[str, Tensor] = store.read(["layers.3.x.weight", "layers.8.x.weight"])
    assert set(found) == {"layers.3.x.weight", "layers.8.x.weight"}
    if not Path("/proc/self/smaps").exists():
        pytest.skip("this system does not tell which pages of a file are in memory")
    # Headers, and what the system maps around a page that is touched.
    slack = EACH // 4
    assert in_memory(tmp_path) < slack
    assert all(float(found[name].sum()) == float(TENSORS[name].sum()) for name in found)
    assert 2 * EACH <= in_memory(tmp_path) < 2 * EACH + 2 * slack
    found.clear()
    assert in_memory(tmp_path) < slack or "torch" in kind  # a file of torch stays mapped as long as its store


def test_safetensors_are_taken_before_pickles(tmp_path: Path) -> None:
    written("torch", tmp_path)
    save_file({"only": torch.ones(1)}, tmp_path / "model.safetensors")
    assert isinstance(open_store(tmp_path), SafetensorsStore)


@pytest.mark.parametrize("kind", ["one file", "shards", "torch", "torch shards"])
def test_damaged_and_missing_files_are_named(kind: str, tmp_path: Path) -> None:
    store = written(kind, tmp_path)
    (file, *_) = store.files
    file.write_bytes(file.read_bytes()[: EACH // 2])
    with pytest.raises(PicoLMError, match=re.escape(f"'{file}' is damaged")):
        open_store(tmp_path).read(open_store(tmp_path).shapes)
    file.unlink()
    with pytest.raises(PicoLMError, match=re.escape(file.name) if "shards" in kind else "holds no model"):
        open_store(tmp_path).read(open_store(tmp_path).shapes)


def test_an_index_must_tell_the_truth(tmp_path: Path) -> None:
    written("shards", tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    table = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**table, "promised.weight": "model-a.safetensors"}}))
    with pytest.raises(PicoLMError, match=r"lacks the tensor 'promised\.weight' that model\.safetensors\.index\.json"):
        dict(SafetensorsStore(locate_tensors(tmp_path)).shapes)
    for kind in ("torch shards", "shards"):
        outside = tmp_path / kind
        written(kind, outside)
        (index,) = outside.glob("*.index.json")
        index.write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
        with pytest.raises(PicoLMError, match=r"index\.json'"):
            open_store(outside)
