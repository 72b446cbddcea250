"""Tables of stages: which word classes are predicted beside the tokens, and in which part of a run."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from picolm.config.loading import explain
from picolm.config.section import Fraction, Section, Strings
from picolm.config.yaml12 import parse_yaml
from picolm.errors import PicoLMError, nearest
from picolm.interventions.word_classes import Tagset

ANY = "any"
"""The stages of languages that a table does not name."""

Span = tuple[Fraction, Fraction]


def _in_steps(span: Span, total_steps: int) -> range:
    # Rounded, so that neighbouring spans meet in one step whatever the last bits of their shares.
    return range(round(span[0] * total_steps), round(span[1] * total_steps))


class Stage(Section):
    """Word classes that are predicted for a part of the run: one unit with a head of its own."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = Field(description="of its view, its term and its head")
    span: Span = Field(description="shares of the run, from the first to before the second")
    tags: Strings = Field(min_length=1, description="the classes, each once; all others are one more")

    @model_validator(mode="after")
    def _is_one(self) -> Stage:
        if self.span[1] <= self.span[0]:
            raise ValueError(f"the span of {self.name} ends at {self.span[1]}, not after {self.span[0]}")
        twice = sorted({tag for tag in self.tags if self.tags.count(tag) > 1})
        if twice:
            raise ValueError(f"{self.name} has {twice[0]} twice: a class without words would be learnt")
        return self

    def steps(self, total_steps: int) -> range:
        """The steps at which it is predicted."""
        return _in_steps(self.span, total_steps)


class StageTable(Section):
    """The stages of a run, and the span of the token objective itself."""

    tagset: Tagset = Field("stored", description="whether tags are as the data have them, or the twelve coarse ones")
    main: Span = Field((0.0, 1.0), description="shares of the run in which tokens are predicted")
    stages: dict[str, tuple[Stage, ...]] = Field(description="by language, or `any`")

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("stages"), dict):
            stages = {key: tuple(v) if isinstance(v, list) else v for key, v in value["stages"].items()}
            return {**value, "stages": stages}
        return value

    @model_validator(mode="after")
    def _nothing_is_left_out(self) -> StageTable:
        for language, stages in self.stages.items():
            names = [stage.name for stage in stages]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"the stages of '{language}' have the name {twice[0]} twice")
            reached = 0.0
            for start, stop in sorted([self.main, *(stage.span for stage in stages)]):
                if start > reached:
                    raise ValueError(f"the stages of '{language}' leave the run between {reached} and {start} empty")
                reached = max(reached, stop)
            if reached < 1.0:
                raise ValueError(f"the stages of '{language}' leave the run after {reached} empty")
        return self

    def of(self, language: str | None) -> tuple[Stage, ...]:
        """The stages of a language; None, or one that is not named: those of any.

        Raises:
            PicoLMError: there are none.
        """
        if language in self.stages:
            return self.stages[language]
        if ANY not in self.stages:
            raise PicoLMError(f"the table has no stages for '{language}'{nearest(str(language), self.stages)}")
        return self.stages[ANY]

    def main_steps(self, total_steps: int) -> range:
        """The steps at which tokens are predicted."""
        return _in_steps(self.main, total_steps)


def stage_table(name: str) -> StageTable:
    """A table that comes with PicoLM, by its name, or a YAML file of the same form.

    Raises:
        PicoLMError: there is no such table or file, or it is not one.
    """
    if not name.endswith((".yaml", ".yml")):
        known = _shipped()
        if name not in known:
            raise PicoLMError(f"there is no table of stages '{name}'{nearest(name, known)}; your own is a .yaml file")
        return _read(known[name], f"the table {name}")
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PicoLMError(f"cannot read the table of stages {name}: {error}") from None
    return _read(parse_yaml(text, origin=name), name)


def table_names() -> list[str]:
    """The tables that come with PicoLM."""
    return sorted(_shipped())


@cache
def _shipped() -> dict[str, Any]:
    text = files("picolm.interventions").joinpath("stages.yaml").read_text(encoding="utf-8")
    parsed: dict[str, Any] = parse_yaml(text, origin="stages.yaml")
    return parsed


def _read(value: Any, place: str) -> StageTable:
    try:
        return StageTable.model_validate(value)
    except ValidationError as error:
        raise PicoLMError(f"{place}: {explain(error, StageTable)}") from None
