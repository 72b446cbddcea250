import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.text.stopping import StopStrings


def test_the_earliest_stop_cuts() -> None:
    stops = StopStrings(["END", "\n\n", "N"])
    assert stops.cut("a\n\nbEND") == "a"
    assert stops.cut("bEND") == "b"
    assert stops.cut("a\nb") is None
    assert StopStrings([]).cut("anything") is None
    with pytest.raises(PicoLMError, match="must not be empty"):
        StopStrings(["a", ""])


@pytest.mark.parametrize(
    ("text", "settled"),
    [("abE", "ab"), ("abEN", "ab"), ("abENd", "abENd"), ("abEE", "abE"), ("abE\ufffd", "ab"), ("", "")],
)
def test_what_may_become_a_stop_is_held_back(text: str, settled: str) -> None:
    assert StopStrings(["END"]).settled(text) == settled


AB = st.text("ab", max_size=12)


@given(AB, AB, st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_what_is_settled_is_never_taken_back(text: str, later: str, stops: list[str]) -> None:
    found = StopStrings(stops)
    if found.cut(text) is None:
        settled = found.settled(text)
        end = found.cut(text + later)
        assert (text + later if end is None else end).startswith(settled)
