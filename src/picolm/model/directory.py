"""A model directory outside of runs: the model, its tokenizer, and what the directory they come from says of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from picolm.model.files import read_json
from picolm.model.huggingface import SpecialTokens, architecture, save_model
from picolm.model.interface import LanguageModel
from picolm.runs.durable import write_json
from picolm.runs.manifest import write_manifest
from picolm.text.tokenizer import Tokenizer


def write_model_directory(
    directory: Path, model: LanguageModel, tokenizer: Tokenizer, *, source: Path, is_its_tokenizer: bool, **facts: Any
) -> None:
    """Write `config.json`, weights, the tokenizer's files and, last, the manifest.

    Args:
        directory: exists already.
        model: the model.
        tokenizer: its tokenizer.
        source: the directory that the model comes from.
        is_its_tokenizer: whether the tokenizer is the source's own; then its files are kept as they are.
        **facts: what stands in the manifest besides.
    """
    save_model(model, directory, SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id))
    tokenizer.save(directory, model.config.max_length)
    if is_its_tokenizer:
        _keep_special_ids(directory / "config.json", source / "config.json")
        _keep_tokenizer(directory, source)
    write_manifest(directory, kind="picolm-model", transformers=architecture(model.config), **facts)


def _keep_special_ids(config: Path, source: Path) -> None:
    """Keep the ids that the source names: its texts may begin with another token than they end with."""
    theirs = read_json(source)
    kept = {key: theirs[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if theirs.get(key) is not None}
    config.write_text(json.dumps({**read_json(config), **kept}, indent=2) + "\n", encoding="utf-8")


def _keep_tokenizer(directory: Path, source: Path) -> None:
    """Put the source's own files over ours, without what names code or a class that only transformers 5 has."""
    (directory / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (source / name).is_file():
            settings = read_json(source / name)
            if settings.pop("auto_map", None) or settings.get("tokenizer_class") == "TokenizersBackend":
                settings["tokenizer_class"] = "PreTrainedTokenizerFast"
            write_json(directory / name, settings)
