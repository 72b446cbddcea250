"""Files of torch.save: read as torch reads them, tensor by tensor, and nothing in them is ever run."""

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from picolm.analysis.sources.archive import Stored, TorchFile, tensors_in
from picolm.errors import PicoLMError


def read(path: Path) -> dict[str, Tensor]:
    file = TorchFile(path)
    return {name: file.tensor(stored) for name, stored in tensors_in(file.content, path).items()}


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_reads_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = (torch.randn(4, 5, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    torch.save({"x": tensor}, tmp_path / "file.pt")
    assert torch.equal(read(tmp_path / "file.pt")["x"], tensor)


@settings(max_examples=30)
@given(shape=st.lists(st.integers(0, 4), max_size=4), seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_views_of_shared_storages_read_as_they_were(shape: list[int], seed: int, order: random.Random) -> None:
    base = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    turned = base.permute(*order.sample(range(base.dim()), base.dim())) if base.dim() else base
    some = {"base": base, "turned": turned, "part": turned[1:] if base.dim() else base, "again": base}
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"picolm-archive-{os.getpid()}.pt"
    try:
        torch.save(some, path)
        for name, tensor in read(path).items():
            assert tensor.shape == some[name].shape and torch.equal(tensor, some[name])
    finally:
        path.unlink(missing_ok=True)


def test_dictionaries_parameters_and_what_stands_beside_them(tmp_path: Path) -> None:
    """The state of a training run: generators and optimizers are passed over, tensors in the depth are found."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(8, 3)).sum().backward()
    optimizer.step()
    content = {
        "_model": net.state_dict(),
        "parameters": OrderedDict(net.named_parameters()),
        "_optimizer": optimizer.state_dict(),
        "_rng_states": {"numpy": np.random.RandomState(1).get_state(), "python": random.Random(1).getstate()},
        "number": np.float64(3.0),
        "step": 7,
    }
    torch.save(content, tmp_path / "checkpoint.pt")
    file = TorchFile(tmp_path / "checkpoint.pt")
    assert file.content["step"] == 7
    for key, expected in (("_model", net.state_dict()), ("parameters", dict(net.named_parameters()))):
        found = {name: file.tensor(one) for name, one in tensors_in(file.content[key], file.path).items()}
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    moment = file.content["_optimizer"]["state"][0]["exp_avg"]
    assert isinstance(moment, Stored)
    assert torch.equal(file.tensor(moment), optimizer.state_dict()["state"][0]["exp_avg"])


def test_what_is_done_to_a_tensor_stays_in_memory(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(3)}, tmp_path / "file.pt")
    before = (tmp_path / "file.pt").read_bytes()
    read(tmp_path / "file.pt")["x"].add_(1)
    assert (tmp_path / "file.pt").read_bytes() == before and not read(tmp_path / "file.pt")["x"].any()


def with_pickle(path: Path, program: bytes, **storages: bytes) -> Path:
    """A file as torch.save lays it out, with any pickle in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, values in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('s')}", values)
    return path


class Runs:
    """Becomes a call of any function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("where", ["value", "key", "tensor"])
def test_code_is_refused_by_name_and_not_run(where: str, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    attack = Runs(os.system, f"touch {trace}")
    content: Any = {"value": {"x": torch.ones(2), "y": attack}, "key": {(attack,): 1}, "tensor": [attack]}[where]
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(PicoLMError, match=r"'.*file\.pt' asks for posix\.system, which could run code: nothing of it"):
        TorchFile(tmp_path / "file.pt")
    assert not trace.exists()
    # The attack is a real one: the pickle, read plainly, runs it.
    pickle.loads(pickle.dumps(attack))
    assert trace.exists()


@pytest.mark.parametrize(
    "call",
    [
        Runs(eval, "1"),
        Runs(getattr, "x", "upper"),
        Runs(torch.load, "x"),
        Runs(torch.hub.load, "x"),
        Runs(__import__, "os"),
        Runs(io.open, "/dev/null"),
        Runs(type, "X", (), {}),
    ],
    ids=lambda call: call.call[0].__name__,
)
def test_no_function_has_a_meaning_here(call: Runs, tmp_path: Path) -> None:
    with_pickle(tmp_path / "file.pt", pickle.dumps({"x": call}))
    with pytest.raises(PicoLMError, match="could run code"):
        TorchFile(tmp_path / "file.pt")


def test_what_a_pickle_may_name_cannot_be_turned_into_something_else(tmp_path: Path) -> None:
    """The instruction BUILD sets attributes of an object: of those that stand for names here it can set none."""
    for module, name in (("torch._utils", "_rebuild_tensor_v2"), ("torch", "FloatStorage"), ("numpy", "ndarray")):
        for state in (b"}X\x01\x00\x00\x00aK\x01s", b"(N}X\x08\x00\x00\x00__call__K\x01st"):
            program = b"\x80\x02" + f"c{module}\n{name}\n".encode() + state + b"b."
            with_pickle(tmp_path / "file.pt", program)
            with pytest.raises(PicoLMError, match="damaged"):
                TorchFile(tmp_path / "file.pt")
    torch.save({"x": torch.ones(3)}, tmp_path / "plain.pt")
    assert torch.equal(read(tmp_path / "plain.pt")["x"], torch.ones(3))


class Pickles(pickle.Pickler):
    """Pickles tensors as descriptions, with numbers of one's choice."""

    def __init__(self, file: Any, storage: tuple[Any, ...]) -> None:
        super().__init__(file, protocol=2)
        self.storage = storage

    def persistent_id(self, obj: Any) -> Any:
        return self.storage if obj == "the storage" else None


def described(
    path: Path, *, n_stored: Any = 4, offset: Any = 0, shape: Any = (4,), strides: Any = (1,), **s: bytes
) -> Path:
    out = io.BytesIO()
    call = Runs(torch._utils._rebuild_tensor_v2, "the storage", offset, shape, strides, False, OrderedDict())
    Pickles(out, ("storage", torch.FloatStorage, "0", "cpu", n_stored)).dump({"x": call})
    return with_pickle(path, out.getvalue(), **(s or {"s0": torch.arange(4.0).numpy().tobytes()}))


def test_descriptions_that_do_not_fit_their_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    assert read(described(path))["x"].tolist() == [0, 1, 2, 3]
    assert read(described(path, shape=(2, 2), strides=(1, 2)))["x"].tolist() == [[0, 2], [1, 3]]
    wrong: list[dict[str, Any]] = [
        {"offset": 1},
        {"offset": -1},
        {"shape": (5,)},
        {"shape": (2, 3), "strides": (3, 1)},
        {"shape": (2,), "strides": (-1,)},
        {"shape": (2, 2)},
        {"n_stored": 400},
        {"n_stored": "four"},
        {"shape": (10**9, 10**9), "strides": (0, 4)},
        {"s1": b""},
        {"s0": b"short"},
    ]
    for changes in wrong:
        with pytest.raises(PicoLMError, match="damaged"):
            read(described(path, **changes))


def test_damaged_and_old_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"x": torch.randn(1000)}, path)
    whole = path.read_bytes()
    for damage in (b"", whole[:100], whole[:-30], b"PK\x03\x04" + bytes(100), b"not a zip at all"):
        path.write_bytes(damage)
        with pytest.raises(PicoLMError, match=r"file\.pt' is damaged"):
            read(path)
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(PicoLMError, match=r"damaged, or is no file that torch\.save of torch 1\.6"):
        read(path)
    with pytest.raises(PicoLMError, match="there is no file"):
        read(tmp_path / "missing.pt")
    torch.save([torch.ones(2)], path)
    with pytest.raises(PicoLMError, match="does not hold a dictionary of tensors"):
        read(path)


@settings(max_examples=60)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_one_wrong_byte_gives_an_error_or_numbers_never_something_else(at: float, flip: int) -> None:
    out = io.BytesIO()
    torch.save({"x": torch.randn(20, generator=torch.Generator().manual_seed(0)), "y": [1, {"z": None}]}, out)
    data = bytearray(out.getvalue())
    data[int(at * len(data))] ^= flip
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"picolm-flipped-{os.getpid()}.pt"
    try:
        path.write_bytes(data)
        for tensor in read(path).values():
            assert isinstance(tensor, Tensor)
    except PicoLMError:
        pass
    finally:
        path.unlink(missing_ok=True)
