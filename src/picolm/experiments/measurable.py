"""Whether the runs of a plan will hold what its predictions ask for, said before hours went into them."""

from __future__ import annotations

import re

from picolm.config.schema import Config
from picolm.experiments.quantity import Quantity


def unmeasured(quantity: Quantity, config: Config) -> str | None:
    """Say so where a run will not hold a quantity.

    Args:
        quantity: that a prediction or a search asks for.
        config: of the run.

    Returns:
        One sentence that begins with what is asked for, or None where nothing speaks against it.
    """
    steps = config.training.steps
    if quantity.at is not None and quantity.at > steps:
        return f"{quantity.words}: runs end at step {steps}"
    if quantity.validation is not None:
        kept, key = {*config.validation.up_to(steps), steps}, "validation"
    elif quantity.evaluation is not None:
        if not config.evaluation.tasks:
            return f"{quantity.words}: no run will hold it; name the task in evaluation.tasks, and evaluation.every"
        kept, key = {*config.evaluation.up_to(steps), steps}, "evaluation"
    elif quantity.metric is not None:
        if _name(quantity.metric) not in {_name(words) for words in config.capture.metrics}:
            return (
                f"{quantity.words}: no run will hold it; name it in capture.metrics, or measure it with "
                "`picolm analyze` before the report"
            )
        kept, key = set(config.capture.up_to(steps)), "capture"
    else:
        return None
    if not kept:
        return f"{quantity.words}: no run will hold it; set {key}.every"
    if quantity.at is not None and quantity.at not in kept:
        return f"{quantity.words}: no run will hold it at that step; add it to {key}.at"
    if len(kept) < 2 and (quantity.reaches is not None or quantity.summary in ("area", "slope")):
        return f"{quantity.words}: the curve will have one point; set {key}.every"
    return None


def _name(words: str) -> str:
    """The name of a metric, without its settings."""
    return re.split(r"\W", words, maxsplit=1)[0]
