"""A model made elsewhere becomes a directory of ours: the same function, in float32, with tokenizer and manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from picolm.errors import PicoLMError
from picolm.model.directory import write_model_directory
from picolm.model.files import locate_tensors, read_json
from picolm.model.huggingface import load_model
from picolm.model.pico import MODEL_TYPE, load_pico
from picolm.model.transformer import Transformer
from picolm.runs.digest import sha256_of_file
from picolm.runs.durable import committed_directory
from picolm.text.tokenizer import Tokenizer

_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_model` has made, and what it changed."""

    path: Path
    model_type: str
    """What the source called itself."""
    parameters: int
    notes: tuple[str, ...]
    """A sentence for each thing that is not as it was."""


def import_model(source: Path | str, out: Path | str, *, tokenizer: Path | str | None = None) -> Imported:
    """Turn an original Pico model, or a Llama-like Hugging Face directory, into a directory that PicoLM opens.

    Args:
        source: a directory with `config.json` and safetensors, in one file or several with an index.
        out: the directory to make; it appears whole or not at all.
        tokenizer: a `tokenizer.json`; None: the source's own.

    Returns:
        What was made.

    Raises:
        PicoLMError: the source is another kind of model, incomplete, damaged or pickle; `out` is taken; or the
            tokenizer is missing or too large for the model.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise PicoLMError(f"there is no directory '{source}' to import from")
    values = read_json(source / "config.json")
    is_pico = values.get("model_type") == MODEL_TYPE
    model = load_pico(source) if is_pico else load_model(source)
    notes = ["the rows of queries and keys were reordered to the layout of Llama"] if is_pico else []
    notes += _to_float32(model, source)
    tokens = _tokenizer(source, tokenizer, model)
    with committed_directory(out) as directory:
        write_model_directory(
            directory,
            model,
            tokens,
            source=source,
            is_its_tokenizer=tokenizer is None,
            origin={"model_type": values["model_type"], "sha256": _hashes(source)},
        )
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Imported(out, str(values["model_type"]), n_parameters, tuple(notes))


def _to_float32(model: Transformer, source: Path) -> list[str]:
    found = {parameter.dtype for parameter in model.parameters()}
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found - {torch.float32}))
    if not found <= set(_PRECISIONS):
        raise PicoLMError(f"'{source}' holds weights of type {names}; PicoLM reads float32, bfloat16 and float16")
    model.float()
    return [f"weights were widened from {names} to float32, which is exact"] if names else []


def _tokenizer(source: Path, given: Path | str | None, model: Transformer) -> Tokenizer:
    if given is None and not (source / "tokenizer.json").is_file():
        raise PicoLMError(f"'{source}' has no tokenizer.json: name the model's tokenizer with --tokenizer")
    tokens = Tokenizer.load(source if given is None else given)
    assert model.config.vocab_size is not None
    if tokens.vocab_size > model.config.vocab_size:
        raise PicoLMError(
            f"the tokenizer has {tokens.vocab_size} entries, the model in '{source}' only {model.config.vocab_size} "
            "rows: they do not belong together"
        )
    return tokens


def _hashes(source: Path) -> dict[str, str]:
    files = {source / "config.json", *locate_tensors(source).values()}
    return {file.name: sha256_of_file(file) for file in sorted(files)}
