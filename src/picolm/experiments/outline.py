"""What a plan comes to: its runs, what arms differ in, what it costs, and what it will not be able to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from picolm.config.difference import Change, difference
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.findings import Cost
from picolm.experiments.measurable import unmeasured
from picolm.experiments.plan import THE_SIZE
from picolm.experiments.statistics.foresight import too_few_seeds
from picolm.experiments.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan, before anything is run.

    Attributes:
        design: gives its runs.
        costs: of one run, by arm and size.
    """

    design: Design
    costs: Mapping[tuple[str, str], Cost]

    @property
    def runs(self) -> list[PlannedRun]:
        """Those of the search, then those of the comparison."""
        return [*self.design.search(), *self.design.comparison()]

    @property
    def total(self) -> Cost:
        """Of all runs; those of a search may have fewer steps."""
        flops, seconds, disk = 0.0, 0.0, 0
        for run in self.runs:
            cost = self.costs[run.arm, run.size]
            share = run.config.training.steps / self.design.config(run.arm, run.size).training.steps
            flops, seconds, disk = flops + cost.flops * share, seconds + cost.seconds * share, disk + cost.disk_bytes
        return Cost(flops, seconds, disk)

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
        elif n_seeds < 2:
            found.append("a single seed has no noise floor, and no verdict can be reached: take 5 or more")
        else:
            secondary = max(1, sum(not one.primary for one in plan.predictions))
            for one in plan.predictions:
                family = 1 if one.primary else secondary
                few = too_few_seeds(n_seeds, one.direction, one.smallest, predictions=family, alpha=1 - plan.confidence)
                if few is not None:
                    found.append(f"{one.measure.words}: {few}")
        config = self.design.config(plan.control, self.design.sizes[0])
        asked = [one.measure for one in plan.predictions] + ([] if plan.tune is None else [plan.tune.measure])
        found += [sentence for one in asked if (sentence := unmeasured(one, config)) is not None]
        if plan.hours is not None and self.total.seconds / plan.at_once > 3600 * plan.hours:
            hours = self.total.seconds / plan.at_once / 3600
            found.append(f"training takes about {hours:.1f} hours, more than the {plan.hours:g} that the plan allows")
        return found

    def plain(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        plan = self.design.plan
        arms = {
            ".".join(part for part in (arm, size) if part): {
                "steps": self.design.config(arm, size).training.steps,
                "differs": {change.key: [change.left, change.right] for change in self.changes(arm, size)},
                "cost_of_a_run": asdict(self.costs[arm, size]),
            }
            for arm, size in self.design.cells
        }
        return {
            "name": plan.name,
            "claim": plan.claim,
            "equal": plan.equal,
            "sweep": None if plan.sweep is None else _asked(plan.sweep),
            "arms": arms,
            "predictions": [_said(self.design, place) for place in range(len(plan.predictions))],
            "runs": [run.name for run in self.runs],
            "total": asdict(self.total),
            "warnings": self.warnings,
        }


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
