"""CKA of runs with each other at equal steps, for a page: where both captured the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from picolm.analysis.cka import debiased_cka
from picolm.analysis.source import Capture, Source
from picolm.errors import PicoLMError
from picolm.report.insides import Compared, Kinship
from picolm.report.overlay import pairs
from picolm.report.series import number, spread
from picolm.runs.manifest import read_manifest

_MOST_STEPS = 32
_MOST_ROWS = 1024
_LEAST_ROWS = 4
_MOST_SITES = 3


def kinships(sources: Sequence[Source | None], compared: Compared, progress: Callable[[str, int, int], None]) -> None:
    """Compare runs two by two at the first, the middle and the last site of the residual stream that both have.

    Args:
        sources: the runs, of which captures are read; None: one that cannot be read.
        compared: gets a curve for each pair, probe and site; none of runs that were shown other rows, or captured no
            common step. Of a pair of which a capture is damaged it gets a note.
        progress: is told (what, done, total).
    """
    chosen = pairs(len(sources))
    for done, pair in enumerate(chosen):
        progress("all runs, CKA with each other", done, len(chosen))
        first, second = (sources[run] for run in pair)
        if first is None or second is None:
            continue
        try:
            compared.kinships.extend(_of_pair((first, second), pair))
        except PicoLMError as error:
            compared.of_runs[pair[0]].notes.append(f"Its CKA with another run is left out: {error}.")
    progress("all runs, CKA with each other", len(chosen), len(chosen))


def _of_pair(both: tuple[Source, Source], pair: tuple[int, int]) -> Iterator[Kinship]:
    steps = spread(sorted(set(both[0].capture_steps) & set(both[1].capture_steps)), _MOST_STEPS)
    for probe in _same_probes(both, steps[-1]) if steps else ():
        for site in _common_sites(both, steps[-1], probe):
            values = {step: _cka(both, step, probe, site) for step in steps}
            there = [step for step in steps if values[step] is not None]
            if there:
                yield Kinship(site, probe, pair, there, [values[step] for step in there])


def _same_probes(both: Sequence[Source], step: int) -> list[str]:
    """Probes of which both runs captured the same positions of the same rows."""
    captures = [source.capture(step) for source in both]
    if not _equal(read_manifest(capture.path).get("positions") for capture in captures):
        return []
    # What a name with a dot was shown (`held_out.masked`, `train.loss`) is drawn by each run for itself.
    names = [name for name in captures[0].probes if name in captures[1].probes and "." not in name and name != "train"]
    shown = {name: [source.probe(name) for source in both] for name in names}
    return [name for name in names if _equal(None if one is None else one.digest for one in shown[name])]


def _common_sites(both: Sequence[Source], step: int, probe: str) -> list[str]:
    of_runs = [set(source.capture(step).names("activation", probe)) for source in both]
    common = [name.removeprefix("residual.") for name in of_runs[0] & of_runs[1] if name.startswith("residual.")]
    return [f"residual.{place}" for place in spread(sorted(map(int, common)), _MOST_SITES)]


def _cka(both: Sequence[Source], step: int, probe: str, site: str) -> float | None:
    """Debiased CKA of the tokens of the text; None where a run lacks them at this step."""
    captures = [source.capture(step) for source in both]
    if not all(probe in one.probes and site in one.names("activation", probe) for one in captures):
        return None
    first, second = (_rows(one, probe, site) for one in captures)
    if len(first) != len(second) or len(first) < _LEAST_ROWS:
        return None
    return number(float(debiased_cka(first, second)))


def _rows(capture: Capture, probe: str, site: str) -> Tensor:
    """As in each run's own matrix of steps, [n, d]."""
    return capture.read("activation", [site], probe)[site][capture.real(probe)][:_MOST_ROWS]


def _equal(values: Iterable[object]) -> bool:
    first, second = values
    return bool(first == second)
