"""What is measured of every run when it has come to its end: the key `analyze` of a plan."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from picolm.config.section import Positive, Section, Strings


class Asked(Section):
    """One request to `picolm analyze`, asked of each run of the comparison."""

    metrics: Annotated[Strings, Field(min_length=1)] = Field(description="names, as --metrics has them")
    sites: Annotated[Strings, Field(min_length=1)] = Field(
        description="patterns, as --sites has them: delta(layers.*.mlp.down_proj; init)"
    )
    steps: str = Field("all", description="which checkpoints, as --steps has them: all, last, log:20, 100,200")
    against: str = Field("final", description="what metrics of pairs compare with: final, previous, a step")
    probe: str | None = Field(None, description="a text, or a probe of the run; null: what was captured")
    probe_rows: Positive = Field(16, description="at most so many rows of the text")
    probe_length: Annotated[int, Field(ge=2)] = Field(128, description="positions of each row")
