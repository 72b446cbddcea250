"""What a plan comes to: its runs, what arms differ in, what it costs, and what it will not be able to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from picolm.config.difference import Change, difference
from picolm.experiments.costing import Costing, makespan
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.findings import Cost
from picolm.experiments.measurable import unmeasured
from picolm.experiments.plan import THE_SIZE, Plan, Prediction
from picolm.experiments.statistics.foresight import too_few_seeds
from picolm.experiments.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan, before anything is run.

    Attributes:
        design: gives its runs.
        costings: of every arm and size.
        at_once: how many runs at the same time.
    """

    design: Design
    costings: Mapping[tuple[str, str], Costing]
    at_once: int = 1

    @property
    def runs(self) -> list[PlannedRun]:
        """Those of the search, then those of the comparison."""
        return [*self.design.search(), *self.design.comparison()]

    @property
    def measured(self) -> bool:
        """Whether short runs showed what the runs take; else their time is a rough figure."""
        return all(costing.measured for costing in self.costings.values())

    def cost(self, run: PlannedRun) -> Cost:
        """Of one run."""
        return self.costings[run.arm, run.size].cost(run.config, self.design.first)

    @property
    def total(self) -> Cost:
        """Of all runs, one after another."""
        costs = [self.cost(run) for run in self.runs]
        return Cost(
            flops=sum(cost.flops for cost in costs),
            seconds=sum(cost.seconds for cost in costs),
            disk_bytes=sum(cost.disk_bytes for cost in costs),
        )

    @property
    def wall_seconds(self) -> float:
        """From the first start to the last end, with as many at once as are wanted; the search goes before the rest."""
        phases = (self.design.search(), self.design.comparison())
        return sum(makespan([self.cost(run).seconds for run in phase], self.at_once) for phase in phases)

    def changes(self, arm: str, size: str) -> list[Change]:
        """What an arm differs in from the baseline at a size: nothing else may, and this shows that nothing does.

        A point of a sweep is compared with what is there before a point changes it.
        """
        control, own = self.design.reference(size), self.design.config(arm, size)
        return difference(control.model_dump(mode="json"), own.model_dump(mode="json"))

    @property
    def warnings(self) -> list[str]:
        """What the plan will not be able to tell, one sentence each."""
        plan, n_seeds = self.design.plan, self.design.plan.seeds.independent
        found = []
        if plan.fork is not None:
            found.append(
                f"all arms go on from {plan.fork.run}: what differs between its forks says nothing about other pasts, "
                "so repetitions are no replicates of the whole training"
            )
        if plan.sweep is not None:
            found += _told_of_sweep(plan.sweep, n_seeds)
        elif n_seeds < 2 and plan.predictions:
            found.append("a single seed has no noise floor, and no verdict can be reached: take 5 or more")
        else:
            secondary = max(1, sum(not one.primary for one in plan.predictions))
            for one in plan.predictions:
                family = 1 if one.primary else secondary
                n, alpha = plan.n_pairs(one), 1 - plan.confidence
                few = too_few_seeds(n, one.direction, one.smallest, predictions=family, alpha=alpha)
                if few is not None:
                    found.append(f"{_about(plan, one)}: {few}")
        config = self.design.config(plan.control, self.design.sizes[0])
        asked = [one.measure for one in (*plan.predictions, plan.tune, plan.sweep) if one is not None]
        wanted = {quantity.words: quantity for quantity in (*asked, *plan.show)}
        found += [said for quantity in wanted.values() if (said := unmeasured(quantity, config, plan.analyze))]
        if plan.hours is not None and (hours := self.wall_seconds / 3600) > plan.hours:
            found.append(f"the runs take about {hours:.1f} hours, more than the {plan.hours:g} that the plan allows")
        return found

    def plain(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        plan = self.design.plan
        arms = {".".join(part for part in cell if part): self._plain_cell(*cell) for cell in self.design.cells}
        return {
            "name": plan.name,
            "claim": plan.claim,
            "equal": plan.equal,
            "sweep": None if plan.sweep is None else _asked(plan.sweep),
            "arms": arms,
            "predictions": [_said(self.design, place) for place in range(len(plan.predictions))],
            "runs": [run.name for run in self.runs],
            "total": asdict(self.total),
            "at_once": self.at_once,
            "wall_seconds": self.wall_seconds,
            "measured": self.measured,
            "warnings": self.warnings,
        }

    def _plain_cell(self, arm: str, size: str) -> dict[str, Any]:
        config, costing = self.design.config(arm, size), self.costings[arm, size]
        return {
            "steps": config.training.steps,
            "differs": {change.key: [change.left, change.right] for change in self.changes(arm, size)},
            "cost_of_a_run": asdict(costing.cost(config, self.design.first)),
            "coefficients": costing.plain(),
        }


def _about(plan: Plan, prediction: Prediction) -> str:
    """Which prediction a sentence is about."""
    size = f" at {prediction.size}" if prediction.size else " over sizes" if prediction.grows else ""
    return f"{prediction.measure.words} of {plan.treatment(prediction)}{size}"


def _asked(sweep: Sweep) -> dict[str, Any]:
    return {
        "kind": sweep.kind,
        "points": sweep.n_points,
        "keys": sweep.keys,
        "measure": sweep.measure.words,
        "choose": sweep.choose,
    }


def _told_of_sweep(sweep: Sweep, n_seeds: int) -> list[str]:
    found = []
    if n_seeds < 2:
        found.append("a single seed cannot tell points apart that differ by less than seeds do: take 2 or more")
    if sweep.optuna is not None:
        found.append("Optuna proposes points as runs end: those shown are drawn at random, to tell what it may cost")
    return found


def _said(design: Design, place: int) -> dict[str, Any]:
    plan = design.plan
    one = plan.predictions[place]
    return {
        "primary": one.primary,
        "measure": one.measure.words,
        "arm": plan.treatment(one),
        "against": one.against or plan.control,
        "direction": one.direction,
        "smallest": one.smallest,
        "size": "all, in trend" if one.grows else one.size or THE_SIZE,
        "says": one.says,
    }
