"""Arms side by side where nothing is claimed: what each comes to in the mean, and how far its seeds are apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from picolm.experiments.findings import Findings, RunRecord
from picolm.report import numbers
from picolm.report.markup import Markup, data_table, element


def arm_table(findings: Findings) -> Markup:
    """A row for each arm and size, a column for each number that runs have: mean, standard deviation over seeds, seeds.

    Args:
        findings: as far as they are; censored numbers have no mean and are counted alone.
    """
    words = list(dict.fromkeys(word for run in findings.runs for word in run.values))
    if not words:
        return Markup()
    cells = dict.fromkeys((run.arm, run.size) for run in findings.runs)
    has_sizes = any(size for _, size in cells)
    head: list[str] = [
        "Arm",
        *(["Size"] if has_sizes else []),
        *(element("span", w, class_="measure") for w in words),
    ]
    rows = []
    for arm, size in cells:
        own = [run for run in findings.runs if (run.arm, run.size) == (arm, size)]
        rows.append([arm, *([size] if has_sizes else []), *(_mean(own, word) for word in words)])
    note = "Mean over seeds \u00b1 their standard deviation, and how many there are. None of it was predicted."
    return element("div", data_table(head, rows, range(1 + has_sizes, len(head))), element("p", note, class_="note"))


def _mean(runs: Sequence[RunRecord], word: str) -> str:
    found = [run.values[word] for run in runs if word in run.values]
    reached = [number.value for number in found if not number.censored]
    censored = len(found) - len(reached)
    late = f", {censored} not reached" if censored else ""
    if not reached or censored:
        return f"of {len(found)}{late}" if found else ""
    mean = statistics.fmean(reached)
    if len(reached) < 2:
        return f"{numbers.exact(mean, numbers.decimals(abs(mean) / 100))} (1)"
    sd = statistics.stdev(reached)
    digits = numbers.decimals(sd if sd > 0 else abs(mean) / 100)
    return f"{numbers.exact(mean, digits)} \u00b1 {numbers.exact(sd, digits)} ({len(reached)})"
