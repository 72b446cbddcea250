"""Files that `torch.save` wrote, read without running anything that they name.

Such a file is a ZIP of raw storages and of one pickle that says which tensors they are. A pickle is a program: here it
may build dictionaries, lists, numbers and texts, and describe tensors; what it asks for besides is refused by name. It
never reaches a function of torch or of anyone else. Tensors are then views of the memory-mapped file.
"""

from __future__ import annotations

import math
import mmap
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picolm.errors import PicoLMError

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Of the state of generators and optimizers, which is passed over: it becomes something that does nothing.
_INERT = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}
_LOCAL_HEADER = 30
"""Bytes of a ZIP entry's own header before its name."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that a file describes."""

    key: str
    """Of its storage within the file."""
    dtype: torch.dtype
    n_stored: int
    """Entries of the storage."""
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """One file of `torch.save`, in the format since torch 1.6."""

    def __init__(self, path: Path) -> None:
        """Read what it describes, but no tensor.

        Raises:
            PicoLMError: it is missing or damaged, of an older format, or asks for code.
        """
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._entries = {entry.filename: entry for entry in archive.infolist()}
                (program,) = (name for name in self._entries if name.endswith("/data.pkl"))
                self._root = program.removesuffix("data.pkl")
                if self._root + "byteorder" in self._entries and archive.read(self._root + "byteorder") != b"little":
                    raise PicoLMError(f"'{path}' was written on a big-endian machine, which is not read")
                self.content: Any = _Reader(archive.read(program), path).load()
        except FileNotFoundError:
            raise PicoLMError(f"there is no file '{path}'") from None
        except PicoLMError:
            raise
        # A damaged pickle can fail in as many ways as there are opcodes.
        except Exception as error:
            raise PicoLMError(
                f"'{path}' is damaged, or is no file that torch.save of torch 1.6 or newer wrote: {error}"
            ) from error

    def tensor(self, stored: Stored) -> Tensor:
        """A tensor of this file, memory-mapped; what is done to it stays in memory.

        Raises:
            PicoLMError: the file is too short for it.
        """
        if not math.prod(stored.shape):
            return torch.empty(stored.shape, dtype=stored.dtype)
        entry = self._entries.get(f"{self._root}data/{stored.key}")
        last = stored.offset + sum((size - 1) * step for size, step in zip(stored.shape, stored.strides, strict=True))
        n_bytes = stored.n_stored * stored.dtype.itemsize
        if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.file_size != n_bytes:
            raise PicoLMError(f"'{self.path}' is damaged: it lacks the values of a tensor")
        if last >= stored.n_stored:
            raise PicoLMError(f"'{self.path}' is damaged: a tensor reaches beyond its values")
        mapped, header = self._mapped, entry.header_offset
        lengths = mapped[header + 26 : header + _LOCAL_HEADER]
        start = header + _LOCAL_HEADER + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if start + n_bytes > len(mapped):
            raise PicoLMError(f"'{self.path}' is damaged: it is too short for its tensors")
        values = torch.frombuffer(mapped, dtype=stored.dtype, count=stored.n_stored, offset=start)
        return values.as_strided(stored.shape, stored.strides, stored.offset)

    @cached_property
    def _mapped(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def tensors_in(content: Any, path: Path) -> dict[str, Stored]:
    """The tensors of a dictionary that a file describes.

    Raises:
        PicoLMError: it is no dictionary of tensors by name.
    """
    if not isinstance(content, Mapping):
        raise PicoLMError(f"'{path}' does not hold a dictionary of tensors")
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Stored)}


class _Inert:
    """Stands for an object that is of no interest, whatever it was made from."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take a state and forget it."""


class _Describe:
    """Stands for torch's function that makes a tensor; an instance without attributes, so that nothing can be set."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any
    ) -> Stored:
        key, dtype, n_stored = storage
        numbers = (n_stored, offset, *shape, *strides)
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor of impossible shape")
        return Stored(key, dtype, n_stored, offset, tuple(shape), tuple(strides))


class _First:
    """Stands for torch's function that makes a parameter of a tensor."""

    __slots__ = ()

    def __call__(self, first: Any, *rest: Any) -> Any:
        return first


class _Reader(pickle.Unpickler):
    """Runs a pickle in which no name means anything but what stands here."""

    def __init__(self, program: bytes, path: Path) -> None:
        super().__init__(BytesIO(program))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle means."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Describe()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _First()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in _INERT:
            return _Inert
        raise PicoLMError(
            f"'{self._path}' asks for {module}.{name}, which could run code: nothing of it was run, and it is not read"
        )

    def persistent_load(self, pid: Any) -> Any:
        """What stands for a storage: its key, type and length."""
        kind, dtype, key, _, n_stored = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return key, dtype, n_stored
