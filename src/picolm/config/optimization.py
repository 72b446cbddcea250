"""Optimizers and learning-rate schedules: the sections `optimizer` and `schedule`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from picolm.config.section import Count, Fraction, Positive, PositiveReal, Section, by_kind


class AdamWRule(Section):
    """How AdamW moves the parameters that Muon does not: embeddings, the output matrix, norms, heads."""

    learning_rate: PositiveReal = Field(1e-3, description="peak learning rate")
    betas: tuple[
        Annotated[float, Field(ge=0.0, lt=1.0)],
        Annotated[float, Field(ge=0.0, lt=1.0)],
    ] = Field((0.9, 0.95), description="decay of the first and second moment")
    eps: PositiveReal = Field(1e-8, description="added to the root of the second moment")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.1, description="decoupled weight decay")
    decay: Literal["matrices", "all"] = Field(
        "matrices", description="what decays: neither norms nor embeddings, or all parameters as the original did"
    )


class AdamW(AdamWRule):
    """AdamW (Loshchilov & Hutter 2019), fused."""

    kind: Literal["adamw"] = "adamw"


class Muon(Section):
    """Muon (Jordan et al. 2024) for the matrices inside the model, AdamW for the rest; one schedule for both."""

    kind: Literal["muon"] = "muon"
    learning_rate: PositiveReal = Field(
        0.02, description="peak for the hidden matrices; 0.02 fits scale=spectral, AdamW's own rate fits rms_match"
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.95, description="decay of the averaged gradient")
    nesterov: bool = Field(True, description="whether the momentum looks one step ahead")
    scale: Literal["spectral", "rms_match"] = Field(
        "spectral",
        description="factor on the update: sqrt(max(1, rows/columns)) (Jordan), or 0.2 sqrt(max(rows, columns)), "
        "whose elements change as AdamW's do (Moonlight, Liu et al. 2025)",
    )
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="decoupled weight decay of the hidden matrices; what counts is learning_rate times this"
    )
    adamw: AdamWRule = AdamWRule()


Optimizer = Annotated[
    Annotated[AdamW, Tag("adamw")] | Annotated[Muon, Tag("muon")],
    by_kind("adamw"),
]


class Warmup(Section):
    """What all schedules begin with."""

    warmup_steps: Count = Field(100, description="steps of linear warm-up; the first step takes 1/warmup_steps")


class Decay(Warmup):
    """Warm-up, then a fall over the rest of the run."""

    decay_steps: Positive | None = Field(
        None, description="step at which the decay ends, counted from the start; null: training.steps"
    )
    final_fraction: Fraction = Field(0.0, description="what is left of the peak when the decay ends")


class Cosine(Decay):
    """Learning rate as a multiple of its peak: linear warm-up, then half a cosine (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"


class Linear(Decay):
    """Linear warm-up, then a straight line."""

    kind: Literal["linear"] = "linear"


class Constant(Warmup):
    """Linear warm-up, then the peak to the end."""

    kind: Literal["constant"] = "constant"


class StableDecay(Warmup):
    """Warm-up, stable, decay (WSD; Hu et al. 2024, MiniCPM): the peak is held, and falls at the end of the run."""

    kind: Literal["wsd"] = "wsd"
    decay_fraction: Fraction = Field(0.2, description="share of training.steps over which the rate falls at the end")
    decay_steps: Positive | None = Field(None, description="steps of that fall; given, it replaces decay_fraction")
    shape: Literal["linear", "sqrt", "cosine"] = Field(
        "sqrt", description="how it falls; sqrt: 1 - sqrt(u), the best of those that Haegele et al. (2024) compared"
    )
    final_fraction: Fraction = Field(0.0, description="what is left of the peak at the end")

    def fall(self, total_steps: int) -> int:
        """Steps over which the rate falls in a run of `total_steps`, at least one."""
        return self.decay_steps or max(round(self.decay_fraction * total_steps), 1)


class Restarts(Warmup):
    """Cosine with warm restarts (SGDR; Loshchilov & Hutter 2017): fall, jump back, fall again, more slowly."""

    kind: Literal["restarts"] = "restarts"
    period: Positive = Field(500, description="steps of the first cycle, which begins when the peak is reached")
    period_factor: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = Field(
        1.0, description="each cycle is this many times as long as the one before, rounded to whole steps"
    )
    peak_factor: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="each cycle's peak is this share of the one before"
    )
    rewarmup_steps: Count = Field(0, description="steps of linear warm-up at the beginning of each later cycle")
    final_fraction: Fraction = Field(0.0, description="what is left of a cycle's peak at its end")

    @model_validator(mode="after")
    def _cycles_have_room(self) -> Restarts:
        if self.rewarmup_steps >= self.period:
            raise ValueError(
                f"rewarmup_steps {self.rewarmup_steps} leave nothing of a period of {self.period} steps to fall in"
            )
        return self


class InverseRoot(Warmup):
    """Warm-up, then 1/sqrt(step) (Vaswani et al. 2017)."""

    kind: Literal["inverse_root"] = "inverse_root"


Schedule = Annotated[
    Annotated[Cosine, Tag("cosine")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[Constant, Tag("constant")]
    | Annotated[StableDecay, Tag("wsd")]
    | Annotated[Restarts, Tag("restarts")]
    | Annotated[InverseRoot, Tag("inverse_root")],
    by_kind("cosine"),
]
