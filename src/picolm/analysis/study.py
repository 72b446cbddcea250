"""A study of stability: which models are of which size, what they are shown, and what of them is measured.

    study: 1
    models:
      small: experiments/stability/runs/w32.seed*
      large: [runs/large-1, runs/large-2]
    probe: probe.txt

Paths are from where the command runs; a model is whatever `open_source` opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, ValidationError

from picolm.analysis.corrections import MeasuredModel, layers_by_rung, links_of, metrics_of, sizes_of
from picolm.analysis.counter import Progress
from picolm.analysis.opening import open_source
from picolm.analysis.probe_text import LENGTH
from picolm.analysis.settling import PARTS
from picolm.analysis.source import Source
from picolm.analysis.table import measure
from picolm.analysis.tending import ROWS
from picolm.config.loading import explain
from picolm.config.section import Positive, Section, Strings
from picolm.config.yaml12 import parse_yaml
from picolm.errors import PicoLMError

_SITES = [f"layers.*.{site}" for site in PARTS.values()]


class Study(Section):
    """Models by size, and what they are shown."""

    study: Literal[1] = Field(description="the format: 1")
    models: dict[str, Strings] = Field(
        description="by size: paths or globs of models that differ in seeds", min_length=1
    )
    probe: str = Field(description="a text that no model has seen, all tokens of which are measured")
    last_token: str | None = Field(
        "last_token", description="a captured probe of last tokens, as published; null: none"
    )
    steps: str = Field("all", description="which checkpoints: all, log:20, 100,200")
    probe_rows: Positive = Field(ROWS, description="at most so many rows of the text")
    probe_length: Positive = Field(LENGTH, description="positions of each row")


@dataclass(frozen=True, slots=True)
class Studied:
    """What a study found.

    Attributes:
        study: what was asked.
        layers: as `corrections.layers_by_rung` gives them.
        links: as `corrections.links_of`.
        sizes: as `corrections.sizes_of`, of `no_threshold`: `earliness` is less the mean shortfall.
        notes: a sentence for each thing that is not there.
    """

    study: Study
    layers: pl.DataFrame
    links: pl.DataFrame
    sizes: pl.DataFrame
    notes: list[str]


def read_study(path: Path) -> Study:
    """Read the file of a study.

    Raises:
        PicoLMError: there is no such file, or it is none of a study.
    """
    try:
        values: Any = parse_yaml(path.read_text(encoding="utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PicoLMError(f"cannot read the study '{path}': {error}") from None
    if not isinstance(values, dict) or "study" not in values:
        raise PicoLMError(f"{path} is no study: it does not say `study: 1`")
    listed = values.get("models")
    if isinstance(listed, dict):
        one_each = {
            size: (paths,) if isinstance(paths, str) else tuple(paths) if isinstance(paths, list) else paths
            for size, paths in listed.items()
        }
        values = {**values, "models": one_each}
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise PicoLMError(f"{path}: {explain(error, Study)}") from None


def carry_out(study: Study, *, output: Path | None = None, progress: Progress | None = None) -> Studied:
    """Measure all models of a study that are not measured yet, and set convergence beside rank on every rung.

    Args:
        study: what is asked.
        output: where metrics are kept, `NAME/metrics`; None: where `picolm analyze` keeps them.
        progress: told how far it is.

    Raises:
        PicoLMError: a model is not there or cannot be measured so.
    """
    # All of them before the first is measured: a mistake in the last one would be found hours later.
    sources = [(size, open_source(path)) for size, paths in study.models.items() for path in _found(size, paths)]
    notes: list[str] = []
    models = [_measured(study, size, source, notes, output, progress) for size, source in sources]
    layers = layers_by_rung(models)
    return Studied(study, layers, links_of(layers), sizes_of(layers), notes)


def _found(size: str, patterns: Sequence[str]) -> list[Path]:
    found = [path for pattern in patterns for path in _matching(Path(pattern))]
    if not found:
        raise PicoLMError(f"there is no model of size '{size}' at {', '.join(patterns)}")
    return found


def _matching(pattern: Path) -> list[Path]:
    return sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def _measured(
    study: Study, size: str, source: Source, notes: list[str], output: Path | None, progress: Progress | None
) -> MeasuredModel:
    wanted = metrics_of(source.geometry.head_dim)
    place = None if output is None else output / source.path.resolve().name / "metrics"
    gradients = [f"gradient({site})" for site in _SITES]
    tables = [
        measure(
            source.path,
            metrics=wanted["all"],
            sites=[*_SITES, *gradients],
            steps=study.steps,
            probe=study.probe,
            probe_rows=study.probe_rows,
            probe_length=study.probe_length,
            output=place,
            progress=progress,
        )
    ]
    last = study.last_token
    if last is not None:
        try:
            tables.append(measure(source.path, metrics=wanted["last"], sites=_SITES, output=place, progress=progress))
        except PicoLMError as error:
            notes.append(
                f"{source.path}: nothing of last tokens, so without the rungs of the published recipe: {error}"
            )
            last = None
    text = Path(study.probe).name if Path(study.probe).is_file() else study.probe
    table = pl.concat(tables).unique(["step", "metric", "site", "layer", "head", "probe"], maintain_order=True)
    if last is not None and last not in table["probe"].unique():
        notes.append(f"{source.path}: no probe '{last}' was captured, so without the rungs of the published recipe")
        last = None
    final = int(table.filter(pl.col("probe") == text)["step"].to_numpy().max())
    return MeasuredModel(size, source.path.name, table, source.geometry.head_dim, final, text, last)
