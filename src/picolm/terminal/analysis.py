"""Analyses on the terminal: what was found, and what can be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console

from picolm.analysis.metric import Metric
from picolm.analysis.pipeline import Analysis
from picolm.runs.tables import Measured
from picolm.terminal.tables import print_table, printable


def print_analysis(analysis: Analysis, rows: Sequence[Measured]) -> None:
    """Print each metric at each kind of site, averaged over layers and heads, at its first and last step."""
    groups: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for row in rows:
        against = "" if row.against is None else _rule(analysis, row.against)
        place = _kind(row.site or ""), row.metric, " ".join(filter(None, (row.probe, against)))
        groups.setdefault(place, {}).setdefault(row.step, []).append(row.value)
    body = []
    for (site, metric, shown), by_step in groups.items():
        first, last = min(by_step), max(by_step)
        count = len(by_step[last])
        body.append(
            [site, metric, shown, str(count), str(first), _mean(by_step[first]), str(last), _mean(by_step[last])]
        )
    title = printable(f"{analysis.source.path}: means over layers and heads")
    columns = ["site", "metric", "on", "values", "first step", "mean", "last step", "mean"]
    keep = [index for index in range(len(columns)) if index != 2 or any(row[2] for row in body)]
    print_table([columns[at] for at in keep], [[row[at] for at in keep] for row in body], title=title)
    where = f"{len(rows):,} values of {len({row.step for row in rows})} steps in {analysis.folder}"
    Console().print(where, highlight=False, markup=False, soft_wrap=True)


def print_metrics(metrics: Sequence[Metric]) -> None:
    """Print all metrics, by what they take."""
    for takes in dict.fromkeys(one.takes for one in metrics):
        own = [[one.name, one.summary] for one in metrics if one.takes == takes]
        print_table(["metric", "means"], own, title=f"take {takes.replace('_', ' ')}")


def print_sites(target: str, sites: Mapping[str, Sequence[str]]) -> None:
    """Print the kinds of sites of a target, with stars for numbers."""
    body = [[name, kind] for kind, names in sites.items() for name in names]
    print_table(["site", "is"], body, title=printable(f"sites of {target}"))


def _kind(site: str) -> str:
    return ".".join("*" if part.rstrip(")").isdecimal() else part for part in site.split("."))


def _rule(analysis: Analysis, against: str) -> str:
    comparison = analysis.measuring.comparison
    return f"against {against}" if comparison.is_fixed else f"against {comparison.described}"


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{math.fsum(known) / len(known):.4g}" if known else "-"
