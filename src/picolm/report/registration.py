"""The plan of an experiment as its page tells it: what was registered, what differs, what it took; what was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from picolm.experiments.findings import Cost, Findings, PlanVersion
from picolm.experiments.plan import Plan, Seeds
from picolm.report import numbers
from picolm.report.markup import Markup, data_table, definitions, element, join

_COSTS: tuple[tuple[str, Callable[[Cost], float], Callable[[float], str]], ...] = (
    ("Training", lambda cost: cost.flops, numbers.flops),
    ("Time of all processes", lambda cost: cost.seconds, numbers.duration),
    ("Disk", lambda cost: cost.disk_bytes, numbers.size),
)


def plan_parts(findings: Findings) -> list[Markup]:
    """Arms, seeds and sizes; what arms differ in; what was chosen; forecast against took."""
    return [
        definitions(_facts(findings)),
        *_titled("What the arms differ in", _differences(findings)),
        *_titled("What the search chose", _choices(findings.choices)),
        *_titled("Forecast and took", _costs(findings)),
        *_titled("Versions of the plan", _versions(findings.versions) if len(findings.versions) > 1 else Markup()),
    ]


def deviations(findings: Findings) -> Markup:
    """Versions of the plan that were written after runs had begun."""
    changed = findings.deviations
    if not changed:
        return Markup()
    said = "The plan was changed after runs had begun" + (f", {len(changed)} times." if len(changed) > 1 else ".")
    return element(
        "div",
        element("h3", "Deviations from the plan"),
        element("p", said),
        _versions(changed),
        class_="alert",
    )


def warnings(findings: Findings) -> Markup:
    """What a reader must know."""
    if not findings.warnings:
        return Markup()
    listed = element("ul", *(element("li", warning) for warning in findings.warnings))
    return element("div", element("h3", "Mind"), listed, class_="alert")


def _versions(versions: Sequence[PlanVersion]) -> Markup:
    rows = [
        [
            _when(version),
            element("code", version.digest[:12], title=version.digest),
            join(element("p", change) for change in version.changes) or "the first",
            _begun(version.after_runs),
        ]
        for version in versions
    ]
    return data_table(("Written", "Hash", "What changed", "By then"), rows)


def _titled(title: str, part: Markup) -> list[Markup]:
    return [element("h3", title), part] if part else []


def _facts(findings: Findings) -> Iterator[tuple[str, object]]:
    plan = findings.plan
    others = ", ".join(plan.treatments)
    yield "arms", f"{plan.control} (baseline)" + (f", {others}" if others else "")
    if plan.sizes:
        yield "sizes", ", ".join(plan.sizes)
    yield "seeds", _seeds(plan.seeds)
    yield "held equal", plan.equal
    yield "base", plan.base if plan.base is not None else "the parent's configuration"
    if findings.lineage is not None:
        yield "goes on from", f"{findings.lineage.run}, step {numbers.whole(findings.lineage.at)}"
        yield "parent's hash", element("code", findings.lineage.config_hash)
    yield "intervals", numbers.percent(plan.confidence)
    if plan.tune is not None:
        yield "search", _search(plan)
    if findings.versions:
        latest = findings.versions[-1]
        yield (
            "hash",
            element("span", element("code", latest.digest[:12]), element("code", latest.digest, class_="full")),
        )
        yield "registered", _registered(findings.versions)


def _registered(versions: tuple[PlanVersion, ...]) -> str:
    first = f"{_when(versions[0])}, before the first run"
    if len(versions) == 1:
        return first
    return f"{first}; this version {_when(versions[-1])}, {_begun(versions[-1].after_runs)}"


def _begun(runs: int) -> str:
    return "no run had begun" if runs == 0 else "1 run had begun" if runs == 1 else f"{runs} runs had begun"


def _when(version: PlanVersion) -> str:
    return version.written.replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC")


def _seeds(seeds: Seeds) -> str:
    if seeds.numbers is None:
        crossed = " \u00d7 ".join(f"{name} {_listed(numbers_)}" for name, numbers_ in seeds.crossed.items())
        return f"{crossed}, crossed: {seeds.independent} independent"
    return f"{_listed(seeds.numbers)}, of {', '.join(seeds.vary)}"


def _listed(seeds: tuple[int, ...]) -> str:
    is_range = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if is_range else ", ".join(map(str, seeds))


def _search(plan: Plan) -> str:
    assert plan.tune is not None, "asked of a plan with a search"
    grid = "; ".join(f"{key} in {', '.join(map(str, values))}" for key, values in plan.tune.grid.items())
    return f"{grid}; {plan.tune.choose} {plan.tune.measure.words}, on seeds {_listed(plan.tune.seeds)}"


def _differences(findings: Findings) -> Markup:
    rows = [
        [where, element("code", key), written(baseline), written(own)]
        for where, keys in findings.differs.items()
        for key, (baseline, own) in keys.items()
    ]
    return data_table(("Arm", "Key", f"In {findings.plan.control}", "In this arm"), rows) if rows else Markup()


def _choices(choices: Mapping[str, Mapping[str, object]]) -> Markup:
    rows = [
        [where, element("code", key), written(value)]
        for where, chosen in choices.items()
        for key, value in chosen.items()
    ]
    return data_table(("Arm", "Key", "Chosen"), rows) if rows else Markup()


def written(value: object) -> str:
    """Write a value of a configuration."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {written(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value)) or "none"
    return "none" if value is None else str(value)


def _costs(findings: Findings) -> Markup:
    forecast, took = findings.forecast, findings.took
    rows = []
    for name, of, say in _COSTS:
        expected = None if forecast is None else of(forecast)
        ratio = f"{of(took) / expected:.2f}" if expected else ""
        rows.append([name, "not made" if expected is None else say(expected), say(of(took)), ratio])
    return data_table(("Of all runs", "Forecast", "Took", "Took / forecast"), rows, (1, 2, 3))
