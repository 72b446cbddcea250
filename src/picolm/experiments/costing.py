"""What a run takes, linear in its steps and in what happens at them: one set of coefficients for each arm and size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from picolm.config.schema import Config
from picolm.experiments.findings import Cost
from picolm.training.forecast import Forecast, kept_checkpoints

Event = Literal["model", "state", "validation", "capture", "evaluation"]
EVENTS: tuple[Event, ...] = ("model", "state", "validation", "capture", "evaluation")
"""What happens at steps: a model is saved, or the whole state with it; the others may need a model that is saved."""
Part = Literal["line", "model", "state", "validation", "capture", "evaluation"]
"""What takes room: a line of the log, a saved model, the rest of a state, and what the other events leave behind."""


def happening(config: Config, step: int) -> list[Event]:
    """What happens after `step` updates of a run, in the order of `EVENTS`; its last step is not asked about."""
    whole = step > 0 and config.checkpoints.state.includes(step)
    there: dict[Event, bool] = {
        "model": not whole and config.keeps_model(step),
        "state": whole,
        "validation": config.validation.includes(step),
        "capture": config.capture.includes(step),
        "evaluation": config.asks(step),
    }
    return [event for event in EVENTS if there[event]]


def events_of(config: Config, first: int, last: int) -> Counter[Event]:
    """How often each event happens strictly between two steps.

    What happens at the two ends (the untrained model, the last validation and state, samples, the page) is part of
    every run, however long.

    Args:
        config: whose schedules count.
        first: where training begins: 0, or the step of a fork.
        last: where it ends.
    """
    wanted = (
        config.checkpoints.model,
        config.checkpoints.state,
        config.validation,
        config.capture,
        config.evaluation,
    )
    steps = {step for schedule in wanted for step in schedule.up_to(last) if first < step < last}
    return Counter(event for step in steps for event in happening(config, step))


def parts_of(config: Config, first: int = 0) -> Counter[Part]:
    """How many pieces of each kind a run holds when it has ended."""
    last = config.training.steps
    models, states = kept_checkpoints(config, first)
    validations = {last, *(step for step in config.validation.up_to(last) if step >= first)}
    captures = [step for step in config.capture.up_to(last) if step >= first]
    evaluations = [step for step in {last, *config.evaluation.up_to(last)} if config.asks(step) and step >= first]
    numbers: dict[Part, int] = {
        "line": (last - first) // config.training.log_every,
        "model": models,
        "state": states,
        "validation": len(validations),
        "capture": len(captures),
        "evaluation": len(evaluations),
    }
    return Counter(numbers)


@dataclass(frozen=True, slots=True)
class Costing:
    """Coefficients of one arm at one size.

    Attributes:
        flops_per_token: matrix products, forward and backward.
        tokens_per_step: of the configuration that was measured; a step of another batch takes proportionally long.
        fixed_seconds: start of the process, what happens at both ends, the page.
        step_seconds: of one update.
        event_seconds: of each event, beside the update.
        fixed_bytes: the page, the record.
        part_bytes: of each piece.
        measured: whether short runs were made for it; else it is a rough figure.
    """

    flops_per_token: float
    tokens_per_step: int
    fixed_seconds: float
    step_seconds: float
    event_seconds: Mapping[Event, float]
    fixed_bytes: int
    part_bytes: Mapping[Part, float]
    measured: bool

    @classmethod
    def rough(cls, config: Config, forecast: Forecast) -> Costing:
        """What a forecast without a measurement comes to: time of bare steps, room whatever the length."""
        return cls(
            flops_per_token=forecast.flops / forecast.tokens,
            tokens_per_step=step_tokens(config),
            fixed_seconds=0.0,
            step_seconds=forecast.seconds / config.training.steps,
            event_seconds={},
            fixed_bytes=forecast.disk_bytes + forecast.capture_bytes,
            part_bytes={},
            measured=False,
        )

    def training_seconds(self, config: Config, first: int = 0, last: int | None = None) -> float:
        """Of updates, and of what happens strictly between the first and the last: what `equal: time` holds equal.

        Args:
            config: of a run of this arm and size.
            first: where training begins.
            last: where it ends; None: where the configuration says.
        """
        last = config.training.steps if last is None else last
        step = self.step_seconds * step_tokens(config) / self.tokens_per_step
        events = events_of(config, first, last)
        return (last - first) * step + sum(n * self.event_seconds.get(event, 0.0) for event, n in events.items())

    def cost(self, config: Config, first: int = 0) -> Cost:
        """What a run of this arm and size takes.

        Args:
            config: the run.
            first: where it begins: 0, or the step of a fork.
        """
        tokens = (config.training.steps - first) * step_tokens(config)
        parts = parts_of(config, first) if self.part_bytes else Counter[Part]()
        return Cost(
            flops=self.flops_per_token * tokens,
            seconds=self.fixed_seconds + self.training_seconds(config, first),
            disk_bytes=round(self.fixed_bytes + sum(n * self.part_bytes.get(part, 0.0) for part, n in parts.items())),
        )

    def plain(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Costing:
        """From plain data; KeyError, TypeError or ValueError where it is none."""
        numbers = {name: float(value[name]) for name in ("flops_per_token", "fixed_seconds", "step_seconds")}
        return cls(
            **numbers,
            tokens_per_step=int(value["tokens_per_step"]),
            event_seconds={event: float(value["event_seconds"][event]) for event in value["event_seconds"]},
            fixed_bytes=int(value["fixed_bytes"]),
            part_bytes={part: float(value["part_bytes"][part]) for part in value["part_bytes"]},
            measured=bool(value["measured"]),
        )


def step_tokens(config: Config) -> int:
    """Input positions of one update."""
    return config.training.batch_size * config.data.sequence_length


def makespan(seconds: Sequence[float], at_once: int) -> float:
    """How long processes take that are started in order, each as soon as one of `at_once` places is free."""
    free = [0.0] * max(1, at_once)
    for duration in seconds:
        place = free.index(min(free))
        free[place] += duration
    return max(free)
