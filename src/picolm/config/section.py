"""What every section of the configuration shares: strict, frozen values, and the types of their fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveReal = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def one_is_a_list(value: object) -> object:
    """Let a text or a number that stands where a list is expected be a list of one."""
    return (value,) if isinstance(value, str) or type(value) in (int, float) else value


Weights = dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]

Strings = Annotated[tuple[str, ...], BeforeValidator(one_is_a_list)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(one_is_a_list)]


class Section(BaseModel):
    """A part of the configuration: frozen, without unknown keys, without silent conversions between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _sequences_are_tuples(cls, value: Any) -> Any:
        # YAML and JSON know lists only; strict mode would refuse them for tuple fields.
        if isinstance(value, dict):
            return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return value


def by_kind(default: str) -> Discriminator:
    """What tells the variants of a section apart: its `kind`, which may be left out for the usual one."""

    def of(value: object) -> str | None:
        kind = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", None)
        return kind if isinstance(kind, str) else None

    return Discriminator(of)
