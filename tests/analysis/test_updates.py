import pytest

from picolm.analysis.updates import Delta, parse_delta
from picolm.errors import PicoLMError

STEPS = (0, 1, 2, 4, 1000, 2000)


@pytest.mark.parametrize(
    ("text", "pattern", "before", "after"),
    [
        ("delta(layers.*.attention.o_proj)", "layers.*.attention.o_proj", "previous", "t"),
        ("delta(embedding; init)", "embedding", "init", "t"),
        ("delta( embedding ; t , t+1000 )", "embedding", "t", "t+1000"),
        ("delta(layers.0.attention.ov.*; 1000, final)", "layers.0.attention.ov.*", "1000", "final"),
        (" delta(x;t-3,next) ", "x", "t-3", "next"),
    ],
)
def test_what_can_be_written(text: str, pattern: str, before: str, after: str) -> None:
    parsed = parse_delta(text)
    assert parsed == (pattern, Delta(before, after))
    assert parsed[1].name("embedding") == f"delta(embedding; {before}, {after})"
    # What a table calls it can be asked for again.
    assert parse_delta(parsed[1].name("embedding")) == ("embedding", parsed[1])


def test_plain_patterns_are_no_updates() -> None:
    assert parse_delta("layers.*.attention.o_proj") is None and parse_delta("delta") is None


@pytest.mark.parametrize(
    "text", ["delta(x; then)", "delta(x; t, t, t)", "delta(x; t+)", "delta(x; -5)", "delta(x; t+1.5)"]
)
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(PicoLMError, match="an update is delta"):
        parse_delta(text)


@pytest.mark.parametrize(
    ("before", "after", "at", "pair"),
    [
        ("previous", "t", 4, (2, 4)),
        ("previous", "t", 0, None),
        ("t", "next", 4, (4, 1000)),
        ("t", "next", 2000, None),
        ("init", "t", 4, (0, 4)),
        ("init", "t", 0, None),
        ("t", "final", 1, (1, 2000)),
        ("t", "final", 2000, None),
        ("t", "t+1000", 1000, (1000, 2000)),
        ("t", "t+1000", 1, None),
        ("t-1", "t", 2, (1, 2)),
        ("t-4", "t+996", 4, (0, 1000)),
        ("4", "t", 1, (4, 1)),
    ],
)
def test_which_steps_are_compared(before: str, after: str, at: int, pair: tuple[int, int] | None) -> None:
    assert Delta(before, after).steps(at, STEPS) == pair


def test_a_fixed_step_must_be_there() -> None:
    with pytest.raises(PicoLMError, match="since step 3 needs its checkpoint; there are: 0, 1, 2, 4"):
        Delta("3", "t").steps(4, STEPS)
    with pytest.raises(PicoLMError, match="since step 0 needs"):
        Delta("init", "t").steps(4, (1, 4))
