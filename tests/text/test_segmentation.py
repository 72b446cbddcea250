import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.text.segmentation import Segmentation, sentences


def words(text: str, *known: str) -> list[str]:
    return [text[start:stop] for start, stop in Segmentation(known).spans(text)]


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        ("Hello, world!!", (), ["Hello", ",", "world", "!!"]),
        ("It costs 1,000.50 in the U.S. now", (), ["It", "costs", "1,000.50", "in", "the", "U.S.", "now"]),
        ("don't", (), ["don't"]),
        ("don't", ("do", "n't"), ["do", "n't"]),
        ("DON\u2019T", ("do", "n't"), ["DO", "N\u2019T"]),
        ("don't", ("don't", "do", "n't"), ["don't"]),
        ("Daddy's dogs' home", ("'s", "'"), ["Daddy", "'s", "dogs", "'", "home"]),
        ("l'homme d'accord", ("l'", "d'"), ["l'", "homme", "d'", "accord"]),
        ("she'd've", ("'d", "'ve"), ["she", "'d", "'ve"]),
        ("'quoted words'", (), ["'", "quoted", "words", "'"]),
        ("well-known", (), ["well", "-", "known"]),
        ("我喜欢北京大学。", ("喜欢", "北京", "北京大学", "大学"), ["我", "喜欢", "北京大学", "。"]),
        ("コーヒーを飲む", ("を", "飲む"), ["コーヒー", "を", "飲む"]),
        ("", (), []),
    ],
)
def test_words_are_those_that_are_known(text: str, known: tuple[str, ...], expected: list[str]) -> None:
    assert words(text, *known) == expected


@given(
    st.text("aB'\u2019 .!?\n1,漢字カナ\"-é😀", max_size=30),
    st.lists(st.text("ab'\u2019漢字", min_size=1, max_size=3), max_size=5),
)
def test_every_character_but_white_space_is_in_one_word(text: str, known: list[str]) -> None:
    spans = Segmentation(known).spans(text)
    covered = [place for start, stop in spans for place in range(start, stop)]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]
    parts = sentences(text, spans)
    assert [span for part in parts for span in spans[part]] == spans
    assert all(spans[part] for part in parts)


def test_sentences_end_at_stops_and_lines() -> None:
    text = 'He said "Go." Then he went. Why?! (No one knows.)\nA line\nEnd'
    spans = Segmentation(()).spans(text)
    found = [" ".join(text[a:b] for a, b in spans[part]) for part in sentences(text, spans)]
    assert found == ['He said " Go . "', "Then he went .", "Why ? !", "( No one knows . )", "A line", "End"]
