"""The record of a run while it is made: values stay on the device until the log is flushed."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.runs.log import LogWriter, Mark
from picolm.seams import Observer


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one update leaves behind; tensors are scalars that still live on the device."""

    step: int
    """Number of updates made, this one included."""
    loss: Tensor
    losses: Mapping[str, Tensor]
    learning_rate: float
    gradient_norm: Tensor
    skipped: Tensor
    """Number of updates skipped so far because something was not finite."""
    tokens: int
    """Input positions seen so far, those of this step included."""
    sequences: int
    """Sequences seen so far, those of this step included."""
    figures: Mapping[str, Tensor] = field(default_factory=dict)
    """What terms found beside their losses: means over the units, by `<term>.<figure>`."""
    trace: Sequence[Mapping[str, Any]] = ()
    """What interventions did and changed; scalars in it may be tensors."""


class Recorder:
    """Writes `log.jsonl` and `timings.jsonl` and tells the observers. Use it as a context manager.

    Only `flush` waits for the device.
    """

    def __init__(
        self,
        run: RunDirectory,
        observers: Sequence[Observer],
        *,
        nonfinite_limit: int,
        flops_per_token: int,
        device: torch.device,
        first: tuple[int, int] = (0, 0),
    ) -> None:
        """Open the two files.

        Args:
            run: where they stand.
            observers: who is told of each line.
            nonfinite_limit: skipped updates that are borne.
            flops_per_token: training cost, for `flops_per_second`.
            device: whose peak memory is recorded.
            first: the updates that were made, and the tokens that were seen, before this attempt.
        """
        self.observers, self.nonfinite_limit, self.flops_per_token = observers, nonfinite_limit, flops_per_token
        self._device = device
        self._log, self._timings = LogWriter(run.log_path), LogWriter(run.timings_path)
        self._pending: list[StepRecord] = []
        self._started = time.perf_counter()
        self._last_time, (self.timed_step, self._tokens) = self._started, first

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        self._timings.close()

    @property
    def marks(self) -> dict[str, Mark]:
        """How far the two files have come; what is pending does not count."""
        return {writer.path.name: writer.mark for writer in (self._log, self._timings)}

    def keep(self, record: StepRecord) -> None:
        """Take note of a step that will be logged."""
        self._pending.append(record)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write one line of the log at once, after what is pending."""
        self.flush()
        self._write([line])

    def flush(self) -> None:
        """Fetch what is pending from the device in one transfer and write it.

        Raises:
            PicoLMError: more updates were skipped than the limit allows.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        lines = list(_lines(pending))
        self._write(lines)
        skipped = lines[-1]["skipped"]
        if skipped > self.nonfinite_limit:
            reason = (
                f"the loss or the gradient was not finite in {skipped} of {lines[-1]['step']} steps, more than "
                f"training.nonfinite_limit={self.nonfinite_limit}: lower optimizer.learning_rate, lengthen "
                "schedule.warmup_steps or set training.gradient_clip"
            )
            self._write([{"event": "stopped", "step": lines[-1]["step"], "reason": reason}])
            raise PicoLMError(reason)

    def time(self, step: int, tokens: int) -> None:
        """Write one line of the timings, over the steps since the last one."""
        now = time.perf_counter()
        elapsed, steps, tokens_seen = now - self._last_time, step - self.timed_step, tokens - self._tokens
        self._last_time, self.timed_step, self._tokens = now, step, tokens
        line = {
            "step": step,
            "seconds": round(now - self._started, 3),
            "tokens_per_second": round(tokens_seen / elapsed, 1),
            "step_seconds": round(elapsed / steps, 5),
            "flops_per_second": round(tokens_seen * self.flops_per_token / elapsed),
            "memory_bytes": _peak_memory(self._device),
        }
        self._timings.append(line)
        self._timings.commit()
        for observer in self.observers:
            observer.timed(line)

    def leave_out(self, seconds: float) -> None:
        """Take time that was not spent on training (validation, saving) out of the next line of the timings."""
        self._last_time += seconds

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        for line in lines:
            self._log.append(line)
        self._log.commit()
        for line in lines:
            for observer in self.observers:
                observer.logged(line)


def _lines(records: Sequence[StepRecord]) -> Iterable[dict[str, Any]]:
    scalars = [value for record in records for value in _scalars(record)]
    flat = torch.stack([value.detach().float().reshape(()).to(scalars[0].device) for value in scalars]).tolist()
    values = iter(flat)
    for record in records:
        loss, norm, skipped = next(values), next(values), next(values)
        line: dict[str, Any] = {
            "event": "train",
            "step": record.step,
            "loss": loss,
            "losses": {name: next(values) for name in record.losses},
            "learning_rate": record.learning_rate,
            "gradient_norm": norm,
            "tokens": record.tokens,
            "sequences": record.sequences,
            "skipped": int(skipped),
        }
        if record.figures:
            line["figures"] = {name: next(values) for name in record.figures}
        trace = [
            {key: next(values) if isinstance(fact, Tensor) else fact for key, fact in event.items()}
            for event in record.trace
        ]
        yield {**line, "interventions": trace} if trace else line


def _scalars(record: StepRecord) -> list[Tensor]:
    facts = [fact for event in record.trace for fact in event.values() if isinstance(fact, Tensor)]
    return [
        record.loss,
        record.gradient_norm,
        record.skipped,
        *record.losses.values(),
        *record.figures.values(),
        *facts,
    ]


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts in kilobytes, macOS in bytes.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
