import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.text.pieces import PIECE_BYTES, WHOLE_BYTES, split_text

# Long enough to be cut, with every kind of place for a cut, or none.
texts = st.lists(st.tuples(st.text(max_size=40), st.integers(1, 900)), max_size=12).map(
    lambda parts: "".join(part * times for part, times in parts)
)


@given(texts)
def test_joined_pieces_are_the_text(text: str) -> None:
    parts = list(split_text(text, "pieces"))
    assert "".join(part for _, part in parts) == text
    position = 0
    for start, part in parts:
        assert start == position
        position += len(part)


@pytest.mark.parametrize(
    "unit", ["A line of words.\n", "A paragraph.\n\n", "word ", "x", "日本語。\n", "a\n\n\n \n\nb"]
)
def test_large_texts_become_pieces_of_about_8_kb(unit: str) -> None:
    text = unit * (200_000 // len(unit.encode()))
    sizes = [len(part.encode()) for _, part in split_text(text, "pieces")]
    assert all(0.45 * PIECE_BYTES < size < 1.55 * PIECE_BYTES for size in sizes)


def test_small_texts_stay_whole() -> None:
    text = "word\n\n" * (WHOLE_BYTES // 6)
    assert list(split_text(text, "pieces")) == [(0, text)]


def test_cuts_prefer_blank_lines_to_line_ends() -> None:
    paragraph = "One line of text.\n" * 20 + "\n"
    parts = [part for _, part in split_text(paragraph * 200, "pieces")]
    assert len(parts) > 5
    assert all(part.endswith("\n\n") and part.startswith("One") for part in parts)


def test_paragraphs_and_lines() -> None:
    text = "a\nb\n\n \nc\n"
    assert list(split_text(text, "paragraphs")) == [(0, "a\nb"), (7, "c\n")]
    assert list(split_text(text, "lines")) == [(0, "a"), (2, "b"), (4, ""), (5, " "), (7, "c"), (9, "")]
    assert list(split_text(text, "file")) == [(0, text)]
