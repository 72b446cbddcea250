"""A sweep: an experiment that claims nothing, and asks which values of some keys are best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from picolm.config.section import Positive, Section, Seed
from picolm.experiments.quantity import Quantity
from picolm.experiments.space import Dimension, Point, Space, corners, drawn, refuse_repeated

Kind = Literal["grid", "list", "random", "optuna"]
Choose = Literal["lowest", "highest"]
Values = Annotated[
    tuple[Any, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    Field(min_length=1),
]


class Sweep(Section):
    """Which points are tried, and what ranks them. A point is one value for each of some keys."""

    grid: dict[str, Values] | None = Field(None, description="for each key its values; all combinations are tried")
    list_: tuple[Point, ...] | None = Field(None, alias="list", description="the points themselves", min_length=1)
    random: Space | None = Field(None, description="for each key a range or choices; points are drawn")
    optuna: Space | None = Field(None, description="likewise; Optuna proposes points from what is known")
    trials: Positive | None = Field(None, description="how many points, of random and optuna")
    seed: Seed = Field(0, description="of what is drawn")
    sampler: Literal["tpe", "random"] | None = Field(None, description="of Optuna: tpe unless it says random")
    measure: Quantity = Field(Quantity(validation="loss"), description="what ranks the points")
    choose: Choose = Field("lowest", description="which value of it is best")

    @model_validator(mode="after")
    def _one_kind(self) -> Sweep:
        kinds: tuple[Kind, ...] = ("grid", "list", "random", "optuna")
        given = [kind for kind in kinds if self._points_of(kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(kinds[:-1])} and optuna, not {' and '.join(given) or 'none'}")
        if not self._points_of(self.kind):
            raise ValueError(f"{self.kind} names no key")
        self._check_trials()
        if self.sampler is not None and self.optuna is None:
            raise ValueError(f"`sampler` is Optuna's: a sweep by {self.kind} has none")
        for key, values in (self.grid or {}).items():
            _refuse_repeated(f"grid.{key}", values)
        _refuse_repeated("list", self.list_ or ())
        return self

    @property
    def kind(self) -> Kind:
        """How points are found."""
        kinds: tuple[Kind, ...] = ("grid", "list", "random", "optuna")
        return next(kind for kind in kinds if self._points_of(kind) is not None)

    @property
    def keys(self) -> list[str]:
        """Every key that is varied, in the order of the plan."""
        tables: list[Mapping[str, Any]] = [*(self.list_ or ()), self.grid or {}, self.space]
        return list(dict.fromkeys(key for table in tables for key in table))

    @property
    def space(self) -> Mapping[str, Dimension]:
        """What is drawn from; empty where the points are written down."""
        return self.random or self.optuna or {}

    @property
    def n_points(self) -> int:
        """How many points are tried in all."""
        if self.grid is not None:
            return math.prod(len(values) for values in self.grid.values())
        return len(self.list_ or ()) or self.trials or 0

    def points(self) -> list[Point]:
        """All points, in order; of Optuna none, as it proposes each from what is known by then."""
        if self.grid is not None:
            return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        if self.list_ is not None:
            return [dict(point) for point in self.list_]
        return [] if self.random is None else drawn(self.random, self.seed, self.n_points)

    def probes(self) -> list[Point]:
        """Points that show whether what Optuna may propose makes configurations; none where `points` has them all."""
        return [] if self.optuna is None else corners(self.optuna)

    def stand_ins(self) -> list[Point]:
        """As many points as there will be, for a forecast: drawn at random where Optuna is to propose them."""
        return self.points() if self.optuna is None else drawn(self.optuna, self.seed, self._distinct())

    def _distinct(self) -> int:
        return int(min(self.n_points, math.prod(one.size for one in self.space.values())))

    def _points_of(self, kind: Kind) -> Any:
        return self.list_ if kind == "list" else getattr(self, kind)

    def _check_trials(self) -> None:
        if not self.space:
            if self.trials is not None:
                raise ValueError(f"a sweep by {self.kind} has as many points as it names: leave `trials` out")
            return
        if self.trials is None:
            raise ValueError(f"a sweep by {self.kind} needs `trials`, how many points it may try")
        if self._distinct() < self.trials and self.random is not None:
            raise ValueError(f"trials is {self.trials}, but there are {self._distinct()} points only: try a `grid`")


def _refuse_repeated(where: str, values: tuple[Any, ...]) -> None:
    try:
        refuse_repeated(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
