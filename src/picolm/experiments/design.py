"""The runs that a plan stands for: every arm, size and repetition as a configuration that differs in nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from picolm.config.loading import build_config, changed, load_config
from picolm.config.schema import Config
from picolm.errors import PicoLMError
from picolm.experiments.plan import THE_SIZE, Patch, Plan
from picolm.model.size import flops_per_token

Choice = dict[str, Any]
"""Values of tuned keys."""

Paces = Mapping[tuple[str, str], float]
"""Seconds of an update, with what happens between updates, by arm and size; only their ratios count."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """One assignment of seeds.

    Attributes:
        name: `seed0`, or `init0-data1`.
        seeds: the changes of the configuration that it stands for.
    """

    name: str
    seeds: Patch


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of an experiment.

    Attributes:
        name: of its directory.
        arm: its way to train.
        size: its size; `THE_SIZE` where there is one.
        config: the whole configuration.
        repetition: its seeds in one word.
        choice: its values of tuned keys.
    """

    name: str
    arm: str
    size: str
    config: Config
    repetition: str
    choice: Choice


class Design:
    """A plan with its base: gives the runs of the search and those of the comparison."""

    def __init__(self, plan: Plan, base: Config, paces: Paces | None = None) -> None:
        """Build what is common, and refuse arms that do not share what is held equal.

        Args:
            plan: the plan.
            base: what all runs begin with: of `base_of`, or the configuration of the run that arms go on from.
            paces: of `equal: time`, for every arm and size (`experiments.pacing`); kept with the plan, so that a resume
                or another machine makes the same runs. Nothing else asks for them.

        Raises:
            PicoLMError: a change names no key, or an arm trains for another number of what is held equal.
        """
        self.plan, self.base = plan, base
        self.paces = None if paces is None or plan.equal != "time" else dict(paces)
        self._base = base.model_dump(mode="json")
        for arm, size in self.cells:
            self._refuse_unequal(arm, size)
        if plan.sweep is not None and not plan.arms:
            # The points are not known yet, but what they may hold is.
            Design(plan.with_points(plan.sweep.probes()), base)

    @property
    def written(self) -> Design:
        """The design of the plan as its author wrote it: without points that Optuna proposed since."""
        if self.plan.sweep is None or self.plan.sweep.optuna is None:
            return self
        return Design(self.plan.with_points(()), self.base)

    @property
    def sizes(self) -> list[str]:
        """Names of the sizes, `THE_SIZE` alone where there is one."""
        return list(self.plan.sizes) or [THE_SIZE]

    @property
    def cells(self) -> list[tuple[str, str]]:
        """All arms and sizes, size by size."""
        return [(arm, size) for size, arm in product(self.sizes, self.plan.arms)]

    @property
    def first(self) -> int:
        """The step after which arms train on their own."""
        return 0 if self.plan.fork is None else self.plan.fork.at

    @property
    def repetitions(self) -> list[Repetition]:
        """All repetitions of the comparison."""
        seeds = self.plan.seeds
        if seeds.numbers is not None:
            return [Repetition(f"seed{n}", {f"seeds.{factor}": n for factor in seeds.vary}) for n in seeds.numbers]
        found = []
        for places in product(*seeds.crossed.values()):
            chosen = dict(zip(seeds.crossed, places, strict=True))
            name = "-".join(f"{factor}{n}" for factor, n in chosen.items())
            found.append(Repetition(name, {f"seeds.{factor}": n for factor, n in chosen.items()}))
        return found

    @property
    def combinations(self) -> list[Choice]:
        """All values of tuned keys that the search tries."""
        grid = {} if self.plan.tune is None else self.plan.tune.grid
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []

    def search(self) -> list[PlannedRun]:
        """The runs of the search: all combinations for every size and every arm that is searched; none without `tune`.

        Raises:
            PicoLMError: a tuned key is none, or a value is not possible.
        """
        tune = self.plan.tune
        if tune is None:
            return []
        found = []
        searched = [name for name, arm in self.plan.arms.items() if arm.tuned_as is None]
        for size, arm, choice, n in product(self.sizes, searched, self.combinations, tune.seeds):
            repetition = Repetition(f"seed{n}", {f"seeds.{factor}": n for factor in self.plan.seeds.vary})
            number = self.combinations.index(choice) + 1
            name = ".".join(part for part in ("search", arm, size, f"choice{number}", repetition.name) if part)
            config = self.config(arm, size, _over(tune.set, choice, repetition.seeds))
            found.append(PlannedRun(name, arm, size, config, repetition.name, choice))
        return found

    def comparison(self, choices: Mapping[tuple[str, str], Choice] | None = None) -> list[PlannedRun]:
        """The runs of the comparison, ordered so that pairs are whole early.

        Args:
            choices: what a search chose, by arm and size; None: before it chose anything.

        Raises:
            PicoLMError: a change makes no valid configuration.
        """
        found = []
        for (place, repetition), size, arm in product(enumerate(self.repetitions), self.sizes, self.plan.arms):
            own = self.plan.arms[arm]
            if own.seeds is not None and place >= own.seeds:
                continue
            name = ".".join(part for part in (arm, size, repetition.name) if part)
            chosen = {} if choices is None else choices[own.tuned_as or arm, size]
            config = self.config(arm, size, _over(chosen, repetition.seeds))
            found.append(PlannedRun(name, arm, size, config, repetition.name, chosen))
        return found

    def config(self, arm: str, size: str, more: Patch | None = None) -> Config:
        """The configuration of an arm at a size, with its number of steps, and with further changes.

        Raises:
            PicoLMError: a change makes no valid configuration, or time is to be equal and was not measured.
        """
        config = self._built(arm, size, more or {})
        if self.plan.equal == "steps":
            return config
        if self.plan.sweep is None and arm == self.plan.control:
            return config
        control = self.reference(size, more)
        length = (control.training.steps - self.first) * self._relative_pace(arm, size, config, control)
        return _with_steps(config, self.first + max(1, round(length)))

    def _relative_pace(self, arm: str, size: str, config: Config, control: Config) -> float:
        """How many updates an arm makes for each of the baseline's."""
        if self.plan.equal == "tokens":
            return _step_tokens(control) / _step_tokens(config)
        if self.plan.equal == "flops":
            return _step_flops(control) / _step_flops(config)
        try:
            paces = self.paces or {}
            ratio = paces[self.plan.control, size] / paces[arm, size]
        except KeyError:
            raise PicoLMError(
                f"`equal: time` needs to know how long a step of arm '{arm}' takes, which short runs measure: "
                "`picolm experiment plan` without --quick makes them"
            ) from None
        own = self._built(arm, size, {}), self._built(self.plan.control, size, {})
        # Where a search changes the batch, the step takes proportionally long.
        scale = _step_tokens(own[0]) / _step_tokens(config) * _step_tokens(control) / _step_tokens(own[1])
        return ratio * scale

    def reference(self, size: str, more: Patch | None = None) -> Config:
        """What arms of a size are compared with: the baseline; of a sweep, what is there before a point changes it."""
        if self.plan.sweep is None:
            return self._built(self.plan.control, size, more or {})
        try:
            return changed(self._base, _over(self.plan.set, self.plan.sizes.get(size, {}), more or {}))
        except PicoLMError as error:
            raise PicoLMError((f"size '{size}'" if size else "set") + f": {error}") from None

    def _built(self, arm: str, size: str, more: Patch) -> Config:
        patch = _over(self.plan.set, self.plan.sizes.get(size, {}), self.plan.arms[arm].set, more)
        try:
            return changed(self._base, patch, self.plan.arms[arm].with_)
        except PicoLMError as error:
            raise PicoLMError(self._called(arm) + (f" at size '{size}'" if size else "") + f": {error}") from None

    def _called(self, arm: str) -> str:
        if self.plan.sweep is None:
            return f"arm '{arm}'"
        return f"the point {', '.join(f'{key}={value}' for key, value in self.plan.arms[arm].set.items())}"

    def _refuse_unequal(self, arm: str, size: str) -> None:
        own, control = self._built(arm, size, {}).training.steps, self.reference(size).training.steps
        # A sweep compares nothing: how long to train may be what it asks.
        if own != control and not (self.plan.sweep is not None and self.plan.equal == "steps"):
            raise PicoLMError(
                f"{self._called(arm)} trains for {own} steps and the baseline for {control}: the length of arms "
                f"follows from the baseline's (`equal: {self.plan.equal}`), so leave training.steps out"
            )


