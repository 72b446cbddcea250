"""Checkpoints: which are made when, how they come onto the disk, and which are superseded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from picolm.config import schema
from picolm.model.huggingface import SpecialTokens, architecture, save_live_weights, save_weights
from picolm.runs.digest import sha256_of_bytes
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import committed_directory, json_bytes, write_json
from picolm.runs.ledger import Ledger
from picolm.runs.log import Mark
from picolm.runs.manifest import MANIFEST, without, write_manifest
from picolm.runs.resumption import discard, set_earlier, settle_earlier
from picolm.text.tokenizer import Tokenizer
from picolm.training.exporting import Exported
from picolm.training.state import STATE, TrainingState
from picolm.training.writer import Writer

AVERAGE = "ema"
"""Where in a checkpoint the averaged model stands, a directory like the checkpoint's own."""
NO_TWIN = "none"
"""What a manifest says of a model that no class of `transformers` opens."""


class Checkpoints:
    """Saves a run at the steps of its schedules, off the training thread, and lets go of superseded resume states.

    A checkpoint always holds the model. One that only the schedule of states asked for goes when newer states have
    taken its place; of one whose model is wanted too, `state/` goes. No other file of a run is ever removed.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: schema.Config,
        tokenizer: Tokenizer,
        *,
        writer: Writer,
        ledger: Ledger,
        warn: Callable[[str], None],
    ) -> None:
        """Prepare to save.

        Args:
            run: where checkpoints stand.
            config: the whole configuration.
            tokenizer: what the model reads and writes text with.
            writer: the thread that writes.
            ledger: takes note of what is complete.
            warn: is told when something had to be put aside.
        """
        self.run, self.config, self.tokenizer = run, config, tokenizer
        self.writer, self.ledger, self.warn = writer, ledger, warn
        self.saved: int | None = None
        """The last step whose whole state was given to the writer."""

    def due(self, done: int) -> bool:
        """Whether anything is to be saved after `done` updates."""
        return self.config.keeps_model(done) or self.wants_state(done)

    def wants_state(self, done: int) -> bool:
        """Whether the whole state after `done` updates is saved; that of the untrained model follows from its seed."""
        return done > 0 and (done == self.config.training.steps or self.config.checkpoints.state.includes(done))

    def save(
        self, state: TrainingState, models: Mapping[str, Exported], marks: Mapping[str, Mark], *, whole: bool
    ) -> None:
        """Hand a state to the writer.

        Args:
            state: training after some updates, on the host.
            models: the model to save, by its folder in the checkpoint: `.`, and `ema` for the averaged one.
            marks: how far the growing files of the run had come.
            whole: whether a run is to resume from it; else only the models are written.
        """
        if whole:
            self.saved = state.step
        self.writer.submit(partial(self._write, state, models, marks, whole))

    def _write(
        self, state: TrainingState, models: Mapping[str, Exported], marks: Mapping[str, Mark], whole: bool
    ) -> None:
        path = self.run.checkpoint_path(state.step)
        if whole and path.exists():
            # A signal came when the model of this very step had been saved, and no state was due.
            set_earlier(path, self.ledger)
        with committed_directory(path) as directory:
            for folder, model in models.items():
                (directory / folder).mkdir(exist_ok=True)
                self._write_model(directory / folder, model)
            if whole:
                (directory / STATE).mkdir()
                state.write(directory / STATE, models["."].parameters)
            write_manifest(
                directory,
                kind="picolm-checkpoint",
                step=state.step,
                transformers=architecture(self.config.model) if models["."].has_twin else NO_TWIN,
                log=marks[self.run.log_path.name].plain(),
            )
        self.ledger.committed(path, marks)
        for sentence in settle_earlier(path):
            self.warn(sentence)
        if whole:
            self._supersede()

    def _write_model(self, directory: Path, model: Exported) -> None:
        tokenizer, config = self.tokenizer, self.config.model
        if model.has_twin:
            special = SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id)
            save_weights(config, model.parameters, directory, special)
        else:
            origin = {"interventions": self.run.identity["interventions"]}
            save_live_weights(config, model.parameters, directory, origin)
        tokenizer.save(directory, config.max_length)

    def _supersede(self) -> None:
        keep = self.config.checkpoints.keep_states
        kept = self.config.checkpoints.state.at
        whole = [found for found in self.run.checkpoints if found.has_state and found.step not in kept]
        for checkpoint in whole[: -keep if keep else 0]:
            if self.config.keeps_model(checkpoint.step):
                manifest = without(checkpoint.path, STATE)
                self.ledger.changing(checkpoint.path, sha256_of_bytes(json_bytes(manifest)))
                write_json(checkpoint.path / MANIFEST, manifest)
                shutil.rmtree(checkpoint.path / STATE)
            else:
                self.ledger.removed(checkpoint.path, "superseded")
                discard(checkpoint.path)
