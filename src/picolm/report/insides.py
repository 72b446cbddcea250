"""What is computed from checkpoints and captures for a page, as plain numbers: nothing here needs a tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

Rows = list[list[float | None]]


@dataclass(frozen=True)
class Likeness:
    """How alike activations of one site are at each step and at each other: [steps][steps]."""

    site: str
    probe: str
    steps: list[int]
    values: Rows


@dataclass(frozen=True)
class Spectra:
    """Singular values of one matrix at each step, descending: [steps][values]."""

    site: str
    steps: list[int]
    values: Rows


@dataclass(frozen=True)
class Picture:
    """Attention of one head on one row of a probe: [queries][keys]."""

    layer: int
    head: int
    probe: str
    step: int
    queries: list[str]
    keys: list[str]
    values: Rows


@dataclass(frozen=True)
class Insides:
    """What was computed, and a sentence for each thing that was left out."""

    likeness: list[Likeness] = field(default_factory=list)
    spectra: list[Spectra] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kinship:
    """How alike activations of one site are in two runs, at steps that both have: [steps]."""

    site: str
    probe: str
    runs: tuple[int, int]
    steps: list[int]
    values: list[float | None]


@dataclass(frozen=True)
class Compared:
    """What was computed of several runs: of each, and of pairs of them."""

    of_runs: list[Insides] = field(default_factory=list)
    kinships: list[Kinship] = field(default_factory=list)
