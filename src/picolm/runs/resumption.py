"""Where a run that ended, however it ended, can go on; and making its directory ready for that."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_bytes
from picolm.runs.directory import RUN_FILE, Checkpoint, RunDirectory
from picolm.runs.durable import discard_partials, put_aside
from picolm.runs.ledger import LEDGER, Holdings, Ledger, read_ledger, seal_of
from picolm.runs.log import LogWriter, Mark, cut_log
from picolm.runs.manifest import read_manifest, verify

EMPTY = Mark(0, sha256_of_bytes(b""))
"""The mark of a log without lines."""
STEP_FOLDERS = ("checkpoints", "captures")
"""Where in a run the directories of single steps stand."""
REMOVING = ".removing"
"""How the name of a hidden directory ends that is being removed."""
EARLIER = ".earlier"
"""How the name of a directory ends that a resumed run will make again."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        checkpoint: what it goes on from; None: the beginning.
        damaged: newer checkpoints that cannot be used.
        warnings: one sentence for each damage that was seen.
    """

    checkpoint: Checkpoint | None
    damaged: tuple[Checkpoint, ...] = ()
    warnings: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Updates made by then."""
        return 0 if self.checkpoint is None else self.checkpoint.step

    @property
    def log(self) -> Mark:
        """How far the log had come."""
        if self.checkpoint is None:
            return EMPTY
        try:
            return Mark.of(self.checkpoint.manifest["log"])
        except (KeyError, TypeError, ValueError):
            raise PicoLMError(f"the manifest of {self.checkpoint.path} does not say how far the log had come") from None


def find_resume_point(run: RunDirectory) -> ResumePoint:
    """Find the newest whole checkpoint with a state; every byte of those that are looked at is read.

    Raises:
        PicoLMError: there were checkpoints with a state, and none of them is whole.
    """
    holdings = read_ledger(run.path)
    warnings, damaged = list(holdings.faults), []
    for checkpoint in reversed(run.candidates()):
        damage = checkpoint_damage(run, checkpoint, holdings)
        if damage:
            warnings += damage
            damaged.append(checkpoint)
        elif checkpoint.has_state:
            return ResumePoint(checkpoint, tuple(damaged), warnings)
    lost = [f"{run.path / path} is missing" for path in _missing(run, holdings)]
    if damaged or lost:
        raise PicoLMError(f"{run.path} has no whole checkpoint that it could resume from: {'; '.join(warnings + lost)}")
    return ResumePoint(None, (), warnings)


def _missing(run: RunDirectory, holdings: Holdings) -> list[str]:
    folders = tuple(f"{folder}/" for folder in STEP_FOLDERS)
    return [path for path in sorted(holdings.committed) if path.startswith(folders) and not (run.path / path).exists()]


def unnamed(run: RunDirectory, holdings: Holdings) -> tuple[list[Path], list[Path]]:
    """Directories of steps that the ledger does not name.

    Between a rename and a line of the ledger a process can be killed, but only once.

    Returns:
        Those that became complete just before a process was killed; and those that the ledger must have named.
    """
    fresh: list[Path] = []
    forgotten: list[Path] = []
    for folder in STEP_FOLDERS:
        paths = steps_in(run.path / folder)
        for path in paths:
            name = path.relative_to(run.path).as_posix()
            if name not in holdings.committed and name not in holdings.removed:
                (fresh if path == paths[-1] else forgotten).append(path)
    return fresh, forgotten


def checkpoint_damage(run: RunDirectory, checkpoint: Checkpoint, holdings: Holdings) -> list[str]:
    """One sentence for each damage of a checkpoint, by its own manifest and by the ledger."""
    damage = checkpoint.damaged()
    if not damage:
        known = holdings.committed.get(checkpoint.path.relative_to(run.path).as_posix())
        # One that the ledger does not name became complete just before a process was killed.
        if known is not None and seal_of(checkpoint.path) not in known:
            damage = [f"{checkpoint.path}/manifest.json was changed: its SHA-256 is not the one in {LEDGER}"]
    return damage


