"""Tending towards stability, for any suite: which layers come to what they write at the end, and how early.

    found = converge(["runs/demo"], probe="text.txt")
    found.suites[0].layers                      # a table with a row for each layer

The question and the published recipe are those of Diehl Martinez, Lesci & Buttery 2024 (`recipe`); curves and their
summaries are in `settling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from picolm.analysis.counter import Progress
from picolm.analysis.opening import open_source
from picolm.analysis.pipeline import Analysis, Request, folder_of, sites_of
from picolm.analysis.probe_text import LENGTH, probe_of_text
from picolm.analysis.recipe import Recipe, recipe
from picolm.analysis.settling import PARTS, Association, associations_of, curves_of, early_step, layers_of
from picolm.analysis.source import Source
from picolm.analysis.table import frame_of
from picolm.errors import PicoLMError

ROWS = 32
"""Of a text, of 128 tokens each: 4,096 tokens, so that few models are wider than their probe is long."""


@dataclass(frozen=True, slots=True)
class SuiteConvergence:
    """How one suite converged.

    Attributes:
        name: of its directory.
        path: of it.
        facts: `parameters` (in blocks), `layers`, `width`, `final_step`, `probe`, `tokens` (None: captured) and
            `early_step` (of the published recipe).
        curves: as `settling.curves_of` gives them.
        layers: as `settling.layers_of` gives them.
        associations: of rank and convergence.
        notes: a sentence for each thing that could not be measured.
    """

    name: str
    path: Path
    facts: dict[str, Any]
    curves: pl.DataFrame
    layers: pl.DataFrame
    associations: list[Association]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Convergence:
    """How suites converged, by one recipe.

    Attributes:
        recipe: which one.
        suites: in the order in which they were named.
    """

    recipe: Recipe
    suites: list[SuiteConvergence]

    @property
    def layers(self) -> pl.DataFrame:
        """The layers of all suites, in one table."""
        return pl.concat([_named(one.name, one.layers) for one in self.suites])

    @property
    def curves(self) -> pl.DataFrame:
        """The curves of all suites, in one table; what a suite does not have is null."""
        return pl.concat([_named(one.name, one.curves) for one in self.suites], how="diagonal")

    @property
    def sizes(self) -> pl.DataFrame:
        """A row for each suite and part, by size: how many layers settled, when on the median, and their ranks."""
        rows = [_size(one, own) for one in self.suites for own in one.layers.partition_by("part", maintain_order=True)]
        return pl.DataFrame(rows, infer_schema_length=None).sort("parameters", maintain_order=True)

    @property
    def described(self) -> dict[str, Any]:
        """All but the curves, as plain data."""
        suites = [
            {
                "name": one.name,
                "path": str(one.path),
                **one.facts,
                "layers_table": one.layers.to_dicts(),
                "associations": [asdict(association) for association in one.associations],
                "notes": one.notes,
            }
            for one in self.suites
        ]
        return {"recipe": asdict(self.recipe), "suites": suites, "sizes": self.sizes.to_dicts()}


def converge(
    targets: Sequence[Path | str],
    *,
    probe: Path | str | None = None,
    recipe_name: str = "corrected",
    level: float | None = None,
    steps: str | int | Sequence[int] = "all",
    probe_rows: int = ROWS,
    probe_length: int = LENGTH,
    output: Path | str | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Convergence:
    """Find when each layer of each suite settles; what was measured before is read instead.

    Args:
        targets: as `open_source` takes them.
        probe: a text, or the name of a probe of the runs; None: what was captured is read.
        recipe_name: `corrected` or `published`.
        level: at or above which a similarity must stay; None: the recipe's.
        steps: as `steps.chosen_steps` takes them; compared with the last step of the suite.
        probe_rows: at most so many rows of the text.
        probe_length: positions of each.
        output: where the parts of each suite are kept, `NAME/metrics`; None: where `picolm analyze` keeps them.
        again: whether what is there already is measured again.
        progress: told how far it is.

    Raises:
        PicoLMError: a suite cannot be measured so, two have one name, or a file is damaged.
    """
    chosen = recipe(recipe_name) if level is None else replace(recipe(recipe_name), level=level)
    if not math.isfinite(chosen.level) or not 0 < chosen.level <= 1:
        raise PicoLMError(f"a level of similarity must be above 0 and at most 1, not {chosen.level}")
    sources = [open_source(target) for target in targets]
    _refuse_same_names(sources)
    # All of them before the first is measured: a mistake in the last one would be found hours later.
    prepared = [_prepared(one, chosen, probe, steps, (probe_rows, probe_length), output) for one in sources]
    suites = []
    while prepared:
        # Not kept: once measured, each holds the final model of its suite.
        suites.append(_suite(*prepared.pop(0), chosen, again, progress))
    return Convergence(chosen, suites)


def _prepared(
    source: Source,
    chosen: Recipe,
    probe: Path | str | None,
    steps: str | int | Sequence[int],
    extent: tuple[int, int],
    output: Path | str | None,
) -> tuple[Analysis, dict[str, Any], list[str]]:
    there = sites_of(source, None if probe is None else str(probe))
    sites, notes = _sites(source, there)
    rows, length = extent
    request = Request(
        chosen.metrics(source.geometry), sites, steps, "final", probe, probe_rows=rows, probe_length=length
    )
    folder = folder_of(source, None if output is None else Path(output) / source.path.resolve().name / "metrics")
    analysis = Analysis(source, request, folder)
    shapes = source.snapshot(source.steps[-1]).shapes
    text = Path(probe) if probe is not None else None
    tokens = probe_of_text(text, source, rows=rows, length=length) if text is not None and text.is_file() else None
    facts = {
        "parameters": sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("layers.")),
        "layers": source.geometry.n_layers,
        "width": source.geometry.d_model,
        "tokens": None if tokens is None else int(tokens.real.sum()),
    }
    return analysis, facts, [*source.notes, *notes]


def _sites(source: Source, there: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Patterns of what can be measured, and a note for each thing that cannot."""
    patterns, notes = [], []
    for part, site in PARTS.items():
        pattern = f"layers.*.{site}"
        if pattern in there["activation"]:
            patterns.append(pattern)
            if f"gradient({pattern})" in there["gradient"]:
                patterns.append(f"gradient({pattern})")
            else:
                notes.append(f"{source.path}: no gradients of {part} are known: their rank is left out")
        elif part == "ov":
            raise PicoLMError(
                f"{source.kind} {source.path} has no activations of layers.*.attention.v_proj, which convergence is "
                "measured on: name a text to compute them on, --probe FILE"
            )
        else:
            notes.append(f"{source.path}: no activations of {pattern} were captured: that part is left out")
    return patterns, notes


