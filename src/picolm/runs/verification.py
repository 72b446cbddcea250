"""Whether a run is whole: every file against what it should be."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.directory import RUN_FILE, RunDirectory
from picolm.runs.evaluations import FOLDER, check_parts
from picolm.runs.ledger import LEDGER, Holdings, read_ledger, seal_of
from picolm.runs.log import read_lines, whole_length
from picolm.runs.manifest import MANIFEST, verify
from picolm.runs.resumption import STEP_FOLDERS, unnamed

REPORT = "report.html"
_HASH_COMMENT = "<!-- sha256 of all before this comment: "


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        path: of the run.
        files: how many were compared.
        damage: one sentence for each file that is missing, changed or torn.
        notes: what a process that was killed left behind; the next `resume` removes or uses it.
    """

    path: str
    files: int
    damage: list[str]
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def verify_run(run: RunDirectory) -> Verification:
    """Compare every file of a run with the ledger and the manifests; every byte is read, nothing is changed.

    What was logged since the last checkpoint is protected by its form only. What trackers wrote, and files that PicoLM
    did not make, are not looked at.

    Raises:
        PicoLMError: there is no such run, or a newer PicoLM wrote it.
    """
    if not run.path.is_dir():
        RunDirectory.open(run.path)
    holdings = read_ledger(run.path)
    damage, files = list(holdings.faults), 1
    notes: list[str] = []
    for name in sorted(holdings.committed):
        path = run.path / name
        damage += _committed_damage(path, holdings.committed[name])
        files += len(_files(path))
    for name in (run.log_path.name, run.timings_path.name, run.attempts_path.name):
        damage += _growing_damage(run.path / name, holdings, notes)
        files += (run.path / name).is_file()
    if RUN_FILE not in holdings.committed:
        damage += _unsealed_identity(run)
    damage += _report_damage(run.path / REPORT, holdings)
    if not holdings.faults:
        damage += _unknown(run, holdings, notes)
    measured, unfinished = check_parts(run.path / FOLDER)
    damage, notes = damage + measured, notes + unfinished
    files += len(_files(run.path / FOLDER)) if (run.path / FOLDER).is_dir() else 0
    ledger = run.path / LEDGER
    if ledger.is_file() and whole_length(data := ledger.read_bytes()) < len(data):
        # A kill can tear the last line and does no harm; with other damage, more than that line is gone.
        (damage if damage else notes).append(f"{ledger} ends in a torn line")
    return Verification(str(run.path), files, damage, notes)


def refuse_changed_identity(run: RunDirectory) -> None:
    """Raise where `run.json` is not what the ledger says: a run must not go on as another one.

    Raises:
        PicoLMError: it was changed.
    """
    seals = read_ledger(run.path).committed.get(RUN_FILE)
    if seals is not None and seal_of(run.path / RUN_FILE) not in seals:
        raise PicoLMError(
            f"{run.path / RUN_FILE} was changed: its SHA-256 is not the one in {LEDGER}; restore the file"
        )


def record_damage(run: RunDirectory) -> list[str]:
    """One sentence for each damage of what a run wrote line by line: the log, the timings, the attempts."""
    holdings, notes = read_ledger(run.path), list[str]()
    files = (run.log_path, run.timings_path, run.attempts_path)
    return [sentence for file in files for sentence in _growing_damage(file, holdings, notes)]


def sealed_page(page: str) -> str:
    """A page with a last comment that holds the hash of all before it."""
    return f"{page}{_HASH_COMMENT}{hashlib.sha256(page.encode()).hexdigest()} -->\n"


def is_page(path: Path) -> bool:
    """Whether PicoLM wrote a file as a page, even if it was changed since."""
    return path.is_file() and _HASH_COMMENT.encode() in path.read_bytes()


def _committed_damage(path: Path, seals: tuple[str, ...]) -> list[str]:
    if not path.exists():
        return [f"{path} is missing"]
    if path.is_dir() and (damage := verify(path)):
        return damage
    if seal_of(path) not in seals:
        file = path / MANIFEST if path.is_dir() else path
        return [f"{file} was changed: its SHA-256 is not the one in {LEDGER}"]
    return []


def _growing_damage(path: Path, holdings: Holdings, notes: list[str]) -> list[str]:
    mark = holdings.marks.get(path.name)
    if not path.is_file():
        return [f"{path} is missing"] if mark is not None or holdings.faults else []
    if mark is not None and path.stat().st_size < mark.n_bytes:
        return [f"{path} has {path.stat().st_size} bytes, {LEDGER} says at least {mark.n_bytes}"]
    if mark is not None and not mark.fits(path):
        return [f"{path} was changed within its first {mark.n_bytes} bytes"]
    try:
        for _ in read_lines(path):
            pass
    except PicoLMError as error:
        return [str(error)]
    if whole_length(data := path.read_bytes()) < len(data):
        # A process that was killed tears a line that it was writing, but never one that is in the ledger.
        notes.append(f"{path} ends in a torn line, which is passed over")
    return []


def _unsealed_identity(run: RunDirectory) -> list[str]:
    try:
        RunDirectory.open(run.path)
    except PicoLMError as error:
        return [str(error)]
    return []


def _report_damage(path: Path, holdings: Holdings) -> list[str]:
    again = f"to write it again: picolm report {path.parent}"
    if not path.is_file():
        return [] if holdings.ended is None else [f"{path} is missing; {again}"]
    page, comment, rest = path.read_bytes().decode("utf-8", "replace").rpartition(_HASH_COMMENT)
    if not comment or sealed_page(page) != f"{page}{comment}{rest}":
        return [f"{path} was changed; {again}"]
    return []


def _unknown(run: RunDirectory, holdings: Holdings, notes: list[str]) -> list[str]:
    """What stands in the run although the ledger does not say so."""
    fresh, forgotten = unnamed(run, holdings)
    for path in fresh:
        notes.append(f"{path} is not in {LEDGER}: it became complete just before a process was killed")
    for folder in STEP_FOLDERS:
        for path in sorted((run.path / folder).glob("*step-*")):
            if path.name.startswith("."):
                notes.append(f"{path} is half-written or half-removed; the next resume removes it")
            elif path.relative_to(run.path).as_posix() in holdings.removed or path.suffix:
                notes.append(f"{path} was put aside, or is about to be removed")
    return [f"{run.path / LEDGER} lacks {path.name}: it was cut short" for path in forgotten]


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
