"""The runs that a plan stands for: every arm, size and repetition as a configuration that differs in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from picolm.config.loading import build_config, changed, load_config
from picolm.config.schema import Config
from picolm.errors import PicoLMError
from picolm.experiments.plan import Arm, Patch, Plan
from picolm.model.size import flops_per_token

THE_SIZE = ""
"""The name of the size where there is one only."""

Choice = Mapping[str, Any]
"""Values of tuned keys."""
Choices = Mapping[tuple[str, str], Choice]
"""What the search chose, by arm and size."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """One assignment of seeds.

    Attributes:
        name: `seed0`, or `init0-data1`.
        seeds: the changes of the configuration that it stands for.
        places: for each factor that varies its number, one or two of them.
    """

    name: str
    seeds: Patch
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of an experiment.

    Attributes:
        name: of its directory.
        arm: its way to train.
        size: its size; `THE_SIZE` where there is one.
        repetition: its seeds.
        config: the whole configuration.
        choice: values of tuned keys, of a run of the search; None: a run of the comparison.
        overrides: how the configuration differs from that of the parent, of a fork.
        interventions: what a fork adds.
    """

    name: str
    arm: str
    size: str
    repetition: Repetition
    config: Config
    choice: Choice | None = None
    overrides: Patch = field(default_factory=dict)
    interventions: tuple[str, ...] = ()


