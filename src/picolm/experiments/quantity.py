"""What a prediction is about: one number of a run, or of the curve behind it, as a plan says it.

===========================================================  =====================================================
`{validation: loss}`                                         of the last step; `domain: news` for one domain
`{validation: loss, at: 300}`                                after 300 updates
`{validation: loss, summary: area, over: tokens}`            mean height of the curve over tokens
`{validation: loss, reaches: 3.5, over: flops}`              what it takes to reach a loss; censored where it never is
`{logged: gradient_norm, summary: mean}`                     of the lines of training
`{evaluation: "pairs:blimp", score: accuracy}`               of an evaluation, by task, subset and metric
`{metric: per, site: layers.*.attention.o_proj, at: 300}`    of an analysis; the mean where a pattern names several
===========================================================  =====================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from picolm.config.section import Count, Section

Axis = Literal["steps", "tokens", "flops", "seconds"]
Summary = Literal["last", "mean", "minimum", "maximum", "area", "slope", "descent"]


@dataclass(frozen=True, slots=True)
class Number:
    """What a quantity is in one run.

    Attributes:
        value: it; where it is censored, how far the run went without reaching it.
        censored: whether the curve never reached what was asked for.
    """

    value: float
    censored: bool = False


class Quantity(Section):
    """One number of a run: which curve, and what of it."""

    validation: Literal["loss", "perplexity", "bits_per_byte"] | None = Field(
        None, description="of held-out text: loss, perplexity or bits_per_byte"
    )
    domain: str | None = Field(None, description="of one domain of the validation; null: of all")
    logged: str | None = Field(None, description="a key of the lines of training in log.jsonl: loss, gradient_norm")
    evaluation: str | None = Field(None, description="a task as `picolm evaluate` names it in its tables: pairs:blimp")
    score: str | None = Field(None, description="the metric of that task: accuracy")
    subset: str = Field("all", description="of that task: all, or paradigm/NAME, term/NAME")
    metric: str | None = Field(None, description="a metric of `picolm analyze`, with what follows its name")
    site: str | None = Field(None, description="where it is measured; of several that a pattern names, the mean")
    probe: str | None = Field(None, description="on which batch; null: the only one")
    summary: Summary = Field(
        "last", description="what of the curve; area: its mean height over the axis; descent: how far it falls in all"
    )
    at: Count | None = Field(None, description="the value after this many updates, instead of a summary")
    reaches: float | None = Field(None, description="how far along the axis the curve first comes to this value")
    over: Axis = Field("steps", description="the axis of area, slope and reaches")

    @model_validator(mode="after")
    def _one_curve(self) -> Quantity:
        kinds = [kind for kind in ("validation", "logged", "evaluation", "metric") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"give one of validation, logged, evaluation and metric, not {' and '.join(kinds) or 'none'}"
            )
        if self.evaluation is not None and self.score is None:
            raise ValueError(
                f"evaluation {self.evaluation} needs `score`, the metric of the task: accuracy, for example"
            )
        if self.metric is not None and self.site is None:
            raise ValueError(f"metric {self.metric} needs `site`, where it is measured")
        chosen = [self.at is not None, self.reaches is not None, self.summary != "last"]
        if sum(chosen) > 1:
            raise ValueError("give one of `at`, `reaches` and `summary`")
        return self

    @property
    def curve(self) -> str:
        """The curve in words."""
        if self.validation is not None:
            what = self.validation.replace("_", " ")
            return f"validation {what}" + (f" on {self.domain}" if self.domain else "")
        if self.logged is not None:
            return f"training {self.logged.replace('_', ' ')}"
        if self.evaluation is not None:
            return f"{self.score} of {self.evaluation}" + ("" if self.subset == "all" else f", {self.subset}")
        return f"{self.metric} at {self.site}" + (f" on {self.probe}" if self.probe else "")

    @property
    def words(self) -> str:
        """The number in words."""
        if self.at is not None:
            return f"{self.curve} at step {self.at}"
        if self.reaches is not None:
            return f"{self.over} until {self.curve} reaches {self.reaches:g}"
        of = {"last": "final", "mean": "mean", "minimum": "lowest", "maximum": "highest", "slope": "slope of"}
        if self.summary == "descent":
            return f"{self.curve}, the sum of its falls"
        if self.summary == "area":
            return f"{self.curve} averaged over {self.over}"
        return f"{of[self.summary]} {self.curve}" + (f" over {self.over}" if self.summary == "slope" else "")
