"""Learning curves of an experiment: every run, the mean of each arm with a band, differences and areas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np

from picolm.errors import PicoLMError
from picolm.experiments.design import Design
from picolm.experiments.evidence import Evidence
from picolm.experiments.findings import CurvePanel
from picolm.experiments.observation import CurveKey
from picolm.experiments.plan import Plan
from picolm.experiments.quantity import Quantity
from picolm.experiments.replicates import Replicates
from picolm.experiments.statistics.area import area_between
from picolm.experiments.statistics.bands import Band, difference_band, mean_band
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import PairedDifference
from picolm.experiments.statistics.seeds import FloatArray, Seed

_PLACES = 101
"""Where curves that share few places are compared: as many, evenly."""

Curves = Mapping[Seed, Curve]


def curves_of(plan: Plan) -> dict[CurveKey, Quantity]:
    """Every curve that a plan speaks of, over steps and over the axes that it asks for; validation and training loss.

    Args:
        plan: with its predictions, its search and what it shows.

    Returns:
        By the curve in words and the axis, a quantity that is the whole curve.
    """
    named = [one.measure for one in plan.predictions] + ([plan.tune.measure] if plan.tune is not None else [])
    named += plan.show
    usual = [Quantity.model_validate({"validation": "loss"}), Quantity.model_validate({"logged": "loss"})]
    found: dict[CurveKey, Quantity] = {}
    for quantity in [*named, *usual]:
        whole = quantity.model_copy(update={"at": None, "reaches": None, "summary": "last"})
        found.setdefault((quantity.curve, "steps"), whole.model_copy(update={"over": "steps"}))
        found.setdefault((quantity.curve, quantity.over), whole)
    return found


def panels_of(design: Design, evidence: Evidence, wanted: Mapping[CurveKey, Quantity]) -> tuple[CurvePanel, ...]:
    """The panels of all curves that some run has, at every size."""
    found = [_panel(design, evidence, key, quantity, size) for key, quantity in wanted.items() for size in design.sizes]
    return tuple(panel for panel in found if panel is not None)


def _panel(design: Design, evidence: Evidence, key: CurveKey, quantity: Quantity, size: str) -> CurvePanel | None:
    plan, replicates = design.plan, Replicates.of(design.plan.seeds, design.repetitions)
    alpha = 1 - plan.confidence
    runs = {arm: evidence.curves(key, arm, size) for arm in plan.arms}
    if not any(runs.values()):
        return None
    # A run that is on its way would cut the mean of all others short.
    ended = {arm: replicates.mean_curves(evidence.curves(key, arm, size, finished=True)) for arm in plan.arms}
    bands = {arm: _mean(curves, alpha) for arm, curves in ended.items()}
    pairs = {arm: (ended[arm], ended[plan.control]) for arm in plan.treatments}
    differences = {arm: _difference(*pair, alpha) for arm, pair in pairs.items()}
    areas = {arm: _area(*pair) for arm, pair in pairs.items()}
    return CurvePanel(
        quantity=quantity,
        words=key[0],
        size=size,
        over=key[1],
        runs={arm: {str(seed): curve for seed, curve in curves.items()} for arm, curves in runs.items()},
        bands={arm: band for arm, band in bands.items() if band is not None},
        differences={arm: band for arm, band in differences.items() if band is not None},
        areas={arm: area for arm, area in areas.items() if area is not None},
        past=evidence.past(key),
    )


def _mean(curves: Curves, alpha: float) -> Band | None:
    try:
        return mean_band(curves, at=_places([curves]), alpha=alpha)
    except PicoLMError:
        # No run, or none that is finite all the way.
        return None


def _difference(treatment: Curves, baseline: Curves, alpha: float) -> Band | None:
    try:
        return difference_band(treatment, baseline, at=_places([treatment, baseline]), alpha=alpha)
    except PicoLMError:
        return None


def _area(treatment: Curves, baseline: Curves) -> PairedDifference | None:
    """The mean difference along the axis: the area between the curves where the axis is one long."""
    every = [*treatment.values(), *baseline.values()]
    try:
        low, high = _span(every)
        scaled = [
            {seed: Curve(curve.x / (high - low), curve.y) for seed, curve in arm.items()}
            for arm in (treatment, baseline)
        ]
        return area_between(*scaled)
    except PicoLMError:
        return None


def _places(arms: list[Curves]) -> FloatArray | None:
    """Where to compare curves: None, all that they share, where that is most of the places of the shortest one."""
    every = [curve for arm in arms for curve in arm.values()]
    if not every:
        return None
    shared = reduce(np.intersect1d, [curve.x for curve in every])
    if 2 * len(shared) > min(len(curve.x) for curve in every):
        return None
    return np.linspace(*_span(every), _PLACES)


def _span(curves: list[Curve]) -> tuple[float, float]:
    """From where to where all curves go.

    Raises:
        PicoLMError: nowhere.
    """
    low = max((float(curve.x[0]) for curve in curves), default=0.0)
    high = min((float(curve.x[-1]) for curve in curves), default=0.0)
    if not low < high:
        raise PicoLMError("the curves share no stretch of the axis")
    return low, high