class Design:
    """A plan with its base: gives the runs of the search and those of the comparison."""

    def __init__(
        self, plan: Plan, folder: Path, *, parent: Config | None = None, seconds: Mapping[tuple[str, str], float] | None = None
    ) -> None:
        """Build what is common, and refuse arms that do not share what is held equal.

        Args:
            plan: the plan.
            folder: where its file stands, from which `base` is looked for.
            parent: the configuration of the run that arms go on from.
            seconds: of a step, by arm and size, for arms of equal time; None: not measured yet.

        Raises:
            PicoLMError: a change names no key, an arm trains for another number of what is held equal, or the base is
                not there.
        """
        self.plan, self._seconds = plan, seconds
        self._base = _base(plan, folder) if parent is None else parent.model_dump(mode="json")
        self._is_fork = parent is not None
        for arm, size in product(plan.arms, self.sizes):
            self._refuse_unequal(arm, size)

    @property
    def sizes(self) -> list[str]:
        """Names of the sizes, `THE_SIZE` alone where there is one."""
        return list(self.plan.sizes) or [THE_SIZE]

    @property
    def repetitions(self) -> list[Repetition]:
        """All repetitions of the comparison."""
        seeds = self.plan.seeds
        if seeds.numbers is not None:
            return [
                Repetition(f"seed{n}", {f"seeds.{factor}": n for factor in seeds.vary}, (n,)) for n in seeds.numbers
            ]
        found = []
        for places in product(*seeds.crossed.values()):
            chosen = dict(zip(seeds.crossed, places, strict=True))
            name = "-".join(f"{factor}{n}" for factor, n in chosen.items())
            found.append(Repetition(name, {f"seeds.{factor}": n for factor, n in chosen.items()}, places))
        return found

    @property
    def combinations(self) -> list[Choice]:
        """All values of tuned keys that the search tries."""
        grid = {} if self.plan.tune is None else self.plan.tune.grid
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []

    def search(self) -> list[PlannedRun]:
        """The runs of the search: all combinations for every arm and size; none where nothing is tuned.

        Raises:
            PicoLMError: a tuned key is none, or a value is not possible.
        """
        tune = self.plan.tune
        if tune is None:
            return []
        found = []
        for size, arm, choice, n in product(self.sizes, self.plan.arms, self.combinations, tune.seeds):
            repetition = Repetition(f"seed{n}", {f"seeds.{factor}": n for factor in self.plan.seeds.vary}, (n,))
            number = self.combinations.index(choice) + 1
            name = ".".join(part for part in ("search", arm, size, f"choice{number}", repetition.name) if part)
            found.append(self._run(name, arm, size, repetition, {**tune.set, **choice}, choice))
        return found

    def comparison(self, choices: Choices | None = None) -> list[PlannedRun]:
        """The runs of the comparison: repetition by repetition, so that a pair is whole early.

        Args:
            choices: what the search chose; None: nothing, as where nothing is tuned.

        Raises:
            PicoLMError: a change makes no valid configuration.
        """
        found = []
        for repetition, size, arm in product(self.repetitions, self.sizes, self.plan.arms):
            name = ".".join(part for part in (arm, size, repetition.name) if part)
            found.append(self._run(name, arm, size, repetition, (choices or {}).get((arm, size), {}), None))
        return found

    def config(self, arm: str, size: str, more: Patch | None = None) -> Config:
        """The configuration of an arm at a size, with its number of steps, and with further changes."""
        patch = {**self._patch(arm, size), **(more or {})}
        config = self._built(patch, self.plan.arms[arm], f"arm '{arm}'" + (f" at size '{size}'" if size else ""))
        steps = self._steps(arm, size, config)
        return config if steps == config.training.steps else _with_steps(config, steps)

    def _run(
        self, name: str, arm: str, size: str, repetition: Repetition, more: Patch, choice: Choice | None
    ) -> PlannedRun:
        config = self.config(arm, size, {**more, **repetition.seeds})
        overrides = {**self._patch(arm, size), **more, **repetition.seeds, "training.steps": config.training.steps}
        return PlannedRun(
            name, arm, size, repetition, config, choice,
            overrides if self._is_fork else {}, self.plan.arms[arm].with_ if self._is_fork else (),
        )  # fmt: skip

    def _patch(self, arm: str, size: str) -> Patch:
        return {**self.plan.set, **self.plan.sizes.get(size, {}), **self.plan.arms[arm].set}

    def _built(self, patch: Patch, arm: Arm, what: str) -> Config:
        try:
            return changed(self._base, patch, arm.with_)
        except PicoLMError as error:
            raise PicoLMError(f"{what}: {error}") from None

    def _steps(self, arm: str, size: str, config: Config) -> int:
        """How long an arm trains so that it has as much of what is held equal as the baseline."""
        equal = self.plan.equal
        if equal == "steps" or arm == self.plan.control:
            return config.training.steps
        control = self._built(self._patch(self.plan.control, size), self.plan.arms[self.plan.control], "the baseline")
        if equal == "time":
            seconds = self._seconds or {}
            ratio = seconds.get((self.plan.control, size), 1.0) / seconds.get((arm, size), 1.0)
        elif equal == "tokens":
            ratio = _step_tokens(control) / _step_tokens(config)
        else:
            ratio = _step_flops(control) / _step_flops(config)
        return max(1, round(control.training.steps * ratio))

    def _refuse_unequal(self, arm: str, size: str) -> None:
        own = self._built(self._patch(arm, size), self.plan.arms[arm], f"arm '{arm}'").training.steps
        control = self._built(self._patch(self.plan.control, size), self.plan.arms[self.plan.control], "the baseline")
        if own != control.training.steps:
            raise PicoLMError(
                f"arm '{arm}' trains for {own} steps and the baseline for {control.training.steps}: with "
                f"`equal: {self.plan.equal}` the length of arms follows from the baseline's, so leave training.steps out"
            )


def _base(plan: Plan, folder: Path) -> dict[str, Any]:
    target: str | Path = plan.base
    if plan.base.endswith((".yaml", ".yml")) and not Path(plan.base).is_absolute():
        target = folder / plan.base
    return load_config(target).model_dump(mode="json")


def _with_steps(config: Config, steps: int) -> Config:
    values = config.model_dump(mode="json")
    return build_config({**values, "training": {**values["training"], "steps": steps}})


def _step_tokens(config: Config) -> int:
    return config.training.batch_size * config.data.sequence_length


def _step_flops(config: Config) -> int:
    vocab_size = config.model.vocab_size or config.tokenizer.vocab_size
    return _step_tokens(config) * flops_per_token(config.model, vocab_size, config.data.sequence_length)

