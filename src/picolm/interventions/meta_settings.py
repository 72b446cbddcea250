"""What can be set of meta-pretraining, and what each algorithm is in terms of adaptation and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from picolm.config import schema
from picolm.config.section import Count, Fraction, Positive, PositiveReal, one_is_a_list
from picolm.model.task_head import Start
from picolm.objective.episode_loss import Adaptation, Derivative
from picolm.objective.episodes import EpisodeShape

Algorithm = Literal["none", "anil-fo", "anil-exact", "fomaml-all", "maml-exact", "reptile", "protonet"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an algorithm is."""

    derivative: Derivative
    learns: bool = True
    """Whether there is an inner loop."""
    whole: bool = False
    """Whether it adapts the model, too."""
    start: Start = "zero"
    """How a task begins where the settings leave it open."""


_KINDS: dict[Algorithm, _Kind] = {
    "none": _Kind("first_order", learns=False, start="vocabulary"),
    "anil-fo": _Kind("first_order"),
    "anil-exact": _Kind("exact"),
    "fomaml-all": _Kind("first_order", whole=True),
    "maml-exact": _Kind("exact", whole=True),
    "reptile": _Kind("mean_slope", whole=True),
    "protonet": _Kind("exact", learns=False, start="prototypes"),
}

Widths = Annotated[tuple[Positive, ...], BeforeValidator(one_is_a_list)]


class Settings(schema.Section):
    """Episodes, how they are learned, and how often a step is made of them."""

    algorithm: Algorithm = Field(
        "anil-fo",
        description="none: no inner loop; anil: only the head is adapted; fomaml, maml, reptile: the model too; "
        "protonet: nearest class mean",
    )
    ways: int = Field(4, ge=2, description="classes of an episode, N")
    support: Positive = Field(4, description="windows of each class that are learned from, K")
    query: Positive = Field(4, description="windows of each class that are asked about, Q")
    tasks: Positive = Field(8, description="episodes of a step")
    inner_steps: Positive = Field(10, description="gradient steps within an episode")
    inner_rate: PositiveReal | None = Field(
        None,
        description="their learning rate; null: 4 / model.d_model, as states after a norm have that squared length",
    )
    model_rate: PositiveReal = Field(0.003, description="that of the model, where it is adapted too")
    head: Start | None = Field(
        None,
        description="how the head begins an episode; null: vocabulary for none, prototypes for protonet, else zero",
    )
    hidden: Widths = Field((), description="widths of the head's hidden layers")
    readout: Literal["last", "mask"] = Field("last", description="where a window is read: its last token, or the mask")
    sees: Literal["model", "both"] = Field(
        "model", description="what a position of a window sees: what the model lets it see, or both sides (prefix LM)"
    )
    window: int = Field(64, ge=4, description="tokens of a window")
    pool: Positive = Field(4096, description="windows that episodes are drawn from")
    renew: Positive | None = Field(None, description="steps after which the next windows make the pool; null: never")
    most: float = Field(0.2, gt=0.0, le=1.0, description="largest share of windows that may hold a type asked about")
    gamma: float = Field(0.3, ge=0.0, description="types are drawn by (windows that hold them)^gamma; 0: all alike")
    types: Literal["words", "all"] = Field(
        "words", description="what is asked about: beginnings of words, or any token"
    )
    mixing: Literal["blocks", "bernoulli", "joint"] = Field(
        "blocks", description="steps of episodes: an exact share of each block, by coin, or both losses in every step"
    )
    ratio: Fraction = Field(0.5, description="share of steps that are of episodes; joint: the weight of their loss")
    start: Count = Field(0, description="first step that may have episodes")
    stop: Count | None = Field(None, description="first step after these; null: to the end")
    placebo: bool = Field(False, description="whether labels are shuffled, so that there is nothing to learn")

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        if self.algorithm == "protonet" and self.head not in (None, "prototypes"):
            raise ValueError(f"protonet begins with prototypes: leave head out, it is '{self.head}'")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop {self.stop} is not above start {self.start}: there would be no step with episodes")
        return self

    @property
    def shape(self) -> EpisodeShape:
        """Of an episode."""
        return EpisodeShape(self.ways, self.support, self.query)

    @property
    def first(self) -> Start:
        """How the head begins an episode."""
        return self.head or _KINDS[self.algorithm].start

    @property
    def whole(self) -> bool:
        """Whether the model is adapted with the head."""
        return _KINDS[self.algorithm].whole

    def adaptation(self, d_model: int) -> Adaptation:
        """How an episode is learned, by a head on states of this width."""
        kind = _KINDS[self.algorithm]
        return Adaptation(
            steps=self.inner_steps if kind.learns else 0,
            head_rate=self.inner_rate or 4 / d_model,
            model_rate=self.model_rate if kind.whole else None,
            derivative=kind.derivative,
        )

    @property
    def derivative(self) -> Derivative:
        """What the algorithm differentiates."""
        return _KINDS[self.algorithm].derivative

    @property
    def forwards(self) -> int:
        """What a step of episodes costs, in forwards of one window; a backward counts as two, the head as nothing.

        An inner step that is differentiated itself counts as three times one that is not.
        """
        shape, is_exact = self.shape, self.derivative == "exact"
        if not self.whole:
            return self.tasks * ((3 if is_exact else 1) * shape.n_support + 3 * shape.n_query)
        # Support and query are looked at before, the support once more afterwards.
        looks = 2 * shape.n_support + shape.n_query
        steps = (9 if is_exact else 3) * self.inner_steps * shape.n_support
        query = (1 if self.derivative == "mean_slope" else 3) * shape.n_query
        return self.tasks * (looks + steps + query)
