"""Probes from a text of the user's, in the tokens of the suite that is looked at."""

from __future__ import annotations

from pathlib import Path

import torch

from picolm.analysis.probe import Probe
from picolm.analysis.source import Source
from picolm.errors import PicoLMError
from picolm.text.tokenizer import Tokenizer

ROWS, LENGTH = 16, 128
"""How much of a text a probe takes where nothing else is said."""
_CHARACTERS = 32
"""Read for each token: more than any tokenizer joins on average, so that a corpus is not read whole."""


def probe_of_text(path: Path, source: Source, *, rows: int = ROWS, length: int = LENGTH) -> Probe:
    """Cut the beginning of a text into rows of equal length.

    Args:
        path: a UTF-8 text.
        source: whose tokenizer reads it, and whose kind of attention says whether positions predict the next token.
        rows: at most so many.
        length: positions of each; a text that is shorter gives one row, a remainder none.

    Raises:
        PicoLMError: the text cannot be read or holds no two tokens, or the source has no tokenizer.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(max(rows, 0) * (max(length, 0) + 1) * _CHARACTERS)
    except OSError as error:
        raise PicoLMError(f"cannot read the probe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PicoLMError(f"the probe {path} is no UTF-8 text: {error}") from error
    if source.tokenizer is None:
        raise PicoLMError(f"{source.kind} {source.path} has no tokenizer.json to read the probe {path} with")
    if rows < 1 or length < 2:
        raise PicoLMError(f"a probe needs a row and two positions at least, not {rows} of {length}")
    ids = Tokenizer.load(source.tokenizer).encode(text)
    if len(ids) < 3:
        raise PicoLMError(f"the probe {path} has {len(ids)} tokens: two and one to predict are the least")
    width = min(length + 1, len(ids))
    count = min(rows, len(ids) // width)
    tokens = torch.from_numpy(ids[: count * width].copy()).view(count, width)
    return Probe.causal(tokens) if source.geometry.causal else Probe(tokens[:, :-1].contiguous())
