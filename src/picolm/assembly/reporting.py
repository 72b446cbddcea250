"""Reports of runs, with what must be computed for them from checkpoints and captures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from picolm.errors import PicoLMError
from picolm.report.comparison import comparison_figures, read_records, write_comparison
from picolm.report.document import require_place
from picolm.report.insides import Insides
from picolm.report.page import run_figures, write_run_report
from picolm.report.paper import write_figures
from picolm.report.record import Record
from picolm.runs.directory import RunDirectory
from picolm.runs.verification import REPORT

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
        page = write_comparison(runs, Path(REPORT) if out is None else out)
        if figures is not None:
            write_figures(comparison_figures(read_records(runs)), figures, progress)
        return page
    if out is not None:
        # Before the work and not after it.
        require_place(out)
    insides = look_inside(runs[0], progress)
    page = write_run_report(runs[0], out, insides)
    if figures is not None:
        write_figures(run_figures(Record.read(runs[0]), insides), figures, progress)
    return page


def look_inside(run: RunDirectory, progress: Progress = lambda *_: None) -> Insides:
    """Compute what a page shows of the representations of a run; empty where it has neither checkpoint nor capture.

    Args:
        run: the run; what of it is damaged is named in the notes and left out.
        progress: is told (what, done, total).
    """
    from picolm.analysis.opening import open_source
    from picolm.assembly.likeness import likeness
    from picolm.assembly.pictures import pictures
    from picolm.assembly.spectra import spectra

    insides = Insides()
    if not run.checkpoints and not (run.path / "captures").is_dir():
        return insides
    try:
        source = open_source(run.path)
    except PicoLMError as error:
        return Insides(notes=[str(error)])
    for look in (likeness, spectra, pictures):
        try:
            look(source, insides, progress)
        except PicoLMError as error:
            insides.notes.append(f"Left out: {error}.")
    return insides
