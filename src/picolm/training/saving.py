"""Checkpoints: a Hugging Face directory with its tokenizer and a manifest, whole or not there."""

from __future__ import annotations

from pathlib import Path

from picolm.model.huggingface import SpecialTokens, architecture, save_model
from picolm.model.interface import LanguageModel
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import committed_directory
from picolm.runs.manifest import write_manifest
from picolm.text.tokenizer import Tokenizer
from picolm.training.averaging import WeightAverage

AVERAGE = "ema"
"""Where in a checkpoint the averaged model stands, a directory like the checkpoint's own."""


def save_checkpoint(
    run: RunDirectory, step: int, model: LanguageModel, tokenizer: Tokenizer, average: WeightAverage | None = None
) -> None:
    """Write the model after `step` updates; the directory appears by rename when all its files are on disk.

    Args:
        run: where it stands.
        step: updates made.
        model: the model.
        tokenizer: what it reads and writes text with.
        average: of the model's weights; where it has begun, the averaged model is saved as well.
    """
    with committed_directory(run.checkpoint_path(step)) as directory:
        _save(directory, model, tokenizer)
        if average is not None and average.began:
            (directory / AVERAGE).mkdir()
            with average.in_place():
                _save(directory / AVERAGE, model, tokenizer)
        write_manifest(directory, kind="picolm-checkpoint", step=step, transformers=architecture(model.config))


def _save(directory: Path, model: LanguageModel, tokenizer: Tokenizer) -> None:
    save_model(model, directory, SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id))
    tokenizer.save(directory, model.config.max_length)
