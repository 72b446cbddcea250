"""Weights & Biases: an offline run in the run's `wandb/`, which `wandb sync` uploads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picolm.tracking.tracker import Sink


class WandB(Sink):
    """Logs to W&B, offline unless `WANDB_MODE` says otherwise."""

    def __init__(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """Start an offline run.

        Args:
            directory: the run's.
            facts: `name` and `config` are taken.
        """
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "picolm"),
            name=facts["name"],
            config=facts["config"],
            dir=str(directory),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Log the figures of one line."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()
