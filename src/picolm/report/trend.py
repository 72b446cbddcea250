"""The effect at each size, and the slope through these points."""

from __future__ import annotations

import math

from picolm.experiments.findings import Findings
from picolm.experiments.statistics.interaction import Interaction
from picolm.report import numbers
from picolm.report.figures import LOGARITHMIC_STEPS, Figure, Trace, View
from picolm.report.markup import label
from picolm.report.series import Series


def trend_figures(findings: Findings) -> list[Figure]:
    """A figure for each prediction that an effect grows."""
    figures = []
    for place, judged in enumerate(findings.judged):
        if (found := judged.interaction) is None:
            continue
        traces = [Trace("mean effect", Series(found.sizes, list(found.effects)), "series-1", ".4~g", marked=True)]
        if len(found.sizes) > 2:
            traces.append(Trace("slope", _line(found), "series-2", ".4~g", dash="dash"))
        across = {
            **LOGARITHMIC_STEPS,
            "title": {"text": "parameters"},
            "tickmode": "array",
            "tickvals": list(found.sizes),
            "ticktext": [numbers.count(size) for size in found.sizes],
        }
        up = {"title": {"text": f"effect on {label(judged.prediction.measure.words)}"}, "zeroline": True}
        view = View("Effects", traces, {**up, "rangemode": "tozero"}, across)
        figures.append(Figure(f"trend-{place}", f"{judged.arm} against {judged.against}: effect by size", [view]))
    return figures


def _line(found: Interaction) -> Series:
    """The least-squares line per tenfold parameters, which goes through the mean of the points."""
    logs = [math.log10(size) for size in found.sizes]
    middle, height = sum(logs) / len(logs), sum(found.effects) / len(found.effects)
    return Series(found.sizes, [height + found.estimate.value * (x - middle) for x in logs])
