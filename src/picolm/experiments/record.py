"""What is kept of an experiment in the lab notebook: a page of data that a person can read and write."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from picolm.config.section import Count, Section
from picolm.experiments.plan import Direction, Equal, Seeds
from picolm.experiments.space import Point
from picolm.experiments.statistics.verdict import Outcome

Finite = Annotated[float, Field(allow_inf_nan=False)]


def _pair(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Interval = Annotated[tuple[Finite, Finite], BeforeValidator(_pair)]
BothValues = Annotated[tuple[Any, Any], BeforeValidator(_pair)]


class RecordedVerdict(Section):
    """A prediction as it stood, and what was found."""

    measure: str = Field(description="which number, in words")
    says: str = Field("", description="the prediction in words")
    arm: str = Field(description="the treatment")
    against: str = Field(description="what it was compared with")
    size: str | None = Field(None, description="at which size; null: the only one, or the trend over all")
    direction: Direction = Field(description="that was predicted, of treatment less baseline")
    smallest: Finite = Field(description="the smallest effect that matters")
    primary: bool = Field(False, description="whether the claim stands or falls with it")
    verdict: Outcome | None = Field(None, description="supported, refuted or inconclusive; null: not judged")
    estimate: Finite | None = Field(None, description="of the effect")
    interval: Interval | None = Field(None, description="at the level at which the verdict was reached")
    p: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(None, description="two-sided, of no effect")
    n: Count | None = Field(None, description="how many seeds it is the mean of")
    scale: Literal["difference", "log ratio"] = Field("difference", description="what the effect is measured in")
    missing: str | None = Field(None, description="why there is no verdict, or what it lacks")


class RecordedNoise(Section):
    """What seeds alone do to one number, in the baseline."""

    measure: str = Field(description="which number, in words")
    size: str | None = Field(None, description="at which size; null: the only one")
    mean: Finite = Field(description="over seeds")
    sd: Finite = Field(description="over seeds, with n - 1")
    n: Count = Field(description="how many seeds")


class RecordedBest(Section):
    """What a sweep found best at one size."""

    size: str | None = Field(None, description="at which size; null: the only one")
    measure: str = Field(description="what ranked the points, in words")
    choose: Literal["lowest", "highest"] = Field(description="which value of it is best")
    point: Point = Field(description="its values")
    mean: Finite = Field(description="over seeds")
    sd: Finite | None = Field(None, description="over seeds, with n - 1")
    n: Count = Field(description="how many seeds")
    of: Count = Field(description="how many points were compared")
    as_good: tuple[Point, ...] = Field((), description="points that seeds do not tell from it")


class RecordedCost(Section):
    """What all runs together took."""

    flops: Finite = Field(description="matrix products of training")
    seconds: Finite = Field(description="of all processes, one after another")
    disk_bytes: Count = Field(description="of all runs")


class Record(Section):
    """An experiment in the lab notebook."""

    record: Literal[1] = Field(description="the format of the record: 1")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(description="as its file is called")
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] = Field(description="of the record: 2026-02-28")
    claim: str = Field("", description="the hypothesis in words; empty: a sweep")
    question: str = Field("", description="by the author: what one wanted to know")
    lesson: str = Field("", description="by the author: what one knows now, and would do otherwise")
    numbers: tuple[RecordedVerdict, ...] = Field((), description="the primary prediction first, then the others")
    best: tuple[RecordedBest, ...] = Field((), description="of a sweep, size by size")
    change: dict[str, dict[str, BothValues]] = Field(
        {}, description="by ARM or ARM.SIZE the keys in which it differs from the baseline: [baseline, own]"
    )
    sizes: tuple[str, ...] = Field((), description="names of the sizes; empty: one size")
    seeds: Seeds = Field(description="as the plan has them")
    equal: Equal = Field("steps", description="what arms share")
    noise: tuple[RecordedNoise, ...] = Field((), description="noise floors")
    finished: Count = Field(description="runs that came to their end")
    runs: Count = Field(description="runs of the comparison")
    plan: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="SHA-256 of the plan as it stands")
    registered: str = Field("", description="when the first version of the plan was kept")
    deviations: tuple[str, ...] = Field((), description="what was changed after runs had begun")
    warnings: tuple[str, ...] = Field((), description="what a reader must know")
    cost: RecordedCost | None = Field(None, description="what it took")
    picolm: str = Field("", description="the version that made the runs")
    commit: str = Field("", description="of PicoLM's sources; with + where they were changed")
    machine: str = Field("", description="processor and device, without names")
    command: str = Field("", description="what makes the runs again")
    report: str | None = Field(None, description="the page, from the folder of the record")

    @model_validator(mode="after")
    def _one_primary(self) -> Record:
        primary = sum(one.primary for one in self.numbers)
        if self.numbers and primary != 1:
            raise ValueError(f"numbers must have one primary prediction, not {primary}")
        return self

    @property
    def primary(self) -> RecordedVerdict | None:
        """The number that the claim stands or falls with; None of a sweep."""
        return next((one for one in self.numbers if one.primary), None)

    def plain(self) -> dict[str, Any]:
        """What is written: all that says something, and the two places that wait for the author's words."""
        words = ("question", "lesson")
        told = self.model_dump(mode="json", exclude_defaults=True)
        return {key: getattr(self, key) if key in words else told[key] for key in _KEYS if key in told or key in words}


_KEYS = tuple(Record.model_fields)
