from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import picolm
from picolm.assembly.ingredients import Ingredients, prepare
from picolm.errors import PicoLMError
from picolm.runs.captures import probe_path
from picolm.training.inspection import Batch
from picolm.training.probes import build_probes

MASKED: dict[str, object] = {"objective": {"kind": "masked", "rate": 0.3}, "model.attention": "bidirectional"}


def ingredients(small_run: dict[str, object], **changes: object) -> Ingredients:
    return prepare(picolm.load_config(None, {**small_run, "capture.probes": {"p": {"sequences": 4}}, **changes}))


def build(found: Ingredients, run: Path) -> Batch:
    (batch,) = build_probes(
        found.config,
        held_out=found.data.split("validation"),
        tokenizer=found.tokenizer,
        formulation=found.formulation,
        run=run,
    ).values()
    return batch


@pytest.mark.parametrize("changes", [{}, MASKED])
def test_a_stored_probe_is_used_as_it_is(small_run: dict[str, object], tmp_path: Path, changes: dict) -> None:
    found = ingredients(small_run, **changes)
    first = build(found, tmp_path)
    path = probe_path(tmp_path, "p")
    before = path.stat()
    second = build(found, tmp_path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert first.view.tensors.keys() == second.view.tensors.keys()
    for name, tensor in first.view.tensors.items():
        assert tensor.equal(second.view.tensors[name]), name
    arrays = load_file(path)
    arrays["tokens"][0, :5] = 7
    save_file(arrays, path)
    (changed,) = build(found, tmp_path).view.tensors["input_ids"][:1, :5].tolist()
    assert changed.count(7) >= (1 if changes else 5)


def test_lengths_count_inputs_not_the_last_target(small_run: dict[str, object], tmp_path: Path) -> None:
    batch = build(ingredients(small_run, **{"capture.probes": {"p": {"sequences": 1000}}}), tmp_path)
    valid = load_file(probe_path(tmp_path, "p"))["valid"]
    assert batch.lengths is not None and valid[-1] < 33
    np.testing.assert_array_equal(batch.lengths[:-1], 32)
    assert batch.lengths[-1] == valid[-1]


def test_a_damaged_probe_is_named(small_run: dict[str, object], tmp_path: Path) -> None:
    found = ingredients(small_run)
    build(found, tmp_path)
    path = probe_path(tmp_path, "p")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PicoLMError, match=r"p\.safetensors is damaged"):
        build(found, tmp_path)
    save_file({"tokens": np.zeros((2, 9), dtype=np.int64)}, path)
    with pytest.raises(PicoLMError, match="does not hold a probe of rows of 32 tokens"):
        build(found, tmp_path)