def _suite(
    analysis: Analysis, facts: dict[str, Any], notes: list[str], chosen: Recipe, again: bool, progress: Progress | None
) -> SuiteConvergence:
    source, sights = analysis.source, analysis.measuring.compared_sights
    assert sights is not None
    final, rank = sights.steps[-1], chosen.rank(source.geometry)
    table = frame_of(analysis.rows(again=again, progress=progress))
    compared = table.filter(pl.col("metric") == chosen.similarity)
    if compared.is_empty():
        raise PicoLMError(
            f"no probe of {source.path} was shown the same rows at several steps: name a text, --probe FILE"
        )
    # A training batch is another one at each step: it is compared with itself alone.
    shown = compared["probe"].value_counts().sort(["count", "probe"], descending=[True, False])
    names = shown["probe"].to_list()
    if len(names) > 1:
        notes = [*notes, f"{source.path}: of the probes {', '.join(names)}, {names[0]} is taken"]
    curves = curves_of(table, names[0])
    earlier = [step for step in compared["step"].unique() if step < final]
    share = chosen.early_share
    early = early_step(earlier, share, final) if share is not None and earlier else None
    layers = layers_of(curves, chosen, rank, final)
    facts = {**facts, "probe": names[0], "final_step": final, "early_step": early, "rank": rank}
    return SuiteConvergence(
        source.path.resolve().name, source.path, facts, curves, layers, associations_of(layers, chosen), notes
    )


def _size(suite: SuiteConvergence, own: pl.DataFrame) -> dict[str, Any]:
    settled = own["settled_step"].fill_null(math.inf).median()
    assert isinstance(settled, float)
    final = suite.facts["final_step"]
    return {
        "suite": suite.name,
        "part": own["part"][0],
        "parameters": suite.facts["parameters"],
        "layers": len(own),
        "settled_layers": int(own["settled_step"].is_not_null().sum()),
        "median_settled_share": settled / final if math.isfinite(settled) and final else None,
        **{
            name: own[name].mean()
            for name in ("mean_shortfall", "weight_rank_first", "weight_rank_last", "gradient_rank_last")
        },
    }


def _named(name: str, table: pl.DataFrame) -> pl.DataFrame:
    return table.select(pl.lit(name).alias("suite"), pl.all())


def _refuse_same_names(sources: Sequence[Source]) -> None:
    names: dict[str, Path] = {}
    for source in sources:
        name = source.path.resolve().name
        if name in names:
            raise PicoLMError(f"{names[name]} and {source.path} have the same name '{name}': analyse them apart")
        names[name] = source.path
