"""A short run that shows what a long one takes: which steps it has, and how coefficients follow from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from picolm.config.loading import build_config
from picolm.config.schema import Config
from picolm.experiments.costing import Costing, Event, Part, events_of, happening, parts_of, step_tokens

WARM_UP = 3
"""Steps before anything is measured: threads, caches and memory settle."""
SPACING = 3
"""Steps over which an event may slow training down: what is saved is written beside it."""
_PLAIN_SECONDS, _FEWEST, _MOST = 5.0, 4, 24
"""How long bare steps are measured, and between which numbers of them."""
_ONCE_SECONDS = 1.0
"""Where a step takes longer, each event happens once, else twice."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The steps of a short run.

    Attributes:
        steps: all of them; the last ones are bare.
        at: after which of them each event happens.
    """

    steps: int
    at: Mapping[Event, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The record of a short run.

    Attributes:
        wall_seconds: of its process, from start to exit.
        timings: lines of `timings.jsonl`, one for each step.
        fixed_bytes: all that is no part.
        part_bytes: all pieces of a kind together.
    """

    wall_seconds: float
    timings: Sequence[Mapping[str, Any]]
    fixed_bytes: int
    part_bytes: Mapping[Part, int]


def events_wanted(config: Config, first: int) -> frozenset[Event]:
    """The kinds of events that a run has, and those without which these cannot be measured."""
    found = frozenset(events_of(config, first, config.training.steps))
    # The model is saved with either, and is to be told apart from them.
    return found | {"model"} if found & {"capture", "evaluation"} else found


def layout(events: frozenset[Event], step_seconds: float) -> Layout:
    """Lay out a short run.

    Args:
        events: that it needs.
        step_seconds: of an update, roughly.
    """
    rounds = 1 if step_seconds > _ONCE_SECONDS else 2
    ordered: list[Event] = sorted(events)
    steps = [WARM_UP + SPACING * place for place in range(rounds * len(ordered))]
    at = {event: tuple(steps[place :: len(ordered)]) for place, event in enumerate(ordered)}
    bare = min(max(round(_PLAIN_SECONDS / max(step_seconds, 1e-6)), _FEWEST), _MOST)
    return Layout((steps[-1] + SPACING if steps else WARM_UP) + bare, at)


def short(config: Config, laid: Layout, first: int = 0) -> Config:
    """The configuration of a short run: the same work in each step and event, other steps.

    Args:
        config: of the long run.
        laid: the steps.
        first: where the long run begins; after 0 nothing happens to the untrained model.
    """
    values = config.model_dump(mode="json")
    last = laid.steps

    def schedule(event: Event, whole: bool) -> dict[str, Any]:
        at = laid.at.get(event, ())
        return {"every": 0, "per_doubling": 0, "at": [0, *at] if whole and first == 0 else [*at]}

    values["training"] |= {"steps": last, "flush_every": 1, "log_every": 1}
    values["schedule"] = {"kind": "constant", "warmup_steps": 0}
    values["validation"] |= schedule("validation", config.validation.includes(0))
    values["capture"] |= schedule("capture", config.capture.includes(0))
    values["evaluation"] |= schedule("evaluation", config.evaluation.includes(0))
    values["checkpoints"] = {
        "model": schedule("model", config.checkpoints.model.includes(0)),
        "state": schedule("state", False) | {"per_doubling": 0},
        "keep_states": None,
    }
    if not values["capture"]["at"]:
        values["capture"] |= {"metrics": [], "metric_sites": []}
    if values["training"]["ema"] is not None:
        values["training"]["ema"]["start"] = 0
    return build_config(values)


def costing_of(config: Config, readings: Sequence[Reading], flops_per_token: float) -> Costing:
    """Coefficients from short runs that were made at the same time; each is the mean over them.

    A step takes the median of bare ones; an event what it and the next steps take beyond that. What is left of the
    whole process is the same for every run.

    Args:
        config: of the short runs.
        readings: their records.
        flops_per_token: matrix products.
    """
    steps = [_step_seconds(config, reading) for reading in readings]
    events = [_event_seconds(config, reading, step) for reading, step in zip(readings, steps, strict=True)]
    counts = events_of(config, 0, config.training.steps)
    fixed = [
        reading.wall_seconds - config.training.steps * step - sum(n * own[event] for event, n in counts.items())
        for reading, step, own in zip(readings, steps, events, strict=True)
    ]
    parts = parts_of(config)
    return Costing(
        flops_per_token=flops_per_token,
        tokens_per_step=step_tokens(config),
        fixed_seconds=max(0.0, mean(fixed)),
        step_seconds=mean(steps),
        event_seconds={event: mean(own[event] for own in events) for event in sorted(counts)},
        fixed_bytes=round(mean(reading.fixed_bytes for reading in readings)),
        part_bytes={
            part: mean(reading.part_bytes.get(part, 0) for reading in readings) / n for part, n in parts.items() if n
        },
        measured=True,
    )


def _step_seconds(config: Config, reading: Reading) -> float:
    """Median of steps with which nothing else went on."""
    last_event = max((step for step in range(1, config.training.steps) if happening(config, step)), default=0)
    begin = max(WARM_UP, last_event + SPACING if last_event else 0)
    return median(float(line["step_seconds"]) for line in reading.timings if line["step"] > begin)


def _event_seconds(config: Config, reading: Reading, step_seconds: float) -> dict[Event, float]:
    clock = {line["step"]: line["seconds"] for line in reading.timings}
    found: dict[Event, list[float]] = {}
    for step in range(1, config.training.steps - SPACING):
        own = happening(config, step)
        if own:
            beyond = clock[step + SPACING] - clock[step] - SPACING * step_seconds
            found.setdefault(own[-1], []).append(beyond)
    alone = {event: max(0.0, median(seconds)) for event, seconds in found.items()}
    # Captures and evaluations save the model besides.
    saving = alone.get("model", 0.0)
    return {
        event: max(0.0, seconds - saving) if event in ("capture", "evaluation") else seconds
        for event, seconds in alone.items()
    }
