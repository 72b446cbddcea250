"""One line per start of a run: what was run, by which code, on which machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from picolm.runs.directory import RunDirectory
from picolm.runs.log import LogWriter, Mark
from picolm.runs.software import package_versions, picolm_version, source_state


def describe_attempt(from_checkpoint: int | None) -> dict[str, Any]:
    """Describe this process. The name of the machine and of the user are left out on purpose.

    Args:
        from_checkpoint: the step that the run resumes from; None for a start from nothing.

    Returns:
        JSON values: time (UTC, ISO 8601), command, versions, commit, hash of local changes, platform, processor, cores.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "from_checkpoint": from_checkpoint,
        "command": list(sys.argv),
        "picolm": picolm_version(),
        **source_state(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
    }


def append_attempt(run_dir: Path, facts: Mapping[str, Any]) -> Mark:
    """Add one line to a run's `attempts.jsonl`; how far the file has come then.

    Args:
        run_dir: the directory of the run that starts.
        facts: what `describe_attempt` returned, and what the caller knows besides (ranks, accelerator).
    """
    with LogWriter(RunDirectory(run_dir).attempts_path) as writer:
        writer.append(facts)
        writer.commit()
        return writer.mark


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
