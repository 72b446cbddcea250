"""Singular values of a few matrices at a few checkpoints, for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from torch import Tensor

from picolm.analysis.reading import read_matrices
from picolm.analysis.sites import matrix_sites
from picolm.analysis.source import Source
from picolm.analysis.spectrum import spectrum
from picolm.report.insides import Insides, Spectra
from picolm.report.series import number, spread

_MOST_STEPS = 8
_MOST_WORK = 2_000_000_000
"""Of m n min(m, n) of one matrix: some two seconds on two cores."""
_KINDS = ("attention.o_proj", "mlp.down_proj")


def spectra(
    source: Source, insides: Insides, progress: Callable[[str, int, int], None], *, shared: Sequence[int] = ()
) -> None:
    """Add the spectra of what attention and feed-forward layers write, of the first, the middle and the last layer.

    Args:
        source: of it these matrices alone are read.
        insides: gets the spectra, and a note where not all is shown.
        progress: is told (what, done, total).
        shared: steps that other runs of the page have too, of which those are taken that the source has, and its last;
            empty: steps spread over all of its own.

    Raises:
        PicoLMError: a checkpoint is damaged.
    """
    steps = _steps(source.steps, shared)
    if not steps:
        return
    snapshot = source.snapshot(steps[-1])
    there = matrix_sites(snapshot.shapes, snapshot.geometry)
    layers = spread(range(snapshot.geometry.n_layers), 3)
    asked = [f"layers.{layer}.{kind}" for kind in _KINDS for layer in layers]
    names = [name for name in asked if name in there]
    small = [name for name in names if prod(snapshot.shapes[name]) * min(snapshot.shapes[name]) <= _MOST_WORK]
    found: dict[str, list[list[float | None]]] = {name: [] for name in small}
    for place, step in enumerate(steps if small else []):
        progress(f"{source.path.name}, spectra", place, len(steps))
        for name, matrix in read_matrices(source, [there[name] for name in small], step).items():
            assert isinstance(matrix, Tensor), "these sites are stored as they are"
            found[name].append([number(value) for value in spectrum(matrix).values.tolist()])
    progress(f"{source.path.name}, spectra", len(steps), len(steps))
    insides.spectra.extend(Spectra(name, steps, values) for name, values in found.items())
    if small and len(steps) < len(source.steps):
        insides.notes.append(f"Spectra: {len(steps)} of {len(source.steps)} checkpoints are shown.")
    if len(small) < len(names):
        left = ", ".join(name for name in names if name not in small)
        insides.notes.append(
            f"Spectra of {left} are left out: these matrices are too large to be decomposed for a page."
        )


def _steps(there: Sequence[int], shared: Sequence[int]) -> list[int]:
    # Chosen among those of all runs, so that each run shows the same ones.
    chosen = set(spread(shared, _MOST_STEPS - 1))
    return sorted({*chosen.intersection(there), there[-1]}) if chosen and there else spread(there, _MOST_STEPS)
