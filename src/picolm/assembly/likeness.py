"""CKA of each captured step with each, for a page: a few sites, capped in steps and rows."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from picolm.analysis.cka_matrix import cka_matrix
from picolm.analysis.source import Source
from picolm.report.insides import Insides, Likeness
from picolm.report.series import number, spread

_MOST_STEPS = 32
_MOST_ROWS = 1024
_MOST_PROBES = 2
_LEAST_ROWS = 4


def likeness(source: Source, insides: Insides, progress: Callable[[str, int, int], None]) -> None:
    """Add the matrices of the first, the middle and the last site of the residual stream, on two probes at most.

    Args:
        source: of it captures are read; those that lack a site are left out of its matrix.
        insides: gets the matrices, and a note where not all is shown.
        progress: is told (what, done, total).

    Raises:
        PicoLMError: a capture is damaged.
    """
    steps = spread(source.capture_steps, _MOST_STEPS)
    if len(steps) < 2:
        return
    probes = [name for name in source.capture(steps[-1]).probes if name.partition(".")[0] != "train"][:_MOST_PROBES]
    wanted = [(probe, site) for probe in probes for site in _sites(source, steps[-1], probe)]
    for place, (probe, site) in enumerate(wanted):
        progress(f"{source.path.name}, CKA of steps", place, len(wanted))
        there, rows = [], []
        for step in steps:
            capture = source.capture(step)
            if probe in capture.probes and site in capture.names("activation", probe):
                there.append(step)
                rows.append(_rows(capture.read("activation", [site], probe)[site], capture.real(probe)))
        if len(there) > 1 and len(rows[0]) >= _LEAST_ROWS and all(len(one) == len(rows[0]) for one in rows):
            values = [[number(value) for value in row] for row in cka_matrix(rows).tolist()]
            insides.likeness.append(Likeness(site, probe, there, values))
    progress(f"{source.path.name}, CKA of steps", len(wanted), len(wanted))
    if wanted and len(steps) < len(source.capture_steps):
        insides.notes.append(f"CKA: {len(steps)} of {len(source.capture_steps)} captured steps are shown.")


def _sites(source: Source, step: int, probe: str) -> list[str]:
    names = [name for name in source.capture(step).names("activation", probe) if name.startswith("residual.")]
    numbered = sorted(int(name.removeprefix("residual.")) for name in names)
    return [f"residual.{place}" for place in spread(numbered, 3)]


def _rows(activation: Tensor, real: Tensor) -> Tensor:
    """The tokens of the text, [n, d]: the same ones at each step."""
    return activation[real][:_MOST_ROWS]
