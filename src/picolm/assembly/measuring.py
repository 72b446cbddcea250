"""What a plan asks of every run that has come to its end is measured, as `picolm analyze` would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picolm.analysis.metric import metric
from picolm.analysis.opening import open_source
from picolm.analysis.pipeline import Analysis, Request, folder_of
from picolm.analysis.updates import parse_delta
from picolm.evaluation.progress import Progress
from picolm.experiments.asked import Asked


def check_asked(asked: Sequence[Asked]) -> None:
    """Look at names before anything runs; sites are those of a model, and show when there is one.

    Raises:
        PicoLMError: there is no such metric, or a moment of an update is none.
    """
    for one in asked:
        for name in one.metrics:
            metric(name)
        for site in one.sites:
            parse_delta(site)


def measure_run(path: Path, asked: Sequence[Asked], progress: Progress | None = None) -> None:
    """Measure a run that has ended; what was measured before is not measured again.

    Args:
        path: the run.
        asked: what of it.
        progress: told how far it is.

    Raises:
        PicoLMError: the run has no such site, or nothing that a metric needs.
    """
    for one in asked:
        source = open_source(path)
        request = Request(
            one.metrics,
            one.sites,
            one.steps,
            one.against,
            one.probe,
            probe_rows=one.probe_rows,
            probe_length=one.probe_length,
        )
        Analysis(source, request, folder_of(source, None)).rows(progress=progress)
