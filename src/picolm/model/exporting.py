"""A plain copy of a model as a Hugging Face directory outside of its run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.directory import write_model_directory
from picolm.model.huggingface import load_model
from picolm.runs.durable import committed_directory, write_text
from picolm.text.tokenizer import Tokenizer

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export_directory(source: Path, out: Path, *, dtype: torch.dtype, card: Callable[[schema.Model], str]) -> None:
    """Copy a model directory; the copy appears when it has been read back.

    Args:
        source: a checkpoint or model directory.
        out: the directory to make.
        dtype: precision of the copy's weights.
        card: makes the text of `README.md` from the model's configuration.

    Raises:
        PicoLMError: `source` cannot be read, `out` is taken, or what was written does not read back as it was.
    """
    model, tokenizer = load_model(source).to(dtype), Tokenizer.load(source)
    with committed_directory(out) as directory:
        write_text(directory / "README.md", card(model.config))
        write_model_directory(directory, model, tokenizer, source=source, is_its_tokenizer=True)
        again = load_model(directory).state_dict()
        same = all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
        if not same or Tokenizer.load(directory).fingerprint != tokenizer.fingerprint:
            raise PicoLMError(f"what was written to {out} does not read back as it was: check the disk")
