"""Files of a Hugging Face directory: JSON, and tensors in one safetensors file or several. Pickle is never read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from picolm.errors import PicoLMError, nearest

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PicoLMError: it is not there, or is not a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PicoLMError(f"'{path.parent}' holds no model: it has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PicoLMError(f"cannot read '{path}': {error}") from None
    if not isinstance(values, dict):
        raise PicoLMError(f"'{path}' does not hold a JSON object")
    return values


def locate_tensors(directory: Path) -> dict[str, Path]:
    """Find out which file of a directory holds which tensor.

    Raises:
        PicoLMError: there are no safetensors, or an index names what is not there.
    """
    if (directory / WEIGHTS).is_file():
        with opened(directory / WEIGHTS) as weights:
            return dict.fromkeys(weights.keys(), directory / WEIGHTS)
    if not (directory / INDEX).is_file():
        pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
        if pickles:
            raise PicoLMError(
                f"'{directory}' has its weights as pickle ({pickles[0]}), which can run code when it is opened: "
                f"convert them to {WEIGHTS} with save_pretrained() of transformers, where you trust them"
            )
        raise PicoLMError(f"'{directory}' holds no model: it has no {WEIGHTS}")
    places = read_json(directory / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise PicoLMError(f"'{directory / INDEX}' has no table 'weight_map' of tensors")
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise PicoLMError(f"'{directory / INDEX}' names {name!r}, which is no safetensors file beside it")
    return {tensor: directory / name for tensor, name in places.items()}


def read_tensors(
    directory: Path, places: Mapping[str, Path], shapes: Mapping[str, torch.Size], *, ignored: frozenset[str]
) -> dict[str, Tensor]:
    """Read tensors, which must be exactly those that are expected.

    Args:
        directory: what errors call the source.
        places: which file holds which tensor (`locate_tensors`).
        shapes: the tensors that there must be.
        ignored: tensors that may be there besides.

    Raises:
        PicoLMError: a tensor is missing, too many, or of another shape; a file is damaged or missing.
    """
    surplus = sorted(places.keys() - shapes.keys() - ignored)
    missing = sorted(shapes.keys() - places.keys())
    if missing:
        raise PicoLMError(f"'{directory}' lacks the tensor '{missing[0]}'{nearest(missing[0], surplus)}")
    if surplus:
        raise PicoLMError(f"'{directory}' holds a tensor '{surplus[0]}' that the model has no place for")
    state: dict[str, Tensor] = {}
    for file in sorted({places[name] for name in shapes}):
        with opened(file) as weights:
            state |= {name: weights.get_tensor(name) for name in shapes if places[name] == file}
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise PicoLMError(
                f"'{directory}': tensor '{name}' has shape {list(state[name].shape)}, config.json says {list(shape)}"
            )
    return state


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file of contiguous tensors on the CPU; whoever may read other new files may read it."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata={"format": "pt"})
    # safetensors lets only the owner read what it writes; colleagues should see a run's weights as they see its log.
    path.chmod(mode)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file whole, to the CPU.

    Raises:
        PicoLMError: it is missing, damaged or no safetensors file.
    """
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file.

    Raises:
        PicoLMError: it is missing, damaged or no safetensors file; also while it is read.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as weights:
            yield weights
    except FileNotFoundError:
        raise PicoLMError(f"'{path.parent}' is not complete: it has no {path.name}") from None
    except (OSError, SafetensorError) as error:
        raise PicoLMError(f"'{path}' is damaged or not a safetensors file: {error}") from None
