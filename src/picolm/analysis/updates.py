"""Realised updates: `delta(SITE; A, B)` is what a matrix is at B less what it was at A.

A and B are `t` (the step that is looked at), `t+1000`, `t-1000`, `previous`, `next` (among the steps looked at), `init`
(step 0), `final`, or a step's number. `delta(SITE; A)` is `delta(SITE; A, t)`, `delta(SITE)` is
`delta(SITE; previous, t)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from picolm.errors import PicoLMError

_DELTA = re.compile(r"delta\(([^;]*)(?:;(.*))?\)")
_SHIFT = re.compile(r"t([+-]\d+)?")
_WORDS = ("previous", "next", "init", "final")


@dataclass(frozen=True, slots=True)
class Delta:
    """Between which steps a matrix is compared."""

    before: str
    after: str

    def name(self, site: str) -> str:
        """What the update of a site is called in tables."""
        return f"delta({site}; {self.before}, {self.after})"

    def steps(self, step: int, there: Sequence[int]) -> tuple[int, int] | None:
        """The two steps that are compared when the suite is looked at after `step`.

        Args:
            step: t.
            there: the steps that are looked at, ascending.

        Returns:
            The steps; None where one of them is not there, as before the first one, or where they are the same.

        Raises:
            PicoLMError: a step that is the same for every t is not there.
        """
        first, second = (_resolved(moment, step, there) for moment in (self.before, self.after))
        return None if first is None or second is None or first == second else (first, second)


def parse_delta(text: str) -> tuple[str, Delta] | None:
    """Read `delta(PATTERN; A, B)`.

    Returns:
        The pattern and the delta; None where the text is something else, a plain pattern.

    Raises:
        PicoLMError: a moment is none that is known.
    """
    match = _DELTA.fullmatch(text.strip())
    if match is None:
        return None
    moments = [part.strip() for part in (match[2] or "previous").split(",")]
    if len(moments) > 2 or not all(map(_is_known, moments)):
        raise PicoLMError(
            f"'{text}': an update is delta(SITE; A, B), with A and B each t, t+N, t-N, {', '.join(_WORDS)} or a step"
        )
    return match[1].strip(), Delta(moments[0], moments[1] if len(moments) == 2 else "t")


def _is_known(moment: str) -> bool:
    return moment in _WORDS or moment.isdecimal() or _SHIFT.fullmatch(moment) is not None


def _resolved(moment: str, step: int, there: Sequence[int]) -> int | None:
    if moment == "init" or moment.isdecimal():
        fixed = 0 if moment == "init" else int(moment)
        if fixed not in there:
            raise PicoLMError(
                f"an update since step {fixed} needs its checkpoint; there are: {', '.join(map(str, there))}"
            )
        return fixed
    if moment == "final":
        return there[-1]
    if moment == "previous":
        return max((other for other in there if other < step), default=None)
    if moment == "next":
        return min((other for other in there if other > step), default=None)
    match = _SHIFT.fullmatch(moment)
    assert match is not None
    shifted = step + int(match[1] or 0)
    return shifted if shifted in there else None
