"""Verdicts: as the interval lies, in three directions; wrong no more often than they say, right as promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.experiments.statistics.differences import paired_difference
from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.power import Spread, chance_beyond, chance_within
from picolm.experiments.statistics.verdict import Claim, Outcome, Verdict, verdict_of, verdicts_of
from picolm.randomness import generator

# With 9 seeds the 95 % interval is the value +- 2.306 errors: +- 0.2306.
ERROR = 0.1


def judged(value: float, direction: str, smallest: float = 0.5) -> Verdict:
    return verdict_of(Claim("claim", Estimate(value, 9, ERROR, 8), direction, smallest))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "higher", "same"),
    [
        (0.74, "supported", "refuted"),
        (0.72, "inconclusive", "inconclusive"),
        (0.28, "inconclusive", "inconclusive"),
        (0.26, "refuted", "supported"),
        (-0.26, "refuted", "supported"),
        (-0.72, "refuted", "inconclusive"),
        (-0.74, "refuted", "refuted"),
    ],
)
def test_a_verdict_is_as_the_interval_lies(value: float, higher: Outcome, same: Outcome) -> None:
    assert judged(value, "higher").outcome == higher
    assert judged(-value, "lower").outcome == higher
    assert judged(value, "same").outcome == judged(-value, "same").outcome == same


@given(
    st.lists(
        st.tuples(
            st.floats(-1.5, 1.5), st.sampled_from(["higher", "lower", "same"]), st.sampled_from([0.0, 0.05, 0.2])
        ),
        min_size=1,
        max_size=6,
    )
)
def test_in_a_family_too_the_interval_agrees_with_the_verdict(rows: list[tuple[float, str, float]]) -> None:
    claims = [
        Claim(str(place), Estimate(value, 5, ERROR, 4, item_error, 49), direction, 0.5)  # type: ignore[arg-type]
        for place, (value, direction, item_error) in enumerate(rows)
    ]
    for verdict in verdicts_of(claims):
        low, high = verdict.interval.low, verdict.interval.high  # type: ignore[union-attr]
        lies: Outcome = "inconclusive"
        if verdict.claim.direction == "same":
            lies = "supported" if low > -0.5 and high < 0.5 else "refuted" if low > 0.5 or high < -0.5 else lies
        else:
            near, far = (low, high) if verdict.claim.direction == "higher" else (-high, -low)
            lies = "supported" if near > 0.5 else "refuted" if far < 0.5 else lies
        if min(abs(abs(low) - 0.5), abs(abs(high) - 0.5)) > 1e-9:
            assert verdict.outcome == lies
        assert (verdict.p_supported <= 0.05) == (verdict.outcome == "supported")
        assert (verdict.p_refuted <= 0.05) == (verdict.outcome == "refuted")
        assert (verdict.to_settle is None) == (verdict.outcome != "inconclusive")


def test_more_predictions_widen_the_interval_of_each_and_none_but_the_smallest_by_all() -> None:
    claims = [Claim(str(value), Estimate(value, 9, ERROR, 8), "higher", 0.5) for value in (0.79, 1.5, 1.2)]
    verdicts = verdicts_of(claims)
    assert [verdict.outcome for verdict in verdicts] == ["supported"] * 3
    tails = [verdict.interval.tail_low for verdict in verdicts]  # type: ignore[union-attr]
    assert tails == pytest.approx([0.025, 0.025 / 3, 0.025 / 2])
    # Alone it would be supported; beside two of which nothing is known it is not.
    beside = [claims[0], *(Claim(name, Estimate(0.5, 9, ERROR, 8), "higher", 0.5) for name in "ab")]
    assert [verdict.outcome for verdict in verdicts_of(beside)] == ["inconclusive"] * 3


def test_one_seed_is_inconclusive_and_counts_in_the_family() -> None:
    alone = Claim("one seed", Estimate(5.0, 1, None, None), "higher", 0.5)
    verdict = verdict_of(alone)
    assert (verdict.outcome, verdict.interval, verdict.p_supported) == ("inconclusive", None, 1.0)
    assert "one seed" in str(verdict.to_settle)
    both = verdicts_of([alone, Claim("nine", Estimate(0.74, 9, ERROR, 8), "higher", 0.5)])
    assert [verdict.outcome for verdict in both] == ["inconclusive", "inconclusive"]


def test_seeds_that_agree_to_the_digit_are_judged_by_where_they_lie() -> None:
    outcomes = {}
    for value in (0.6, 0.5, 0.4):
        claim = Claim("exact", Estimate(value, 3, 0.0, 2), "higher", 0.5)
        outcomes[value] = verdict_of(claim).outcome
    assert outcomes == {0.6: "supported", 0.5: "inconclusive", 0.4: "refuted"}
    assert verdict_of(Claim("exact", Estimate(0.0, 3, 0.0, 2), "same", 0.1)).outcome == "supported"


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_an_a_a_experiment_is_seldom_supported(seeds: int) -> None:
    draws = generator(7, "A/A", seeds).normal(0, 0.1, (2, 2000, seeds))
    outcomes = {0.0: [], 0.1: []}  # type: ignore[var-annotated]
    for treatment, baseline in zip(*draws, strict=True):
        found = paired_difference(dict(enumerate(treatment)), dict(enumerate(baseline))).estimate
        for smallest, seen in outcomes.items():
            seen.append(verdict_of(Claim("A/A", found, "lower", smallest)).outcome)
    # At the threshold itself either verdict is wrong, each in 2.5 % of experiments.
    for outcome in ("supported", "refuted"):
        assert np.mean([seen == outcome for seen in outcomes[0.0]]) == pytest.approx(0.025, abs=0.0105)
    assert np.mean([seen == "supported" for seen in outcomes[0.1]]) < 0.02


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_in_a_family_of_null_effects_one_or_more_is_seldom_supported(shared: float) -> None:
    rng, m, runs = generator(8, "family", str(shared)), 5, 1000
    common = math.sqrt(shared) * rng.normal(size=(runs, 1, 4))
    draws = common + math.sqrt(1 - shared) * rng.normal(size=(runs, m, 4))
    any_supported, any_verdict = [], []
    for rows in draws:
        errors = rows.std(axis=1, ddof=1) / 2
        claims = [
            Claim(str(place), Estimate(float(row.mean()), 4, float(error), 3), "higher", 0.0)
            for place, (row, error) in enumerate(zip(rows, errors, strict=True))
        ]
        outcomes = [verdict.outcome for verdict in verdicts_of(claims)]
        any_supported.append("supported" in outcomes)
        any_verdict.append(set(outcomes) != {"inconclusive"})
    assert np.mean(any_supported) <= 0.025 + 0.0145
    assert np.mean(any_verdict) <= 0.05 + 0.02


@pytest.mark.parametrize("direction", ["higher", "lower", "same"])
def test_a_planted_effect_is_supported_as_often_as_promised(direction: str) -> None:
    seeds, effect = 6, {"higher": 0.8, "lower": -0.8, "same": 0.02}[direction]
    sd = 0.25 if direction == "same" else 0.3
    draws = generator(9, "planted", direction).normal(effect, sd, (1500, seeds))
    supported = []
    for row in draws:
        found = paired_difference(dict(enumerate(row)), dict.fromkeys(range(seeds), 0.0)).estimate
        supported.append(verdict_of(Claim("planted", found, direction, 0.4)).outcome == "supported")  # type: ignore[arg-type]
    spread = Spread(sd)
    promised = chance_within(effect, 0.4, spread, seeds) if direction == "same" else chance_beyond(0.4, spread, seeds)
    assert 0.6 < promised < 0.9
    assert np.mean(supported) == pytest.approx(promised, abs=0.035)


def test_predictions_that_nothing_could_meet_are_refused() -> None:
    with pytest.raises(PicoLMError, match="no direction 'lowr'; did you mean 'lower'"):
        judged(0.0, "lowr")
    with pytest.raises(PicoLMError, match="'same' needs a smallest effect above 0"):
        judged(0.0, "same", 0.0)
    with pytest.raises(PicoLMError, match="a size, 0 or more, not -1"):
        judged(0.0, "lower", -1.0)
