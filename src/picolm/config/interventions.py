"""Which interventions a run has: the section `interventions`, a list."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from picolm.config.section import Section


class Use(Section):
    """One intervention: where it comes from, its name in the run, and, as further keys, its own settings."""

    # Its settings are checked by its own schema, when its code is loaded.
    model_config = ConfigDict(extra="allow")

    use: str = Field(description="an intervention of PicoLM by name, or your own as `file.py:Class` or `module:Class`")
    name: str | None = Field(
        None, description="in log, checkpoints and random streams; null: the first of `use`, `use-2`, ... that is free"
    )

    @property
    def settings(self) -> dict[str, Any]:
        """What was set, unchecked."""
        return dict(self.model_extra or {})
