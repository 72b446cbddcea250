"""What can be set of ReLoRA."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from picolm.config.section import Count, Fraction, Positive, PositiveReal, Strings
from picolm.interventions.cycles import Cycles
from picolm.interventions.jagged_rate import rise
from picolm.interventions.state_reset import Kind
from picolm.seams import Intervention

Defect = Literal["zero_start", "unscaled_merge", "undone_reinit", "bf16_weights"]
_DEFECTS: tuple[Defect, ...] = ("zero_start", "unscaled_merge", "undone_reinit", "bf16_weights")


class ReLoRASettings(Intervention.Settings):
    """Where adapters are, how large, in which cycles, and what happens between two of them."""

    modules: Strings = Field(
        ("layers.*.attention.*_proj", "layers.*.mlp.*_proj"), description="patterns of linear layers with adapters"
    )
    full_rank: Strings = Field((), description="patterns of layers among them that are trained whole")
    rank: Positive | None = Field(None, description="rank of B A; null: by rank_fraction")
    rank_fraction: float = Field(0.25, gt=0.0, le=1.0, description="rank as a share of the layer's smaller side")
    rank_map: dict[str, Positive] = Field({}, description="ranks by pattern of layers; the first that fits counts")
    rank_schedule: tuple[PositiveReal, ...] = Field(
        (1.0,), description="multiples of the rank, cycle by cycle; the last one stays"
    )
    adapt: bool = Field(
        False, description="share out the ranks after each cycle by the effective rank of what each adapter became"
    )
    lowest_rank: Positive = Field(1, description="the least that `adapt` leaves")
    alpha: PositiveReal = Field(32.0, description="s = alpha / rank")
    scaling: Literal["rank", "root", "learned"] = Field(
        "rank", description="s = alpha / rank, alpha / sqrt(rank) (rsLoRA), or tanh of a trained number"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="on what goes into an adapter")
    init: Literal["kaiming", "orthogonal", "weight", "complement"] = Field(
        "kaiming", description="A: uniform, random basis, of W's first singular vectors, or beside all past change"
    )
    start: Count = Field(0, description="first step with adapters; before it the whole model is trained")
    stop: Positive | None = Field(None, description="first step without them again; null: they stay")
    merge_every: Count = Field(1000, description="updates of a cycle; 0: one cycle without end, plain LoRA")
    dense_every: Count = Field(0, description="of so many cycles the last is full-rank; 0: none is")
    merge: bool = Field(True, description="false: W, A and B stay; only moments and rate restart")
    reinitialise: bool = Field(True, description="false: a sham merge; W takes up B A, but A stays what it was")
    reset: Kind = Field("zero", description="what A's and B's moments lose: all, a random share, the smallest, nothing")
    reset_ratio: Fraction = Field(0.99, description="the share, for random and magnitude")
    reset_shared: bool = Field(True, description="whether both moments lose the same elements")
    reset_count: bool = Field(True, description="whether Adam's count of updates begins anew as well")
    rewarmup_steps: Count | None = Field(
        None, description="updates over which the rate rises again; 0: no restart; null: 50, or a tenth of the period"
    )
    restart_every: Positive | None = Field(None, description="updates between restarts of the rate; null: a cycle")
    a_rate: PositiveReal = Field(1.0, description="multiple of the learning rate for A")
    b_rate: PositiveReal = Field(1.0, description="multiple of the learning rate for B (LoRA+)")
    track_rank: bool = Field(True, description="log the rank of W - W_start; keeps a copy of W_start")
    probe_rows: Count = Field(4, description="rows whose loss is compared before and after each merge")
    defects: tuple[Defect, ...] = Field((), description="errors of the published code that are made on purpose")
    compat: Literal["corrected", "published"] = Field(
        "corrected", description="published: all defects, its schedule, late merges, two random masks of 0.999"
    )

    @model_validator(mode="after")
    def _cycles_are_whole(self) -> ReLoRASettings:
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop {self.stop} is not above start {self.start}: there would be no adapters")
        if self.stop is not None and self.merge_every and (self.stop - self.start) % self.merge_every:
            raise ValueError(f"stop {self.stop} is not the end of a cycle: start + a multiple of merge_every")
        if not self.merge_every and (self.dense_every or self.each):
            raise ValueError("dense_every, adapt and rank_schedule need cycles: set merge_every")
        rise(self.rewarmup_steps, self.period)
        if self.dense_every == 1:
            raise ValueError("dense_every=1 would leave no cycle with adapters")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> ReLoRASettings:
        changes_structure = bool(self.dense_every) or self.each or self.stop is not None
        if not self.merge and changes_structure:
            raise ValueError("merge=false keeps the adapters: give no stop, dense_every, adapt or rank_schedule")
        if "undone_reinit" in self.all_defects and (changes_structure or not self.merge):
            raise ValueError(
                "undone_reinit is about adapters that stay and merge: no stop, dense_every, adapt or schedule"
            )
        if self.is_published and self.start:
            raise ValueError("compat=published begins with adapters: give no start")
        if self.init == "complement" and not self.track_rank:
            raise ValueError("init=complement needs to know W_start: set track_rank=true")
        if not self.rank_schedule:
            raise ValueError("rank_schedule needs a multiple for the first cycle")
        return self

    @property
    def is_published(self) -> bool:
        """Whether the published code is followed."""
        return self.compat == "published"

    @property
    def all_defects(self) -> tuple[Defect, ...]:
        """What is done wrong on purpose."""
        return _DEFECTS if self.is_published else self.defects

    @property
    def each(self) -> bool:
        """Whether each cycle may have ranks of its own."""
        return self.adapt or len(self.rank_schedule) > 1

    @property
    def cycles(self) -> Cycles:
        """When there are adapters, and when they are merged."""
        return Cycles(self.start, self.stop, self.merge_every, self.dense_every, late=self.is_published)

    @property
    def period(self) -> int | None:
        """Updates between two restarts of the rate; None where there is at most one."""
        return self.restart_every or self.merge_every or None

    @property
    def rise(self) -> int:
        """Updates of a re-warm-up."""
        return rise(self.rewarmup_steps, self.period)
