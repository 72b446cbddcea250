"""What a capture hands to the metrics that a configuration names; they are made elsewhere, of the analyses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from picolm.runs.tables import Measured
from picolm.seams import Need
from picolm.training.inspection import Batch, Findings


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch, and what it showed of the model."""

    batch: Batch
    findings: Findings
    is_probe: bool
    """Whether its rows are the same at every step."""


class StepMetrics(ABC):
    """Metrics that are computed at each capture, of tensors that need not be stored."""

    @abstractmethod
    def follow(
        self,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        sites: Collection[str],
        gradients: Collection[str],
        strict: bool,
    ) -> None:
        """Look at a model of this structure from now on.

        Args:
            shapes: of the parameters that a checkpoint would hold, by the module that holds them.
            sites: names of the model's sites.
            gradients: the modules whose parameters can have gradients.
            strict: whether everything that is asked for must be there.

        Raises:
            PicoLMError: something is asked for that is not there.
        """

    @abstractmethod
    def sites(self, need: Need) -> Collection[str]:
        """Where something is needed: names of sites, or of modules that hold a parameter."""

    @abstractmethod
    def rows(self, step: int, weights: Mapping[str, Tensor], seen: Mapping[str, Seen]) -> list[Measured]:
        """Measure.

        Args:
            step: updates made.
            weights: those that are needed, as a checkpoint would hold them, by the module that holds them; on the host.
            seen: what each batch showed, by name.
        """
