"""One model directory as a snapshot: of Hugging Face, an original Pico model, or the live form of a PicoLM model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from picolm.analysis.geometry import Geometry, geometry_of
from picolm.analysis.naming import Slot
from picolm.analysis.source import Snapshot, require_names
from picolm.analysis.sources.architectures import architecture_of, geometry_from, slots_of
from picolm.analysis.sources.foreign import foreign_subject
from picolm.analysis.sources.own import OwnSubject, fill
from picolm.analysis.sources.store import Store, open_store
from picolm.analysis.subject import Subject
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.files import read_json
from picolm.model.huggingface import LIVE, model_config
from picolm.model.pico import MODEL_TYPE, pico_config
from picolm.model.transformer import Transformer
from picolm.runs.digest import sha256_of_file, sha256_of_json
from picolm.runs.manifest import MANIFEST, read_manifest


class StoredSnapshot(Snapshot):
    """The weights of one directory."""

    def __init__(
        self,
        path: Path,
        step: int,
        *,
        geometry: Geometry,
        store: Store,
        slots: Mapping[str, Slot],
        config: Mapping[str, Any],
        load: Callable[[StoredSnapshot], Subject],
    ) -> None:
        """Take what was found out about a directory.

        Args:
            path: the directory.
            step: after which it was written.
            geometry: of the model.
            store: holds the tensors.
            slots: where in the store each canonical tensor stands.
            config: what the model is, as JSON values.
            load: makes the subject.

        Raises:
            PicoLMError: geometry and tensors contradict each other, or a file is damaged.
        """
        self.path, self.step, self.geometry = path, step, geometry
        self.store, self._slots, self.config, self._load = store, slots, config, load
        geometry.check(self.shapes, path)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As `Snapshot.shapes`."""
        stored = self.store.shapes
        return {name: slot.shape(stored[slot.stored]) for name, slot in self._slots.items()}

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """As `Snapshot.read`."""
        slots = {name: self._slots[name] for name in require_names(names, self._slots, self.path, "matrix")}
        stored = self.store.read({slot.stored for slot in slots.values()})
        return {name: slot.cut(stored[slot.stored]) for name, slot in slots.items()}

    @cached_property
    def digest(self) -> str:
        """As `Snapshot.digest`; the hashes of a manifest are taken where there is one."""
        known = read_manifest(self.path)["files"] if (self.path / MANIFEST).is_file() else {}
        hashes = [
            known[file.name]["sha256"] if file.parent == self.path and file.name in known else sha256_of_file(file)
            for file in self.store.files
        ]
        return sha256_of_json([dict(self.config), hashes])

    def subject(self) -> Subject:
        """As `Snapshot.subject`."""
        return self._load(self)


def open_directory(
    path: Path, step: int, *, values: Mapping[str, Any] | None = None, store: Store | None = None
) -> StoredSnapshot:
    """Open a directory with `config.json` and weights, or one with the live form of a PicoLM model.

    Args:
        path: the directory.
        step: after which it was written.
        values: what would stand in `config.json`; None: what does.
        store: where its tensors are; None: in the directory itself.

    Raises:
        PicoLMError: it is none of these, of an unknown architecture, or damaged.
    """
    if (path / LIVE).is_file():
        return _open_live(path, step)
    origin = path / "config.json"
    values = read_json(origin) if values is None else values
    architecture, geometry = architecture_of(values, origin), geometry_from(values, origin)
    store = store or open_store(path)
    return StoredSnapshot(
        path,
        step,
        geometry=geometry,
        store=store,
        slots=slots_of(store.shapes, architecture, geometry, tied=values.get("tie_word_embeddings")),
        config=values,
        load=_load,
    )


def _open_live(path: Path, step: int) -> StoredSnapshot:
    values = read_json(path / LIVE)
    try:
        config = schema.Model.model_validate(values.get("config"))
    except ValidationError:
        raise PicoLMError(f"{path / LIVE} does not say what model it describes") from None
    store = open_store(path)
    slots = {name.removesuffix(".weight"): Slot(name) for name in store.shapes}
    if config.tied:
        slots.setdefault("unembedding", slots["embedding"])
    return StoredSnapshot(
        path,
        step,
        geometry=geometry_of(config, "picolm"),
        store=store,
        slots=slots,
        config=values,
        load=_refuse_live,
    )


def _refuse_live(snapshot: StoredSnapshot) -> Subject:
    raise PicoLMError(
        f"{snapshot.path} holds a model that its run's interventions build: its matrices can be read, its activations "
        "and gradients only where the run captured them"
    )


def _load(snapshot: StoredSnapshot) -> Subject:
    config = _our_config(snapshot.config, snapshot.path / "config.json")
    if config is not None:
        with torch.device("meta"):
            model = Transformer(config)
        fill(model, snapshot.read(name.removesuffix(".weight") for name in model.state_dict()))
        return OwnSubject(model.eval(), snapshot.geometry)
    architecture = architecture_of(snapshot.config, snapshot.path)
    return foreign_subject(snapshot.path, snapshot.config, architecture, snapshot.geometry, snapshot.store)


def _our_config(values: Mapping[str, Any], origin: Path) -> schema.Model | None:
    """The configuration of our Transformer that computes a model; None where there is no such one."""
    if values["model_type"] == MODEL_TYPE:
        return pico_config(values, origin=origin)
    try:
        return model_config(values, origin=origin)
    # Biases, scaled rotations and the like: transformers has them.
    except PicoLMError:
        return None
