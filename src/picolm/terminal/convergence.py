"""Convergence on the terminal: a table for each suite, what goes together, and suites by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from picolm.analysis.settling import Association
from picolm.analysis.tending import Convergence, SuiteConvergence
from picolm.terminal.tables import print_table, printable


def print_convergence(found: Convergence, written: Sequence[Path]) -> None:
    """Print what was found, and where it stands."""
    for suite in found.suites:
        _print_suite(suite, found)
        for association in suite.associations:
            _print(_sentence(association))
    if len(found.suites) > 1:
        _print_sizes(found)
    _print(f"written: {', '.join(map(str, written))}")


def _print_suite(suite: SuiteConvergence, found: Convergence) -> None:
    recipe, facts = found.recipe, suite.facts
    shown = f"{facts['probe']}, {facts['tokens']:,} tokens" if facts["tokens"] else str(facts["probe"])
    title = (
        f"{suite.path}: {recipe.similarity} to step {facts['final_step']:,} on {shown}; "
        f"settled: stays at {recipe.level:g} or above"
    )
    if facts["early_step"] is not None:
        title += f"; early: is there at step {facts['early_step']:,}"
    columns = ["part", "layer", "first", "biased", "chance", "settled", "after", "by", "early"]
    columns += [f"{facts['rank']} first", "last", "of gradients", "last"]
    body = [_cells(row) for row in suite.layers.to_dicts()]
    keep = [at for at in range(len(columns)) if at != 8 or recipe.early_share is not None]
    print_table([columns[at] for at in keep], [[row[at] for at in keep] for row in body], title=printable(title))


def _cells(row: Mapping[str, Any]) -> list[str]:
    unsettled = row["settled_by"] is None
    known = row["similarity_first"] is not None
    return [
        row["part"],
        str(row["layer"]),
        *(_figure(row[name]) for name in ("similarity_first", "biased_first", "biased_chance_first")),
        "never" if unsettled and known else _step(row["settled_step"]),
        _step(row["settled_after"]),
        _step(row["settled_by"]),
        "-" if row["early"] is None else "yes" if row["early"] else "no",
        *(_figure(row[f"{of}_rank_{end}"]) for of in ("weight", "gradient") for end in ("first", "last")),
    ]


def _sentence(association: Association) -> str:
    what = f"{association.part}, {association.n} layers: "
    if association.measure == "spearman":
        pair = f"step of settling and rank of {association.rank_of} at the end: Spearman"
    else:
        pair = f"early, and high rank of {association.rank_of}: Matthews"
    value = "not defined: all layers are alike, or too few" if association.value is None else f"{association.value:.2f}"
    return f"{what}{pair} {value}"


def _print_sizes(found: Convergence) -> None:
    rows = found.sizes.to_dicts()
    columns = ["suite", "part", "parameters", "settled", "median share of training", "mean shortfall", "rank", "last"]
    body = [
        [
            row["suite"],
            row["part"],
            f"{row['parameters']:,}",
            f"{row['settled_layers']} of {row['layers']}",
            *(_figure(row[name]) for name in ("median_settled_share", "mean_shortfall")),
            *(_figure(row[f"weight_rank_{end}"]) for end in ("first", "last")),
        ]
        for row in rows
    ]
    print_table(columns, body, title="by size, parameters of blocks")


def _print(text: str) -> None:
    Console().print(printable(text), highlight=False, markup=False, soft_wrap=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _step(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