def _over(*patches: Patch) -> Patch:
    """Patches one over the other, key by key: whether they say `model: {d_ffn: 64}` or `model.d_ffn: 64`."""
    merged: Patch = {}
    for patch in patches:
        for key, value in _leaves(patch):
            # Last in place too: another kind of a section comes before what belongs to it.
            merged.pop(key, None)
            merged[key] = value
    return merged


def _leaves(patch: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sorted(patch.items(), key=lambda item: item[0] != "kind"):
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def base_of(plan: Plan, folder: Path) -> Config:
    """The configuration that a plan without a fork begins with.

    Args:
        plan: the plan.
        folder: where its file stands, from which `base` is looked for.

    Raises:
        PicoLMError: there is no such preset or file.
    """
    assert plan.base is not None, "a fork brings its parent's configuration"
    return load_config(folder / plan.base if plan.base.endswith((".yaml", ".yml")) else plan.base)


def _with_steps(config: Config, steps: int) -> Config:
    values = config.model_dump(mode="json")
    return build_config({**values, "training": {**values["training"], "steps": steps}})


def _step_tokens(config: Config) -> int:
    return config.training.batch_size * config.data.sequence_length


def _step_flops(config: Config) -> int:
    vocab_size = config.model.vocab_size or config.tokenizer.vocab_size
    return _step_tokens(config) * flops_per_token(config.model, vocab_size, config.data.sequence_length)
