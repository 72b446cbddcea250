"""Breakpoints: planted ones are found, straight lines and noise have none, and the interval covers as it says."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from picolm.analysis.breakpoints import _resampled, bend_of
from picolm.errors import PicoLMError

STEPS = np.arange(40.0)


def tent(at: float = 15.0, rise: float = 0.2, fall: float = 0.1) -> npt.NDArray[np.float64]:
    return 3 + rise * np.minimum(STEPS, at) - fall * np.maximum(STEPS - at, 0)


def noise(seed: int, sd: float = 0.1, alike: float = 0.0) -> npt.NDArray[np.float64]:
    """Noise in which neighbours are alike (autoregressive)."""
    draws = np.random.default_rng(seed).standard_normal(len(STEPS))
    for i in range(1, len(draws)):
        draws[i] = alike * draws[i - 1] + math.sqrt(1 - alike**2) * draws[i]
    return sd * draws


def test_a_planted_break_is_found_exactly() -> None:
    found = bend_of(STEPS, tent())
    assert (found.at, found.low, found.high) == (15.0, 15.0, 15.0)
    assert found.slopes == pytest.approx((0.2, -0.1)) and found.changes == pytest.approx((3.0, -2.4))
    assert found.evidence > 1000
    assert found.rises_then_falls(noise=1.0) and not found.rises_then_falls(noise=1.3)


def test_the_fit_and_its_evidence_are_those_of_least_squares() -> None:
    y = tent() + noise(1)
    found = bend_of(STEPS, y)
    rss = {}
    for at in STEPS[2:-2]:
        design = np.stack([np.ones(40), STEPS, np.maximum(STEPS - at, 0)], axis=1)
        rss[at] = float(np.linalg.lstsq(design, y, rcond=None)[1][0])
    assert found.at == min(rss, key=lambda at: rss[at])
    straight = float(np.polyfit(STEPS, y, 1, full=True)[1][0])
    bic_one = 40 * math.log(straight / 40) + 3 * math.log(40)
    bic_two = 40 * math.log(rss[found.at] / 40) + 5 * math.log(40)
    assert found.evidence == pytest.approx(bic_one - bic_two, rel=1e-9)


def test_straight_lines_have_no_break() -> None:
    for y in (np.zeros(40), 2 - 0.3 * STEPS, np.full(40, 0.1), 1e9 + STEPS):
        found = bend_of(STEPS, y, draws=10)
        assert found.evidence == pytest.approx(-2 * math.log(40))
        assert not found.rises_then_falls(noise=0.0)


def test_noise_alone_is_seldom_taken_for_a_break() -> None:
    evidence = np.array([bend_of(STEPS, noise(seed), draws=1).evidence for seed in range(200)])
    # BIC is no test of a given size; it is wrong in a few of a hundred, and then barely.
    assert (evidence > 0).mean() < 0.2 and (evidence > 10).mean() < 0.02


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    found = [bend_of(STEPS, tent() + noise(seed, sd=0.3), draws=200, seed=seed) for seed in range(150)]
    covered = np.mean([bend.low <= 15 <= bend.high for bend in found])
    assert 0.85 <= covered <= 1.0
    assert 1 < np.mean([bend.high - bend.low for bend in found]) < 12


def test_blocks_widen_the_interval_where_neighbours_are_alike() -> None:
    widths = {}
    for block in (1, 6):
        bends = [bend_of(STEPS, tent() + noise(s, 0.3, alike=0.8), draws=200, block=block, seed=s) for s in range(40)]
        widths[block] = np.mean([bend.high - bend.low for bend in bends])
    assert widths[6] > 1.1 * widths[1]


def test_residuals_are_drawn_with_their_neighbours() -> None:
    drawn = _resampled(np.arange(40.0), draws=500, block=6, seed=0)
    assert drawn.shape == (500, 40)
    inside = np.arange(39) % 6 != 5
    assert (np.diff(drawn, axis=1)[:, inside] == 1).all()
    # From everywhere, each start as likely as any other.
    starts = np.bincount(drawn[:, :36:6].astype(int).ravel(), minlength=35)
    assert len(starts) == 35 and abs(starts - 3000 / 35).max() < 5 * math.sqrt(3000 / 35)


def test_more_noise_means_a_wider_interval_and_draws_are_keyed() -> None:
    quiet, loud = bend_of(STEPS, tent() + noise(0, 0.05)), bend_of(STEPS, tent() + noise(0, 0.5))
    assert quiet.high - quiet.low < loud.high - loud.low
    assert bend_of(STEPS, tent() + noise(0, 0.5)) == loud
    others = [bend_of(STEPS, tent() + noise(0, 0.5), draws=30, seed=seed) for seed in range(5)]
    assert len({(bend.low, bend.high) for bend in others}) > 1


def test_scale_and_place_of_both_axes_change_nothing() -> None:
    y = tent() + noise(2)
    assert bend_of(STEPS, 1e200 * y).at == bend_of(STEPS, 1e-200 * y).at == bend_of(STEPS, y).at
    found, moved = bend_of(STEPS, y), bend_of(1e6 + 500 * STEPS, 1e-3 * y - 7)
    assert moved.at == 1e6 + 500 * found.at and moved.low == 1e6 + 500 * found.low
    assert moved.evidence == pytest.approx(found.evidence, rel=1e-6)
    assert moved.changes == pytest.approx([1e-3 * change for change in found.changes])


def test_a_break_depends_on_the_axis() -> None:
    steps = np.geomspace(10, 10_000, 40)
    logarithmic = np.log10(steps)
    assert bend_of(np.log10(steps), logarithmic, draws=1).evidence < 0 < bend_of(steps, logarithmic, draws=1).evidence


def test_only_up_and_then_down_is_up_and_then_down() -> None:
    valley = bend_of(STEPS, -tent())
    slower = bend_of(STEPS, tent(fall=-0.05))
    for found in (valley, slower):
        assert found.evidence > 0 and not found.rises_then_falls(noise=0.01)


def test_errors_say_what_is_needed() -> None:
    for steps, more in [(STEPS[:7], {}), (STEPS, {"draws": 0}), (STEPS, {"block": 0}), (STEPS, {"block": 41})]:
        with pytest.raises(PicoLMError, match="eight points or more"):
            bend_of(steps, steps, **more)
    with pytest.raises(PicoLMError, match="finite"):
        bend_of(STEPS, np.full(40, math.nan))
