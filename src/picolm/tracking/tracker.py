"""An observer that passes the figures of a run's record on, and never stands in the run's way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError, to_standard_error
from picolm.seams import Observer


class Sink(ABC):
    """Where figures go."""

    @abstractmethod
    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of one line of the record."""

    @abstractmethod
    def close(self) -> None:
        """Bring what was written to the disk."""


OpenSink = Callable[[Path, Mapping[str, Any]], Sink]
"""(the run's directory, what is known of the run) -> an open sink."""

# Loaded only where they are wanted: the first import of each takes a second.
_SINKS = {
    "tensorboard": "picolm.tracking.tensorboard:TensorBoard",
    "trackio": "picolm.tracking.trackio:Trackio",
    "wandb": "picolm.tracking.wandb:WandB",
}


class Tracker(Observer):
    """Feeds one sink. If the sink fails, it says so once, and from then on the run goes on without it."""

    def __init__(self, name: str, directory: Path, open_sink: OpenSink, complain: Callable[[str], None]) -> None:
        """Prepare to track; nothing is opened before the run starts.

        Args:
            name: for messages.
            directory: the run's.
            open_sink: opens the sink.
            complain: is told when the sink fails.
        """
        self.name, self.directory, self._open, self._complain = name, directory, open_sink, complain
        self._sink: Sink | None = None

    def started(self, facts: Mapping[str, Any]) -> None:
        """Open the sink."""
        try:
            self._sink = self._open(self.directory, facts)
        except Exception as error:
            self._give_up(error)

    def logged(self, record: Mapping[str, Any]) -> None:
        """Pass on the numbers of a line of `log.jsonl`, named by its event: `train/loss`, `validation/loss`."""
        self._write(str(record["event"]), record)

    def timed(self, record: Mapping[str, Any]) -> None:
        """Pass on a line of `timings.jsonl`: `timings/tokens_per_second`."""
        self._write("timings", record)

    def ended(self, step: int) -> None:
        """Close the sink."""
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.close()
            except Exception as error:
                self._give_up(error)

    def _write(self, event: str, record: Mapping[str, Any]) -> None:
        figures = {f"{event}/{name}": value for name, value in numbers(record) if name != "step"}
        if self._sink is not None and figures:
            try:
                self._sink.write(figures, int(record["step"]))
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            # What came through may still be saved; that this fails too is no news.
            with suppress(Exception):
                sink.close()
        self._complain(f"tracking: {self.name} failed and is left out from here on ({error!r}); the run goes on")


def numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a nested record with its path: `domains/stories/loss`."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


def require(names: Sequence[str]) -> None:
    """Make sure that the packages of these trackers are there.

    Raises:
        PicoLMError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise PicoLMError(f"tracking: {name} is not installed; install it with: pip install 'picolm[{name}]'")


def trackers(names: Sequence[str], directory: Path, complain: Callable[[str], None] | None = None) -> list[Tracker]:
    """Make the trackers of a run.

    Args:
        names: of `tensorboard`, `trackio`, `wandb`.
        directory: the run's; files go to places below it.
        complain: is told when one fails; None: standard error.
    """
    return [Tracker(name, directory, _sink(name), complain or to_standard_error) for name in names]


def _sink(name: str) -> OpenSink:
    def open_sink(directory: Path, facts: Mapping[str, Any]) -> Sink:
        module, _, kind = _SINKS[name].partition(":")
        sink: Sink = getattr(import_module(module), kind)(directory, facts)
        return sink

    return open_sink
