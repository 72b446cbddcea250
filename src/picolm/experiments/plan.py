"""A plan: the claim, what is predicted, and the arms, seeds and sizes of the runs that are to show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from picolm.config.section import Count, Positive, PositiveReal, Section, Seed, Strings
from picolm.experiments.asked import Asked
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.quantity import Quantity
from picolm.experiments.space import Point
from picolm.experiments.sweep import Sweep

THE_SIZE = ""
"""The name of the size where there is one only."""

Patch = dict[str, Any]
"""Changes of a configuration by dotted key: `{training.steps: 300}`."""
Factor = Literal["init", "data", "dropout", "sampling", "interventions"]
FACTORS: tuple[Factor, ...] = ("init", "data", "dropout", "sampling", "interventions")
Equal = Literal["steps", "tokens", "flops", "time"]
Direction = Literal["higher", "lower", "same"]


def _numbers(value: object) -> object:
    """`5` stands for the seeds 0 to 4."""
    return tuple(range(value)) if type(value) is int else value


Numbers = Annotated[tuple[Seed, ...], BeforeValidator(_numbers), Field(min_length=1)]


class Arm(Section):
    """One way to train: declared changes and interventions, and nothing else."""

    set: Patch = Field({}, description="changes of the base configuration")
    with_: Strings = Field((), alias="with", description="interventions, as `--with` has them")
    seeds: Positive | None = Field(None, description="how many repetitions it has, the first ones; null: all")
    tuned_as: str | None = Field(None, description="another arm: no search of its own, but what that one's chose")


class Seeds(Section):
    """Which random numbers differ between repetitions.

    One list: the repetition n has the number n for every factor of `vary`. A list for each of two factors: these are
    crossed, so that what each does by itself is known.
    """

    numbers: Numbers | None = Field(None, description="a list, or how many; each is one repetition")
    vary: tuple[Factor, ...] = Field(
        FACTORS, description="what differs between repetitions; the rest is as in the base"
    )
    init: Numbers | None = Field(None, description="seeds of initial weights, to be crossed with another factor")
    data: Numbers | None = Field(None, description="seeds of the data's order, likewise")
    dropout: Numbers | None = Field(None, description="seeds of dropout masks, likewise")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"numbers": value} if type(value) is int or isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_way(self) -> Seeds:
        if self.numbers is not None and self.crossed:
            raise ValueError(f"give `numbers`, or factors to cross ({', '.join(self.crossed)}), not both")
        if self.numbers is None and not 1 <= len(self.crossed) <= 2:
            raise ValueError("give `numbers`, or lists for one or two of init, data and dropout")
        for name, numbers in {"numbers": self.numbers, **self.crossed}.items():
            if numbers is not None and len(set(numbers)) < len(numbers):
                raise ValueError(f"{name} names a seed twice")
        if self.numbers is not None and not self.vary:
            raise ValueError("vary is empty: repetitions that do not differ show no noise")
        return self

    @property
    def crossed(self) -> dict[str, tuple[int, ...]]:
        """Factors that are crossed, and their seeds."""
        factors = {"init": self.init, "data": self.data, "dropout": self.dropout}
        return {name: numbers for name, numbers in factors.items() if numbers is not None}

    @property
    def independent(self) -> int:
        """How many repetitions share nothing: of crossed factors, as many as the one with the fewest seeds has."""
        if self.numbers is not None:
            return len(self.numbers)
        varied = [len(numbers) for numbers in self.crossed.values() if len(numbers) > 1]
        return min(varied, default=1)


class Fork(Section):
    """A common past: every arm goes on from one run."""

    run: str = Field(description="the parent; a path beside the plan, or from where the command runs")
    at: Count = Field(description="a step at which it has a state")


class Tune(Section):
    """The same search budget for every arm and size, on seeds apart from those of the comparison."""

    grid: dict[str, tuple[Any, ...]] = Field(
        description="for each key its values; all combinations are tried", min_length=1
    )
    seeds: Numbers = Field((1000,), description="of the search; none of them may be a seed of the comparison")
    measure: Quantity = Field(Quantity(validation="loss"), description="what chooses")
    choose: Literal["lowest", "highest"] = Field("lowest", description="which value of it is best")
    set: Patch = Field({}, description="changes for the runs of the search alone, such as fewer steps")

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("grid"), Mapping):
            grid = {key: tuple(item) if isinstance(item, list) else item for key, item in value["grid"].items()}
            return {**value, "grid": grid}
        return value


class Prediction(Section):
    """What is expected of one number: a direction, and the smallest effect that matters."""

    says: str = Field("", description="in words")
    measure: Quantity = Field(description="which number of a run")
    arm: str | None = Field(None, description="the treatment; null: the only arm beside the baseline")
    against: str | None = Field(None, description="the arm that it is compared with; null: the baseline")
    direction: Direction = Field(description="of treatment less baseline; same: closer than the smallest effect")
    smallest: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        0.0,
        description="smallest effect that matters, in its unit; of `reaches`: a share, 0.05 is 5 % sooner or later; "
        "of `grows`: between two sizes, or per tenfold",
    )
    size: str | None = Field(None, description="at which size; null: the only one")
    grows: bool = Field(False, description="the effect itself is predicted to change with size (arm x size)")
    primary: bool = Field(False, description="whether the claim stands or falls with it; one prediction is")

    @model_validator(mode="after")
    def _possible(self) -> Prediction:
        if self.direction == "same" and self.smallest == 0.0:
            raise ValueError("direction `same` needs `smallest`: no two numbers are quite the same")
        if self.measure.reaches is not None and self.direction == "lower" and self.smallest >= 1.0:
            raise ValueError(f"`smallest` of `reaches` is a share, such as 0.05 for 5 % sooner: not {self.smallest:g}")
        if self.grows and self.size is not None:
            raise ValueError("`grows` compares the effect between sizes: leave `size` out")
        return self


def arms_of(points: Sequence[Point]) -> dict[str, Arm]:
    """The arms that points of a sweep are: `p001`, `p002`, ... in their order.

    A number, not the values: values have signs that no file should be called by, may be long, and one more key would
    rename what ran already. Which values it stands for is in every table.
    """
    return {arm_of(number): Arm(set=point) for number, point in enumerate(points, start=1)}


def arm_of(number: int) -> str:
    """The name of a point, which are counted from 1."""
    return f"p{number:03d}"


def _arms_of_sweep(given: dict[str, Any]) -> dict[str, Arm]:
    """The arms of a plan that names none."""
    sweep: Sweep | None = given.get("sweep")
    return {} if sweep is None else arms_of(sweep.points())


class Plan(Section):
    """An experiment, written down before its first run."""

    experiment: Literal[1] = Field(description="the format of the plan: 1")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(description="of its folder")
    claim: str = Field("", description="the hypothesis in words; empty: a sweep, which claims nothing")
    base: str | None = Field(None, description="a preset, or a YAML file beside the plan")
    set: Patch = Field({}, description="changes for all runs")
    sizes: dict[str, Patch] = Field({}, description="models of several sizes: changes by name; empty: one size")
    sweep: Sweep | None = Field(None, description="points to be tried and ranked, in place of arms and a claim")
    arms: dict[str, Arm] = Field(
        default_factory=_arms_of_sweep,
        description="ways to train by name, the baseline among them; of a sweep, its points",
    )
    baseline: str | None = Field(None, description="the arm that others are compared with; null: the first")
    seeds: Seeds = Field(description="repetitions")
    equal: Equal = Field("steps", description="what arms of a size share: steps, tokens, flops or time")
    fork: Fork | None = Field(None, description="a common past of all arms")
    tune: Tune | None = Field(None, description="a search before the comparison")
    analyze: tuple[Asked, ...] = Field((), description="what is measured of each run that has ended")
    show: tuple[Quantity, ...] = Field((), description="numbers and curves that are shown beside those of predictions")
    predictions: tuple[Prediction, ...] = Field((), description="what is expected, one of them primary")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="of intervals")
    at_once: Positive = Field(1, description="runs that train at the same time on one machine")
    hours: PositiveReal | None = Field(None, description="what it may take, to be warned before it takes more")
    slurm: Slurm | None = Field(None, description="what each run asks a Slurm cluster for")

    @model_validator(mode="after")
    def _parts_agree(self) -> Plan:
        if (self.base is None) == (self.fork is None):
            raise ValueError("give `base`, what all runs begin with, or `fork`, a run that all of them go on from")
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline '{self.baseline}' is none of the arms: {', '.join(self.arms)}")
        for name in (*self.arms, *self.sizes):
            if not name or not all(letter.isalnum() or letter in "._-" for letter in name):
                raise ValueError(f"'{name}' cannot name an arm or a size: use letters, digits, '.', '_' and '-'")
        self._check_arms(self.sweep)
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        self._check_claim()
        if self.tune is not None:
            self._check_tune(self.tune)
        if self.fork is not None and self.sizes:
            raise ValueError("arms that share a past have the size of their parent: leave `sizes` out")
        for place, one in enumerate(self.predictions):
            self._check_prediction(place, one)
        return self

    def _check_claim(self) -> None:
        if self.predictions and not self.claim:
            raise ValueError("there are predictions but no `claim`: say in words what they would show")
        if self.claim and not self.predictions:
            raise ValueError("there is a claim but no prediction: say which number would show it")
        primary = sum(one.primary for one in self.predictions)
        if self.predictions and primary != 1:
            raise ValueError(f"one prediction must be primary, not {primary}")

    def _check_arms(self, sweep: Sweep | None) -> None:
        if sweep is None:
            if not self.arms:
                raise ValueError("arms must be given, ways to train to be compared, or `sweep`, points to be ranked")
            return
        for name in ("claim", "baseline", "tune"):
            if getattr(self, name):
                raise ValueError(f"a sweep ranks points and compares nothing: leave `{name}` out")
        if self.arms != arms_of(sweep.points()):
            raise ValueError("the arms of a sweep are its points: leave `arms` out")
        varied = self.seeds.vary if self.seeds.numbers is not None else tuple(self.seeds.crossed)
        for key in sweep.keys:
            if key == "seeds" or (key.removeprefix("seeds.") in varied and key.startswith("seeds.")):
                raise ValueError(f"the sweep varies {key}, which `seeds` sets: leave one of them out")

    def _check_arm(self, name: str, arm: Arm) -> None:
        if arm.seeds is not None:
            if self.seeds.numbers is None:
                raise ValueError(f"arms.{name}.seeds: seeds of two factors are crossed in all arms alike")
            if arm.seeds > len(self.seeds.numbers):
                raise ValueError(
                    f"arms.{name}.seeds is {arm.seeds}, but there are {len(self.seeds.numbers)} repetitions"
                )
        if arm.tuned_as is None:
            return
        if self.tune is None:
            raise ValueError(f"arms.{name}.tuned_as: there is no `tune`")
        if arm.tuned_as not in self.arms:
            raise ValueError(f"arms.{name}.tuned_as: '{arm.tuned_as}' is none of the arms: {', '.join(self.arms)}")
        if self.arms[arm.tuned_as].tuned_as is not None or arm.tuned_as == name:
            raise ValueError(f"arms.{name}.tuned_as: '{arm.tuned_as}' has no search of its own")

    def _check_tune(self, tune: Tune) -> None:
        compared = {*(self.seeds.numbers or ()), *(n for numbers in self.seeds.crossed.values() for n in numbers)}
        shared = sorted(compared & {*tune.seeds})
        if shared:
            raise ValueError(f"tune.seeds and seeds share {shared[0]}: what is chosen on a seed is too good on it")
        if self.fork is not None:
            raise ValueError("tune and fork do not go together: tune the parent")

    def _check_prediction(self, place: int, one: Prediction) -> None:
        where = f"predictions.{place}"
        arm, against = self.treatment(one), one.against or self.control
        for name in (arm, against):
            if name not in self.arms:
                raise ValueError(f"{where}: '{name}' is none of the arms: {', '.join(self.arms)}")
        if arm == against:
            raise ValueError(f"{where} compares '{arm}' with itself")
        if one.size is not None and one.size not in self.sizes:
            raise ValueError(
                f"{where}: '{one.size}' is none of the sizes: {', '.join(self.sizes) or 'there is one only'}"
            )
        if one.size is None and len(self.sizes) > 1 and not one.grows:
            raise ValueError(f"{where} does not say at which `size`, of {', '.join(self.sizes)}, or that it `grows`")
        if one.grows and len(self.sizes) < 2:
            raise ValueError(f"{where} says that an effect grows with size, but there is one size only")

    @property
    def control(self) -> str:
        """The baseline's name; empty of a sweep that has no points yet."""
        return self.baseline or next(iter(self.arms), "")

    @property
    def treatments(self) -> list[str]:
        """All other arms."""
        return [name for name in self.arms if name != self.control]

    def n_pairs(self, prediction: Prediction) -> int:
        """How many independent repetitions both arms of a prediction have."""
        arms = [self.arms[name] for name in (self.treatment(prediction), prediction.against or self.control)]
        return min([self.seeds.independent, *(arm.seeds for arm in arms if arm.seeds is not None)])

    def treatment(self, prediction: Prediction) -> str:
        """The arm that a prediction is about.

        Raises:
            ValueError: it does not say, and there is more than one.
        """
        if prediction.arm is not None:
            return prediction.arm
        if len(self.treatments) != 1:
            raise ValueError(
                f"a prediction does not say which `arm` it is about, of {', '.join(self.treatments) or 'none'}"
            )
        return self.treatments[0]

    def with_points(self, points: Sequence[Point]) -> Plan:
        """The same sweep with these points as its arms: those that Optuna proposed so far, for example."""
        assert self.sweep is not None, "only a sweep has points"
        return self.model_copy(update={"arms": arms_of(points)})
