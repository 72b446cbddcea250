"""Whether the runs of a plan will hold what its predictions ask for, said before hours went into them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from picolm.config.schema import Config
from picolm.experiments.asked import Asked
from picolm.experiments.quantity import Quantity


def unmeasured(quantity: Quantity, config: Config, asked: Sequence[Asked] = ()) -> str | None:
    """Say so where a run will not hold a quantity.

    Args:
        quantity: that a prediction or a search asks for.
        config: of the run.
        asked: what is measured of runs that have ended.

    Returns:
        One sentence that begins with what is asked for, or None where nothing speaks against it.
    """
    steps = config.training.steps
    if quantity.at is not None and quantity.at > steps:
        return f"{quantity.words}: runs end at step {steps}"
    if quantity.logged is not None or any(
        _name(quantity.metric or "") == _name(w) for one in asked for w in one.metrics
    ):
        return None
    missing = _not_asked(quantity, config)
    return f"{quantity.words}: {missing}" if missing is not None else _not_at(quantity, *_kept(quantity, config))


def _not_asked(quantity: Quantity, config: Config) -> str | None:
    if quantity.evaluation is not None and not config.evaluation.tasks:
        return "no run will hold it; name the task in evaluation.tasks, and evaluation.every"
    if quantity.metric is None or _name(quantity.metric) in {_name(words) for words in config.capture.metrics}:
        return None
    return "no run will hold it; name it in `analyze` of the plan, or in capture.metrics"


def _kept(quantity: Quantity, config: Config) -> tuple[set[int], str]:
    """The steps at which a run will hold it, and the section that says so."""
    steps = config.training.steps
    if quantity.validation is not None:
        return {*config.validation.up_to(steps), steps}, "validation"
    if quantity.evaluation is not None:
        return {*config.evaluation.up_to(steps), steps}, "evaluation"
    return set(config.capture.up_to(steps)), "capture"


def _not_at(quantity: Quantity, kept: set[int], key: str) -> str | None:
    if not kept:
        return f"{quantity.words}: no run will hold it; set {key}.every"
    if quantity.at is not None and quantity.at not in kept:
        return f"{quantity.words}: no run will hold it at that step; add it to {key}.at"
    if len(kept) < 2 and (quantity.reaches is not None or quantity.summary in ("area", "slope", "descent")):
        return f"{quantity.words}: the curve will have one point; set {key}.every"
    return None


def _name(words: str) -> str:
    """The name of a metric, without its settings."""
    return re.split(r"\W", words, maxsplit=1)[0]
