"""How numbers are written for people."""

from __future__ import annotations

import math

_THIN = "\u202f"


def whole(value: float) -> str:
    """Write a whole number with separators: ``4,000``."""
    return f"{value:,.0f}"


def count(value: float) -> str:
    """Write a count to three digits: ``11.3 M``; below 10,000 in full."""
    return whole(value) if abs(value) < 10_000 else _scaled(value, ("", "k", "M", "B", "T"))


def size(value: float) -> str:
    """Write bytes in decimal units: ``45.1 MB``."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def duration(seconds: float) -> str:
    """Write a duration in its two largest units: ``2 h 13 min``."""
    if seconds < 60:
        return f"{seconds:.1f}{_THIN}s" if seconds < 10 else f"{seconds:.0f}{_THIN}s"
    total = round(seconds)
    for length, unit, smaller_length, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= length:
            return f"{total // length}{_THIN}{unit} {total % length // smaller_length}{_THIN}{smaller}"
    raise AssertionError("a minute or more has a unit")


def loss(value: float) -> str:
    """Write a loss, or bits per byte, with three decimals."""
    return f"{value:.3f}"


def change(value: float) -> str:
    """Write a difference with its sign (a true minus)."""
    return f"{value:+.3f}".replace("-", "\u2212")


def decimals(spread: float) -> int:
    """How many digits after the point show a spread, such as the width of an interval, to three digits."""
    return max(0, 2 - math.floor(math.log10(spread))) if 0 < spread < math.inf else 4


def exact(value: float, digits: int, sign: bool = False) -> str:
    """Write a measured number with a true minus: so many digits after the point, or a power of ten where that is long.

    Args:
        value: the number.
        digits: after the point (`decimals`).
        sign: whether a plus is written.
    """
    long = digits > 7 or abs(value) >= 1e7
    written = f"{value:{'+' if sign else ''}.3g}" if long else f"{value:{'+' if sign else ''},.{digits}f}"
    return written.replace("-", "\u2212")


def p_value(value: float) -> str:
    """Write a p-value with three decimals, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """Write a share of one as percent: ``97.5 %``."""
    return f"{round(100 * share, 1):g}{_THIN}%"


def flops(value: float) -> str:
    """Write floating-point operations: ``3.2e+15 FLOPs``."""
    return f"{value:.3g} FLOPs"


def perplexity(value: float) -> str:
    """Write a perplexity: three digits or more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    # 999.5 and more would be written as 1000 of the smaller unit.
    while abs(value) >= 999.5 and power < len(units) - 1:
        value /= 1000
        power += 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}{_THIN}{units[power]}".rstrip(_THIN)
