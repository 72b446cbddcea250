"""Where a run was forked from, and the log of its whole past."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory

_LONGEST = 1000
"""Generations that are followed; more would be a circle."""


def describe_parent(parent: RunDirectory, step: int, child: Path, manifest_sha256: str | None) -> dict[str, Any]:
    """What a fork's `run.json` says of its parent.

    Args:
        parent: the run.
        step: the updates that both have in common.
        child: where the fork will stand.
        manifest_sha256: of the checkpoint that it begins with; None at step 0.
    """
    return {
        "name": parent.name,
        "path": os.path.relpath(parent.path.resolve(), child.resolve()),
        "step": step,
        "config_hash": parent.identity["config_hash"],
        "checkpoint_sha256": manifest_sha256,
    }


def parent_of(run: RunDirectory) -> RunDirectory | None:
    """The run that a fork was branched from; None for a run that is no fork, or whose parent is gone or another now."""
    origin = run.identity.get("parent")
    if not isinstance(origin, dict):
        return None
    try:
        parent = RunDirectory.open(run.path / origin["path"])
    except PicoLMError:
        return None
    return parent if parent.identity.get("config_hash") == origin["config_hash"] else None


def past(run: RunDirectory) -> list[dict[str, Any]]:
    """The lines of the log from before the fork, of all ancestors, by step; empty for a run that is no fork.

    An ancestor that is gone, or is another run now, ends the past.
    """
    return [line for ancestor, after, step in _ancestors(run) for line in _lines(ancestor, after, step)]


def _ancestors(run: RunDirectory) -> list[tuple[RunDirectory, int, int]]:
    """The ancestors, oldest first, each with the step that it begins after and the step at which it was left."""
    found: list[tuple[RunDirectory, int, int]] = []
    current = run
    while len(found) < _LONGEST and (ancestor := parent_of(current)) is not None:
        older = ancestor.identity.get("parent")
        found.append((ancestor, older["step"] if isinstance(older, dict) else -1, current.identity["parent"]["step"]))
        current = ancestor
    return found[::-1]


def _lines(run: RunDirectory, after: int, step: int) -> Iterator[dict[str, Any]]:
    return (line for line in run.log if after < line.get("step", -1) <= step)
