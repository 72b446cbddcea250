"""What each step is compared with: the last step, the one before, a certain one, or the same step of another suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.analysis.opening import open_source
from picolm.analysis.source import Source
from picolm.errors import PicoLMError

WAYS = "final, previous, a step, or the path of another suite, in which the same step is taken"
"""What can be written, for help and errors."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A rule that gives the compared step.

    Attributes:
        source: whose steps are compared with.
        rule: `final`, `previous`, a step's number, or `same`.
        name: of another suite, in tables; None: it is the same suite.
    """

    source: Source
    rule: str
    name: str | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether all steps are compared with one and the same."""
        return self.rule == "final" or self.rule.isdecimal()

    @property
    def described(self) -> str:
        """The rule in words."""
        return f"{self.name}, same step" if self.rule == "same" else f"{self.rule} step"

    def step(self, step: int, there: Sequence[int]) -> int | None:
        """The step that another is compared with.

        Args:
            step: the one that is looked at.
            there: those that can be compared with, ascending: with weights, or with captures.

        Returns:
            It; None where there is none before the first.

        Raises:
            PicoLMError: it is not there.
        """
        if self.rule == "previous":
            return max((other for other in there if other < step), default=None)
        if self.rule == "final" and there:
            return there[-1]
        wanted = step if self.rule == "same" else int(self.rule) if self.rule.isdecimal() else -1
        if wanted not in there:
            steps = ", ".join(map(str, there)) or "none"
            raise PicoLMError(f"{self.source.path} has no step {wanted} to compare with; it has: {steps}")
        return wanted

    def label(self, step: int) -> str:
        """What a compared step is called in tables."""
        return f"step {step}" if self.name is None else f"{self.name} step {step}"


def compared_with(against: str | int, source: Source) -> Comparison:
    """Read what `--against` says.

    Args:
        against: as `WAYS` says.
        source: the suite that is looked at.

    Raises:
        PicoLMError: it is none of these, or a suite of another model's shape.
    """
    rule = str(against)
    if rule in ("final", "previous") or rule.isdecimal():
        return Comparison(source, rule)
    if not Path(rule).is_dir():
        raise PicoLMError(f"--against '{rule}' is none of: {WAYS}")
    return Comparison(open_source(rule), "same", name=Path(rule).resolve().name)
