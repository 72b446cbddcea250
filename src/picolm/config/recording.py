"""What a run leaves behind, and at which steps: the sections `checkpoints` and `capture`, and the schedule of steps."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from picolm.config.section import Count, Counts, Positive, PositiveReal, Section, Strings


class Steps(Section):
    """At which numbers of updates something happens: the union of three rules."""

    every: Count = Field(0, description="all multiples of this number; 0: none")
    per_doubling: Count = Field(
        0, description="log-spaced: so many in each doubling from 1 on (1: the steps 1, 2, 4, 8, ...); 0: none"
    )
    at: Counts = Field((), description="these steps; 0 is the untrained model")

    def includes(self, step: int) -> bool:
        """Whether something happens after `step` updates."""
        if step in self.at or (step > 0 and self.every > 0 and step % self.every == 0):
            return True
        if not self.per_doubling or step < 1:
            return False
        place = round(self.per_doubling * math.log2(step))
        # Rounding to whole steps can move a point by one place at most.
        return any(self._log_spaced(near) == step for near in (place - 1, place, place + 1))

    def up_to(self, last: int) -> list[int]:
        """All steps of the schedule up to `last`, ascending."""
        every = range(self.every, last + 1, self.every) if self.every else ()
        places = range(math.ceil(self.per_doubling * math.log2(max(last, 1))) + 1 if self.per_doubling else 0)
        spaced = (self._log_spaced(place) for place in places)
        return sorted({step for step in (*self.at, *every, *spaced) if step <= last})

    def _log_spaced(self, place: int) -> int:
        return round(math.exp2(place / self.per_doubling))


class StateSteps(Steps):
    """When the whole state of training is saved, from which a run resumes; the end of a run always is."""

    every: Count = Field(500, description="all multiples of this number; 0: none")
    at: Counts = Field((), description="these steps; their states are never superseded, so that a run can fork there")


class ModelSteps(Steps):
    """When the model is saved; the end of a run always is."""

    every: Count = Field(1000, description="all multiples of this number; 0: none")
    per_doubling: Count = Field(
        1, description="log-spaced: so many in each doubling from 1 on (1: the steps 1, 2, 4, 8, ...); 0: none"
    )
    at: Counts = Field((0,), description="these steps; 0 is the untrained model")


class Checkpoints(Section):
    """What is saved when. Saved models stay; of resume states, which newer ones supersede, the last few stay."""

    model: ModelSteps = ModelSteps()
    state: StateSteps = StateSteps()
    keep_states: Positive | None = Field(
        2, description="how many of the newest resume states stay, so that one may be damaged; null: all"
    )


class Probe(Section):
    """A fixed batch of text on which a run is looked at; drawn once, and stored in the run."""

    sources: Strings = Field((), description="documents, as in `data.sources`; empty: documents that the run holds out")
    domain: str | None = Field(None, description="take documents of this domain only; null: of all, in turn")
    sequences: Positive = Field(32, description="rows of `data.sequence_length` tokens")


class Evaluation(Steps):
    """What models are asked while the run goes on, as `picolm evaluate` does later; none by default.

    At the steps of the schedule, and at the end, the model is saved and its checkpoint is asked.
    """

    tasks: Strings = Field((), description="each as for `picolm evaluate --task`: `pairs:blimp.jsonl.gz`, `perplexity`")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: matrix products in bfloat16")

    @model_validator(mode="after")
    def _asks_something(self) -> Evaluation:
        if not self.tasks and (self.every or self.per_doubling or self.at):
            raise ValueError("there are steps but no `tasks`: name one, for example tasks=[perplexity]")
        return self


def _positions_or_all(value: object) -> object:
    listed = (value,) if type(value) is int else value
    numbers = isinstance(listed, tuple | list) and listed and all(type(item) is int for item in listed)
    if not numbers and listed != "all":
        raise ValueError("give `all`, or a list of positions such as [0, -1]")
    return listed


class Capture(Steps):
    """What is kept of the inside of the model while it learns, at the steps of a schedule of its own; none by default.

    The weights of those steps are saved as models, once, and never in a capture.
    """

    probes: dict[str, Probe] = Field({"held_out": Probe()}, description="the batches, by name")
    train_batch: bool = Field(False, description="whether the batch of the last update is looked at too, as `train`")
    activations: Strings = Field(
        ("layers.*.attention.o_proj", "layers.*.mlp.down_proj"),
        description="sites whose activations are stored, for example residual.* or layers.0.attention.pattern",
    )
    positions: Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(_positions_or_all)] = Field(
        "all", description="positions whose activations are stored; negative ones count from the end of a row's text"
    )
    gradients: Strings = Field((), description="matrices whose mean gradient over a batch is stored")
    moments: Strings = Field((), description="matrices whose optimizer state is stored")
    updates: Strings = Field((), description="matrices whose last update is stored")
    token_losses: bool = Field(True, description="whether the loss of each scored token is stored")
    metrics: Strings = Field(
        (),
        description="what is measured at each capture, as `picolm analyze --metrics` has it: per, attention_entropy",
    )
    metric_sites: Strings = Field(
        (),
        description="where, as `--sites` has it: layers.*.attention.ov.*, gradient(embedding); nothing of it is stored",
    )
    dtype: Literal["fp32", "bf16"] = Field(
        "fp32", description="in which precision tensors are stored; losses always in fp32"
    )
    batch_size: Positive | None = Field(
        None, description="sequences per forward; null: the training micro-batch. Changes rounding only"
    )
    budget_gb: PositiveReal = Field(
        10.0, description="a run whose captures would take more than this on disk (10^9 bytes) is refused"
    )

    @model_validator(mode="after")
    def _names_are_plain(self) -> Capture:
        for name in self.probes:
            if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii() or name in RESERVED_PROBES:
                raise ValueError(
                    f"'{name}' cannot name a probe: use letters, digits, - and _, "
                    f"and none of {', '.join(RESERVED_PROBES)}"
                )
        return self

    @model_validator(mode="after")
    def _metrics_have_sites_and_steps(self) -> Capture:
        if self.metrics and not self.metric_sites:
            raise ValueError("there are `metrics` but no `metric_sites`: name one, for example layers.*.attention.ov.*")
        if self.metric_sites and not self.metrics:
            raise ValueError("there are `metric_sites` but no `metrics`: name one, for example per")
        if self.metrics and not self.is_wanted:
            raise ValueError("there are `metrics` but no steps to measure at: for example per_doubling=1")
        return self

    @property
    def is_wanted(self) -> bool:
        """Whether the schedule names any step."""
        return bool(self.every or self.per_doubling or self.at)


RESERVED_PROBES = ("train", "optimizer", "probes", "manifest")
