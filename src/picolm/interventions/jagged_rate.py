"""A learning rate that falls to zero and rises again at regular steps, whatever else happens there."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from picolm.config import schema
from picolm.config.section import Count, Positive
from picolm.seams import Group, Intervention, Rate


def rewarmed(rate: Rate, step: int, group: Group, *, since: int, over: int) -> float:
    """The rate of an update in a re-warm-up: a straight line from 0 to the rate that there will be at its end.

    Args:
        rate: without re-warm-up.
        step: number of the update, from `since` on.
        group: of parameters.
        since: the first update of the re-warm-up.
        over: its updates; from `since + over` on, and with 0 at once, the rate is the plain one.
    """
    place = step - since
    return place / over * rate(since + over, group) if 0 <= place < over else rate(step, group)


def rise(asked: int | None, period: int | None) -> int:
    """How many updates a re-warm-up takes.

    Args:
        asked: that many; None: 50, or a tenth of a shorter period.
        period: updates between two restarts; None: there is only one.

    Raises:
        ValueError: it would not end before the next restart.
    """
    if asked is None:
        return 50 if period is None else min(50, period // 10)
    if period is not None and asked >= max(period, 1) and asked > 0:
        raise ValueError(f"rewarmup_steps {asked} leave nothing of a period of {period} updates at the full rate")
    return asked


def published_multiple(
    step: int, *, total_steps: int, warmup_steps: int, period: int, rewarmup_steps: int, floor: float
) -> float:
    """What the published code multiplies its peak rate by in update `step` (from 0): a cosine that is cut by restarts.

    Update 0 has rate 0 there, and the cosine goes from the end of the warm-up to `floor` at `total_steps`.
    """
    if step < warmup_steps:
        return step / max(warmup_steps, 1)
    place = step % period
    in_rise = step >= period and place < rewarmup_steps
    at = step - place + rewarmup_steps if in_rise else step
    progress = (at - warmup_steps) / max(total_steps - warmup_steps, 1)
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return place / rewarmup_steps * cosine if in_rise else cosine


class JaggedRate(Intervention):
    """Takes the learning rate to zero every `period` updates and lets it rise again over `rewarmup_steps`.

    On a full-rank model it is the control for methods that restart: what the jagged rate alone does.
    """

    class Settings(schema.Section):
        """How often, and how long it rises."""

        start: Count = Field(0, description="the step that periods are counted from; above 0 the rate rises there too")
        period: Positive = Field(1000, description="updates between two restarts")
        rewarmup_steps: Count | None = Field(
            None, description="updates of the rise; 0: no restart; null: 50, or a tenth of a shorter period"
        )

        @model_validator(mode="after")
        def _rise_has_room(self) -> JaggedRate.Settings:
            rise(self.rewarmup_steps, self.period)
            return self

    settings: Settings

    def schedule(self, rate: Rate) -> Rate:
        """Restart the rate."""
        settings = self.settings
        over = rise(settings.rewarmup_steps, settings.period)

        def jagged(step: int, group: Group) -> float:
            since = settings.start + (step - settings.start) // settings.period * settings.period
            if step < settings.start or since == 0:
                return rate(step, group)
            return rewarmed(rate, step, group, since=since, over=over)

        return jagged
