"""From a path to its source: which kind of run, suite or model stands there."""

from __future__ import annotations

from pathlib import Path

from picolm.analysis.source import Source
from picolm.analysis.sources.pico_run import PicoRunSource
from picolm.analysis.sources.run import RunSource
from picolm.analysis.sources.suite import SuiteSource, find_revisions, is_model, step_in
from picolm.errors import PicoLMError, nearest
from picolm.runs.directory import RUN_FILE, RunDirectory


def open_source(target: Path | str) -> Source:
    """Find out what stands at a path, and open it; nothing that is read can run code.

    Args:
        target: a PicoLM run or one of its checkpoints; a run of the original pico-train; a folder of Hugging Face
            revisions named by step, or a model's folder in a cache of the Hub; or one model directory.

    Raises:
        PicoLMError: there is nothing of the kind, or it is damaged.
    """
    path = Path(target)
    if not path.is_dir():
        beside = [item.name for item in path.parent.iterdir() if item.is_dir()] if path.parent.is_dir() else []
        raise PicoLMError(f"there is no directory '{path}'{nearest(path.name, beside)}")
    if (path / RUN_FILE).is_file():
        return RunSource(path)
    if is_model(path):
        return _model(path)
    if (path / "checkpoints").is_dir() and any((path / "checkpoints").glob("step_*")):
        return PicoRunSource(path)
    revisions, notes = find_revisions(path)
    if revisions:
        return SuiteSource(path, "suite of revisions", revisions, notes)
    reason = f" ({notes[0]})" if notes else ""
    raise PicoLMError(
        f"'{path}' is no run (it has no {RUN_FILE}), no original Pico run (no checkpoints/step_N), no model (no "
        f"config.json) and no suite of models (no folders such as step1000 with them){reason}"
    )


def _model(path: Path) -> Source:
    """One model: a checkpoint of a run, or any other."""
    home = path.resolve().parent.parent
    if (home / RUN_FILE).is_file():
        steps = [item.step for item in RunDirectory.open(home).checkpoints if item.path.name == path.resolve().name]
        if steps:
            return RunSource(home, only=steps[0])
    return SuiteSource(path, "model", {step_in(path.resolve().name) or 0: path})
