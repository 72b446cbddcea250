"""Reports of runs, with what must be computed for them from checkpoints and captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from picolm.errors import PicoLMError
from picolm.report.comparison import comparison_figures, read_records, write_comparison
from picolm.report.document import require_place
from picolm.report.insides import Compared, Insides
from picolm.report.page import run_figures, write_run_report
from picolm.report.paper import write_figures
from picolm.report.record import Record
from picolm.runs.directory import RunDirectory
from picolm.runs.verification import REPORT

if TYPE_CHECKING:
    from picolm.analysis.source import Source

Progress = Callable[[str, int, int], None]


def report(
    targets: Sequence[Path],
    *,
    out: Path | None = None,
    figures: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Path:
    """Write the page of a run, or one page about several, and figures for papers where they are asked for.

    Args:
        targets: run directories.
        out: the page; by default `report.html` in the run, or in the current folder for several runs.
        figures: a folder for PNG and SVG files; None: none are written.
        progress: is told (what, done, total).

    Returns:
        The page.

    Raises:
        PicoLMError: a run is not there or is damaged, or a file stands in the way or cannot be written.
    """
    runs = [RunDirectory.open(target) for target in targets]
    if len(runs) > 1:
        return _comparison(runs, Path(REPORT) if out is None else out, figures, progress)
    if out is not None:
        # Before the work and not after it.
        require_place(out)
    insides = look_inside(runs[0], progress)
    page = write_run_report(runs[0], out, insides)
    if figures is not None:
        write_figures(run_figures(Record.read(runs[0]), insides), figures, progress)
    return page


def _comparison(runs: Sequence[RunDirectory], out: Path, figures: Path | None, progress: Progress) -> Path:
    # Before the work and not after it.
    require_place(out)
    records = read_records(runs)
    compared = look_inside_each(runs, progress)
    page = write_comparison(runs, out, compared)
    if figures is not None:
        write_figures(comparison_figures(records, compared), figures, progress)
    return page


def look_inside_each(runs: Sequence[RunDirectory], progress: Progress = lambda *_: None) -> Compared:
    """Compute what a page shows of the representations of several runs, each beside the others.

    Args:
        runs: the runs; what of one is damaged is named in its notes and left out.
        progress: is told (what, done, total).
    """
    from picolm.assembly.kinship import kinships

    compared, opened = Compared(), []
    for run in runs:
        compared.of_runs.append(insides := Insides())
        opened.append(_open(run, insides))
    counts = Counter(step for source in opened if source is not None for step in source.steps)
    shared = [step for step, count in sorted(counts.items()) if count > 1]
    for source, insides in zip(opened, compared.of_runs, strict=True):
        if source is not None:
            _look(source, insides, progress, shared)
    kinships(opened, compared, progress)
    return compared


def look_inside(run: RunDirectory, progress: Progress = lambda *_: None) -> Insides:
    """Compute what a page shows of the representations of a run; empty where it has neither checkpoint nor capture.

    Args:
        run: the run; what of it is damaged is named in the notes and left out.
        progress: is told (what, done, total).
    """
    insides = Insides()
    if (source := _open(run, insides)) is not None:
        _look(source, insides, progress)
    return insides


def _open(run: RunDirectory, insides: Insides) -> Source | None:
    from picolm.analysis.opening import open_source

    if not run.checkpoints and not (run.path / "captures").is_dir():
        return None
    try:
        source = open_source(run.path)
    except PicoLMError as error:
        insides.notes.append(str(error))
        return None
    insides.notes.extend(source.notes)
    return source


def _look(source: Source, insides: Insides, progress: Progress, shared: Sequence[int] = ()) -> None:
    from picolm.assembly.likeness import likeness
    from picolm.assembly.pictures import pictures
    from picolm.assembly.spectra import spectra

    for look in (likeness, partial(spectra, shared=shared), pictures):
        try:
            look(source, insides, progress)
        except PicoLMError as error:
            insides.notes.append(f"Left out: {error}.")
