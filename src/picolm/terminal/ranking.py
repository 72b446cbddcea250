"""The points of a sweep for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picolm.terminal.tables import inline, print_table

_LACKS = {"failed": "failed", "censored": "never reached it"}


def print_rankings(found: Sequence[Mapping[str, Any]]) -> None:
    """Print each `experiments.ranking.Ranking` as plain data."""
    for ranking in found:
        print_table(
            ["point", ranking["measure"], "sd", "seeds", "behind the best", "values"],
            [_ranked_row(one, ranking["best"]) for one in ranking["points"]],
            title=f"size {ranking['size']}" if ranking["size"] else None,
        )
        print(_sentence_on_best(ranking))


def _ranked_row(one: Mapping[str, Any], best: str | None) -> list[str]:
    mean, sd = ("-" if number is None else f"{number:.4f}" for number in (one["mean"], one["sd"]))
    behind = "best" if one["arm"] == best else "-"
    if one["behind"] is not None:
        behind = f"{one['behind']:.4f}"
        if one["interval"] is not None:
            behind += " ({:.4f} to {:.4f})".format(*one["interval"])
    lacks = "".join(f", {one[kind]} {said}" for kind, said in _LACKS.items() if one[kind])
    values = "; ".join(f"{key}: {inline(value)}" for key, value in one["point"].items())
    return [one["arm"], mean, sd, f"{one['n']} of {one['n_planned']}{lacks}", behind, values]


def _sentence_on_best(ranking: Mapping[str, Any]) -> str:
    if ranking["best"] is None:
        return "no point has a number of every seed yet"
    if not ranking["as_good"]:
        return f"{ranking['best']} is best; on other seeds the best of many is a little worse than here"
    return (
        f"{ranking['best']} is best, but seeds do not tell it from {', '.join(ranking['as_good'])}; "
        "on other seeds the best of many is a little worse than here"
    )
