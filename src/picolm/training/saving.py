"""Checkpoints: a Hugging Face directory with its tokenizer and a manifest, whole or not there."""

from __future__ import annotations

from picolm.model.huggingface import SpecialTokens, architecture, save_model
from picolm.model.interface import LanguageModel
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import committed_directory
from picolm.runs.manifest import write_manifest
from picolm.text.tokenizer import Tokenizer


def save_checkpoint(run: RunDirectory, step: int, model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Write the model after `step` updates; the directory appears by rename when all its files are on disk."""
    special = SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id)
    with committed_directory(run.checkpoint_path(step)) as directory:
        save_model(model, directory, special)
        tokenizer.save(directory, model.config.max_length)
        write_manifest(directory, kind="picolm-checkpoint", step=step, transformers=architecture(model.config))
