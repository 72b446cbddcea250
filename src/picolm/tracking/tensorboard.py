"""TensorBoard: one event file in the run's `tensorboard/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from picolm.tracking.tracker import Sink


class TensorBoard(Sink):
    """Writes scalars, which TensorBoard keeps in float32; `tensorboard --logdir runs` shows all runs."""

    def __init__(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """Open the event file of a run.

        Args:
            directory: the run's.
            facts: not used: TensorBoard names a run by its directory.
        """
        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Add one scalar for each figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is pending and end the writer's thread."""
        self._writer.close()
