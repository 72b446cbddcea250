"""Where a run that ended, however it ended, can go on; and making its directory ready for that."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_bytes
from picolm.runs.directory import RUN_FILE, Checkpoint, RunDirectory
from picolm.runs.durable import discard_partials
from picolm.runs.ledger import LEDGER, Holdings, Ledger, read_ledger, seal_of
from picolm.runs.log import Mark, cut_log
from picolm.runs.manifest import MANIFEST

EMPTY = Mark(0, sha256_of_bytes(b""))
"""The mark of a log without lines."""
REMOVING = ".removing"
"""How the name of a hidden directory ends that is being removed."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        checkpoint: what it goes on from; None: the beginning.
        damaged: newer checkpoints that cannot be used.
        warnings: one sentence for each damage that was seen.
        ledger_is_whole: whether the ledger can be continued.
    """

    checkpoint: Checkpoint | None
    damaged: tuple[Checkpoint, ...] = ()
    warnings: list[str] = field(default_factory=list)
    ledger_is_whole: bool = True

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
            return ResumePoint(checkpoint, tuple(damaged), warnings, not holdings.faults)
    missing = [path for path in sorted(holdings.committed) if not (run.path / path).exists()]
    lost = [f"{run.path / path} is missing" for path in missing if path.startswith("checkpoints/")]
    if damaged or lost:
        raise PicoLMError(f"{run.path} has no whole checkpoint that it could resume from: {'; '.join(warnings + lost)}")
    return ResumePoint(None, (), warnings, not holdings.faults)


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

    What was half-written or half-removed goes. Damaged checkpoints, and a damaged ledger or log, are put aside. The log
    is cut back.

    Returns:
        One sentence for each thing that was put aside.
    """
    warnings = []
    for folder in (run.path, run.path / "checkpoints", run.path / "captures", run.path / "metrics"):
        discard_partials(folder)
    clear_removed(run)
    if not point.ledger_is_whole:
        warnings += _renew_ledger(run)
    known = read_ledger(run.path).committed
    with Ledger(run.path) as ledger:
        for checkpoint in point.damaged:
            ledger.removed(checkpoint.path, "damaged")
            warnings.append(f"{checkpoint.path} was put aside as {checkpoint.set_aside().name}")
        for checkpoint in run.checkpoints:
            if checkpoint.path.relative_to(run.path).as_posix() not in known and not checkpoint.damaged():
                ledger.committed(checkpoint.path)
        # Before the cut: a log that is longer than its mark is whole, one that is shorter is not.
        ledger.append({"event": "resumed", "step": point.step, "marks": {run.log_path.name: point.log.plain()}})
    loss = cut_log(run.log_path, point.log, point.step)
    return warnings if loss is None else [*warnings, loss]


def discard(path: Path) -> None:
    """Remove a directory in such a way that nobody sees it with a part of its files."""
    shutil.rmtree(path.rename(path.with_name(f".{path.name}{REMOVING}")))


def clear_removed(run: RunDirectory) -> None:
    """Finish what a process that was killed had begun to remove."""
    for path in (run.path / "checkpoints").glob(f".*{REMOVING}"):
        shutil.rmtree(path)
    for checkpoint in run.checkpoints:
        for folder in checkpoint.superseded:
            if (checkpoint.path / folder).is_dir():
                shutil.rmtree(checkpoint.path / folder)


def _renew_ledger(run: RunDirectory) -> list[str]:
    """Begin a new ledger with all that is whole."""
    old = run.path / LEDGER
    aside = run.path / f"{LEDGER}.damaged"
    if old.exists():
        old.replace(aside)
    with Ledger(run.path) as ledger:
        ledger.committed(run.path / RUN_FILE)
        for folder in ("checkpoints", "captures"):
            for path in sorted((run.path / folder).glob(f"step-*/{MANIFEST}")):
                ledger.committed(path.parent)
    return [f"a new {LEDGER} was begun" + (f"; the old one is {aside.name}" if aside.exists() else "")]
