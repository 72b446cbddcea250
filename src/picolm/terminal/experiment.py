"""Experiments for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picolm.terminal.tables import inline, print_table, printable, readable_duration, readable_size


def print_outline(found: Mapping[str, Any]) -> None:
    """Print `experiments.outline.Outline` as plain data."""
    sweep = found["sweep"]
    heading = found["claim"] or "no claim"
    if sweep is not None:
        varied = f"{sweep['points']} points of {', '.join(sweep['keys'])}"
        heading = f"a sweep, {sweep['kind']}: {varied}; best is the {sweep['choose']} {sweep['measure']}"
    print(printable(f"{found['name']}: {heading}"))
    rows, as_it_is = [], "baseline" if sweep is None else "nothing"
    for name, arm in found["arms"].items():
        differs = [f"{key}: {inline(left)} -> {inline(right)}" for key, (left, right) in arm["differs"].items()]
        cost = arm["cost_of_a_run"]
        took = [f"{cost['flops']:.2e}", readable_duration(cost["seconds"]), readable_size(cost["disk_bytes"])]
        rows.append([name, f"{arm['steps']:,}", *took, "; ".join(differs) or as_it_is])
    print_table(["arm" if sweep is None else "point", "steps", "FLOP", "time", "disk", "differs in"], rows)
    if found["predictions"]:
        print_table(
            ["prediction", "of", "expected", "at least"],
            [
                [
                    ("primary: " if one["primary"] else "") + one["measure"],
                    f"{one['arm']} less {one['against']}" + (f", {one['size']}" if one["size"] else ""),
                    one["direction"],
                    f"{one['smallest']:g}",
                ]
                for one in found["predictions"]
            ],
        )
    total = found["total"]
    print(
        f"{len(found['runs'])} runs: {total['flops']:.2e} FLOP, about {readable_duration(total['seconds'])} of "
        f"training (rough: from a short measurement of this device), {readable_size(total['disk_bytes'])} on disk"
    )
    for sentence in found["warnings"]:
        print(f"mind: {printable(sentence)}")


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


_LACKS = {"failed": "failed", "censored": "never reached it"}


def _sentence_on_best(ranking: Mapping[str, Any]) -> str:
    if ranking["best"] is None:
        return "no point has a number of every seed yet"
    if not ranking["as_good"]:
        return f"{ranking['best']} is best; on other seeds the best of many is a little worse than here"
    return (
        f"{ranking['best']} is best, but seeds do not tell it from {', '.join(ranking['as_good'])}; "
        "on other seeds the best of many is a little worse than here"
    )