def make_ready(run: RunDirectory, point: ResumePoint) -> list[str]:
    """Bring the directory to where the run goes on; the run must be locked.

    What was half-written or half-removed goes. The log is cut back, and what was saved of later steps is put aside
    until it is made again. Damaged checkpoints, and a damaged ledger or log, are put aside for good.

    Returns:
        One sentence for each thing that was put aside for good.
    """
    warnings: list[str] = []
    for folder in (run.path, *(run.path / name for name in (*STEP_FOLDERS, "metrics"))):
        discard_partials(folder)
    _clear_removed(run)
    holdings = read_ledger(run.path)
    if holdings.faults:
        warnings += _renew_ledger(run)
    else:
        warnings += [f"{run.path / LEDGER} lacks {path.name}: it was cut short" for path in unnamed(run, holdings)[1]]
    with Ledger(run.path) as ledger:
        for name in _missing(run, holdings):
            ledger.removed(run.path / name, "missing")
            warnings.append(f"{run.path / name} is missing")
        for checkpoint in point.damaged:
            ledger.removed(checkpoint.path, "damaged")
            warnings.append(f"{checkpoint.path} was put aside as {put_aside(checkpoint.path, 'damaged').name}")
        for path in (path for folder in STEP_FOLDERS for path in steps_in(run.path / folder)):
            is_later = point.checkpoint is None or int(path.name[len("step-") :]) > point.step
            warnings += _bring_back(path, is_later, ledger)
        # Before the cut: a log that is longer than its mark is whole, one that is shorter is not.
        ledger.append({"event": "resumed", "step": point.step, "marks": {run.log_path.name: point.log.plain()}})
    loss = cut_log(run.log_path, point.log, point.step)
    if loss is not None:
        warnings.append(loss)
        with LogWriter(run.log_path) as log, Ledger(run.path) as ledger:
            ledger.append({"event": "repaired", "marks": {run.log_path.name: log.mark.plain()}})
    return warnings


def set_earlier(path: Path, ledger: Ledger) -> None:
    """Put aside what will be made again; `settle_earlier` compares the two."""
    ledger.removed(path, "to be made again")
    put_aside(path, EARLIER.removeprefix("."))


def settle_earlier(path: Path) -> list[str]:
    """Compare what a resumed run made again with what it had put aside.

    Where both are the same, resume states aside, the earlier one is removed.

    Returns:
        One sentence for each that is not the same, and so stays.
    """
    sentences = []
    for earlier in sorted(path.parent.glob(f"{path.name}{EARLIER}*")):
        if not verify(earlier) and _lasting_files(earlier) == _lasting_files(path):
            discard(earlier)
        else:
            sentences.append(f"{path} was made again and is not what it was; the former one is {earlier.name}")
    return sentences


def discard(path: Path) -> None:
    """Remove a directory in such a way that nobody sees it with a part of its files."""
    shutil.rmtree(path.rename(path.with_name(f".{path.name}{REMOVING}")))


def steps_in(folder: Path) -> list[Path]:
    """The directories of single steps in a folder, by step."""
    paths = [path for path in folder.glob("step-*") if path.is_dir() and path.name[len("step-") :].isdecimal()]
    return sorted(paths, key=lambda path: int(path.name[len("step-") :]))


def _bring_back(path: Path, is_later: bool, ledger: Ledger) -> list[str]:
    """Put aside what was saved of a later step; else see that the ledger knows it."""
    if is_later:
        set_earlier(path, ledger)
        return []
    if not ledger.knows(path) and not verify(path):
        ledger.committed(path)
    return settle_earlier(path)


def _lasting_files(directory: Path) -> dict[str, Any]:
    files = read_manifest(directory)["files"]
    return {name: entry for name, entry in files.items() if not name.startswith("state/")}


def _clear_removed(run: RunDirectory) -> None:
    """Finish what a process that was killed had begun to remove."""
    for folder in STEP_FOLDERS:
        for path in (run.path / folder).glob(f".*{REMOVING}"):
            shutil.rmtree(path)
    for checkpoint in run.checkpoints:
        for folder in checkpoint.superseded:
            if (checkpoint.path / folder).is_dir():
                shutil.rmtree(checkpoint.path / folder)


def _renew_ledger(run: RunDirectory) -> list[str]:
    """Begin a new ledger with all that is whole, as far as that can be known."""
    growing = (run.timings_path, run.attempts_path)
    old = run.path / LEDGER
    said = f"a new {LEDGER} was begun"
    if old.exists():
        said += f"; the old one is {put_aside(old, 'damaged').name}"
    with Ledger(run.path) as ledger:
        for file in (run.path / RUN_FILE, *_single_files(run)):
            ledger.committed(file)
        for path in (path for folder in STEP_FOLDERS for path in steps_in(run.path / folder)):
            if not verify(path):
                ledger.committed(path)
        ledger.append({"event": "renewed", "marks": {path.name: _mark(path) for path in growing if path.exists()}})
    return [said]


def _single_files(run: RunDirectory) -> list[Path]:
    return sorted([*run.path.glob("metrics/step-*.parquet"), *run.path.glob("captures/probes/*.safetensors")])


def _mark(path: Path) -> dict[str, Any]:
    with LogWriter(path) as writer:
        return writer.mark.plain()
