"""The fixed batches on which a run is looked at: made once, stored in the run, and read from there ever after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from picolm.config import schema
from picolm.data.probe import ProbeRows, held_out_rows, source_rows
from picolm.data.split import Split
from picolm.errors import PicoLMError, nearest
from picolm.runs.captures import probe_path
from picolm.runs.durable import make_parents, write_bytes
from picolm.seams import Formulation, Sequences
from picolm.text.sources import expand
from picolm.text.tokenizer import Tokenizer
from picolm.training.inspection import Batch, by_view

PROBE = "probe:"
"""What the stream of a probe's rows begins with, before its name."""

_NEEDED = ("tokens", "valid", "documents")


def build_probes(
    config: schema.Config,
    *,
    held_out: Split,
    tokenizer: Tokenizer,
    formulation: Formulation,
    run: Path,
    committed: Callable[[Path], None] = lambda path: None,
) -> dict[str, Batch]:
    """Make the probes of a run by name, or load those that it holds already.

    Args:
        config: of the run.
        held_out: the split of held-out documents, which may be empty.
        tokenizer: of the run.
        formulation: what is minimised.
        run: its directory.
        committed: told the path of each probe that was written.

    Raises:
        PicoLMError: a probe needs held-out documents and there are none, a source cannot be read, or what is stored is
            damaged.
    """
    probes: dict[str, Batch] = {}
    for name, probe in config.capture.probes.items():
        path = probe_path(run, name)
        if path.exists():
            rows = load_rows(path, config.data.sequence_length)
        else:
            rows = _draw(name, probe, config, held_out, tokenizer)
            make_parents(path)
            write_bytes(path, save(dict(rows.arrays)))
            committed(path)
        probes |= batches_of(name, rows, formulation)
    return probes


def check_probes(config: schema.Config, held_out: Split) -> None:
    """Refuse probes for which there is no text, before the run begins.

    Raises:
        PicoLMError: a probe needs held-out documents, or those of a domain, that there are not, or a source is missing.
    """
    if config.capture.is_wanted:
        for name, probe in config.capture.probes.items():
            _check(name, probe, held_out)


def batches_of(name: str, rows: ProbeRows, formulation: Formulation) -> dict[str, Batch]:
    """Turn rows into a view. What a view draws (masks) is keyed by the probe's name, so it is the same in every run."""
    sequences = Sequences(
        tokens=rows.tokens,
        valid=rows.valid,
        ids=np.arange(len(rows.tokens), dtype=np.int64),
        stream=f"{PROBE}{name}",
        step=0,
        documents=rows.documents,
        tags=rows.tags,
    )
    # The last token of a full row is predicted only; it is no input.
    lengths = np.minimum(rows.valid, rows.tokens.shape[1] - 1)
    return by_view(name, formulation.views(sequences, measure=True), lengths)


def load_rows(path: Path, length: int) -> ProbeRows:
    """Read the stored rows of a probe.

    Args:
        path: `captures/probes/NAME.safetensors`.
        length: positions of a row, T.

    Raises:
        PicoLMError: the file is damaged, or holds rows of another length.
    """
    try:
        arrays: Mapping[str, np.ndarray] = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise PicoLMError(f"{path} is damaged: {error}; remove it, and it is drawn again") from error
    shape = arrays["tokens"].shape if set(_NEEDED) <= arrays.keys() else None
    if shape is None or len(shape) != 2 or shape[1] != length + 1 or len(arrays["valid"]) != shape[0]:
        raise PicoLMError(f"{path} does not hold a probe of rows of {length} tokens; remove it, and it is drawn again")
    return ProbeRows(arrays["tokens"], arrays["valid"], arrays["documents"], arrays.get("tags"))


def _check(name: str, probe: schema.Probe, held_out: Split) -> None:
    if probe.sources:
        expand(probe.sources)
    elif not held_out.n_documents:
        raise PicoLMError(
            f"capture.probes.{name} looks at held-out documents, but the run holds out none: set "
            f"data.validation_fraction or data.validation_sources, or name capture.probes.{name}.sources"
        )
    elif probe.domain is not None and probe.domain not in held_out.domains:
        hint = nearest(probe.domain, held_out.domains)
        raise PicoLMError(f"capture.probes.{name}.domain: the run holds out no domain '{probe.domain}'{hint}")


def _draw(name: str, probe: schema.Probe, config: schema.Config, held_out: Split, tokenizer: Tokenizer) -> ProbeRows:
    _check(name, probe, held_out)
    if probe.sources:
        return source_rows(config.data, tokenizer, probe, pad_id=held_out.pad_id, name=name)
    return held_out_rows(held_out, config.data.sequence_length, probe.sequences, probe.domain)
