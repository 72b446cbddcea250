"""Where a directory keeps its tensors: safetensors or files of `torch.save`, one or several; read one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from picolm.analysis.sources.archive import Stored, TorchFile, tensors_in
from picolm.errors import PicoLMError
from picolm.model.files import INDEX, WEIGHTS, locate_tensors, opened, read_json

PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


class Store(ABC):
    """Tensors by their stored names."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Those that hold tensors."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of all tensors, from the files' headers."""

    @abstractmethod
    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read these tensors, memory-mapped, each file opened once."""


class SafetensorsStore(Store):
    """`model.safetensors`, or its shards."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        """Take which file holds which tensor (`locate_tensors`)."""
        self._places = places

    @property
    def files(self) -> tuple[Path, ...]:
        """As `Store.files`."""
        return tuple(sorted(set(self._places.values())))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As `Store.shapes`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for file in self.files:
            with opened(file) as weights:
                there = set(weights.keys())
                for name in self._within(file):
                    if name not in there:
                        raise PicoLMError(f"'{file}' lacks the tensor '{name}' that {INDEX} promises")
                    shapes[name] = tuple(weights.get_slice(name).get_shape())
        return shapes

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """As `Store.read`."""
        wanted, found = set(names), dict[str, Tensor]()
        for file in sorted({self._places[name] for name in wanted}):
            with opened(file) as weights:
                found |= {name: weights.get_tensor(name) for name in self._within(file) if name in wanted}
        return found

    def _within(self, file: Path) -> list[str]:
        return [name for name, place in self._places.items() if place == file]


class TorchStore(Store):
    """Files of `torch.save`."""

    def __init__(self, files: Iterable[Path], within: str | None = None) -> None:
        """Read what the files describe.

        Args:
            files: each holds a dictionary of tensors by name.
            within: the key of that dictionary in a larger one; None: it is the whole.

        Raises:
            PicoLMError: a file is missing or damaged, asks for code, or holds no such dictionary.
        """
        self._places: dict[str, tuple[TorchFile, Stored]] = {}
        self._files = tuple(files)
        for path in self._files:
            file = TorchFile(path)
            content = file.content
            if within is not None:
                content = content.get(within) if isinstance(content, Mapping) else None
            self._places |= {name: (file, stored) for name, stored in tensors_in(content, path).items()}

    @property
    def files(self) -> tuple[Path, ...]:
        """As `Store.files`."""
        return self._files

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As `Store.shapes`."""
        return {name: stored.shape for name, (_, stored) in self._places.items()}

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """As `Store.read`."""
        places = {name: self._places[name] for name in names}
        return {name: file.tensor(stored) for name, (file, stored) in places.items()}


def holds_weights(directory: Path) -> bool:
    """Whether `open_store` finds files of weights."""
    return any((directory / name).is_file() for name in (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX))


def open_store(directory: Path) -> Store:
    """Open the weights of a Hugging Face directory; safetensors are taken where both are there.

    Raises:
        PicoLMError: there are none, or a file is damaged or asks for code.
    """
    has_safetensors = (directory / WEIGHTS).is_file() or (directory / INDEX).is_file()
    if not has_safetensors and (directory / PICKLED_INDEX).is_file():
        return TorchStore(_shards(directory / PICKLED_INDEX))
    if not has_safetensors and (directory / PICKLED).is_file():
        return TorchStore([directory / PICKLED])
    return SafetensorsStore(locate_tensors(directory))


def _shards(index: Path) -> list[Path]:
    places: Any = read_json(index).get("weight_map")
    names = sorted(set(places.values())) if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise PicoLMError(f"'{index}' has no table 'weight_map' of tensors in files beside it")
    return [index.parent / name for name in names]
