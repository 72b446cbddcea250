import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.document import Document, Tag
from picolm.text.reading import read_documents
from picolm.text.sources import SourceFile
from picolm.text.tagging import UPOS, align
from picolm.text.tagsets import COARSE, COARSE_OF, inventory


def test_the_inventory_is_that_of_universal_dependencies() -> None:
    assert len(UPOS) == len(set(UPOS)) == 17
    assert list(UPOS) == sorted(UPOS)


@given(
    st.lists(
        st.tuples(st.text("abé'😀", min_size=1, max_size=4), st.sampled_from(UPOS), st.sampled_from(["", " ", "\n "])),
        max_size=12,
    )
)
def test_words_are_found_where_they_were_put(parts: list[tuple[str, str, str]]) -> None:
    text, expected = "", []
    for word, tag, space in parts:
        expected.append(Tag(len(text), len(text) + len(word), tag))
        text += word + space
    words, tags = [word for word, _, _ in parts], [tag for _, tag, _ in parts]
    assert list(align(text, words, tags, place="here")) == expected


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a", "c"], ["DET", "NOUN"], "here has the word 'c', which its text does not hold behind '… b'"),
        (["b", "a"], ["DET", "NOUN"], "here has the word 'a'"),
        (["a"], ["DET", "NOUN"], "here has 1 words but 2 parts of speech"),
        (["a"], ["ADJEC"], "'ADJEC', which is not universal; did you mean 'ADJ'"),
        ([""], ["NOUN"], "here has the word ''"),
    ],
)
def test_what_does_not_fit_is_named(words: list[str], tags: list[str], message: str) -> None:
    with pytest.raises(PicoLMError, match=message):
        align("a b", words, tags, place="here")


def read(path: Path, *records: dict[str, object]) -> list[Document]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(read_documents(SourceFile(path), Data()))


def test_records_with_words_and_parts_of_speech_are_tagged(tmp_path: Path) -> None:
    joined, listed, other = read(
        tmp_path / "d.jsonl",
        {"text": "Baa baa.", "tokens": "Baa baa .", "upos": "PROPN _ PUNCT", "age_months": 14.2},
        {"text": "10 000 dogs", "tokens": ["10 000", "dogs"], "upos": ["NUM", "NOUN"]},
        {"text": "x", "tokens": 7, "upos": "X"},
    )
    assert joined.tags == (Tag(0, 3, "PROPN"), Tag(7, 8, "PUNCT"))
    assert joined.metadata == {"age_months": 14.2}
    assert listed.tags == (Tag(0, 6, "NUM"), Tag(7, 11, "NOUN"))
    assert (other.tags, other.metadata) == ((), {"tokens": 7, "upos": "X"})
    with pytest.raises(PicoLMError, match=r"d.jsonl, line 2 has the word 'cat', which its text does not hold"):
        read(
            tmp_path / "d.jsonl",
            {"text": "a", "tokens": "a", "upos": "DET"},
            {"text": "a dog", "tokens": "a cat", "upos": "DET NOUN"},
        )


def test_real_utterances_are_tagged_word_by_word(shared_data: Path) -> None:
    path = shared_data / "childes_en" / "utterances.dev.jsonl.gz"
    documents = list(read_documents(SourceFile(path), Data()))
    assert len(documents) == 2715
    for document in documents:
        assert all(document.text[tag.start : tag.stop].strip() for tag in document.tags)
        covered = "".join(document.text[tag.start : tag.stop] for tag in document.tags)
        assert covered == "".join(document.text.split())
    assert isinstance(documents[0].metadata["age_months"], float)


def test_upos_becomes_the_twelve() -> None:
    assert set(COARSE_OF) == set(UPOS)
    assert set(COARSE_OF.values()) == set(COARSE) and len(COARSE) == 12
    wanted = {"AUX": "VERB", "PROPN": "NOUN", "SCONJ": "ADP", "CCONJ": "CONJ", "PART": "PRT", "PUNCT": ".",
              "SYM": ".", "INTJ": "X"}  # fmt: skip
    assert {tag: coarse for tag, coarse in COARSE_OF.items() if tag != coarse} == wanted
    assert [inventory(tags) for tags in (UPOS, COARSE, ("NOUN", "X"), ("C1",))] == ["upos", "coarse", "upos", "other"]
