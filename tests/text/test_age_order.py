import json
from pathlib import Path

import pytest

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.age_order import AgeOrder, order_by_age
from picolm.text.reading import read_documents
from picolm.text.sources import SourceFile

AGES = [30.5, 12.0, None, 12.0, 40.0, 26.0, 130.0, 18.0]


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "u.jsonl"
    records = [
        {"id": f"u{n}", "text": f"word{n} .", "tokens": f"word{n} .", "upos": "NOUN PUNCT", "age_months": age,
         "role": "Target_Child" if n == 5 else "Mother", "child": "Eve"}
        for n, age in enumerate(AGES)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_utterances_come_in_the_order_of_age_and_equal_ones_as_they_stood(source: str, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    order = AgeOrder(drop={"role": frozenset({"Target_Child"})}, oldest=120.0)
    found = order_by_age([source], out, order)
    documents = list(read_documents(SourceFile(out), Data()))
    assert [document.id for document in documents] == ["u1", "u3", "u7", "u0", "u4"]
    assert [document.metadata["age_months"] for document in documents] == [12.0, 12.0, 18.0, 30.5, 40.0]
    assert (found.utterances, found.documents, found.without_age, found.left_out) == (5, 5, 1, 2)
    assert (found.youngest, found.oldest) == (12.0, 40.0)
    assert [tag.upos for tag in documents[0].tags] == ["NOUN", "PUNCT"]
    with pytest.raises(PicoLMError, match="exists and is never overwritten"):
        order_by_age([source], out, order)


def test_neighbours_in_age_make_a_document_with_their_mean_age(source: str, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    order_by_age([source], out, AgeOrder(join=3))
    documents = list(read_documents(SourceFile(out), Data()))
    assert [document.metadata["age_months"] for document in documents] == [14.0, 32.1667, 130.0]
    assert documents[0].text == "word1 .\nword3 .\nword7 ."
    words = [documents[0].text[tag.start : tag.stop] for tag in documents[0].tags]
    assert words == ["word1", ".", "word3", ".", "word7", "."]
    # What differs between them is not said of the whole.
    assert documents[1].metadata.get("role") is None and documents[1].metadata["child"] == "Eve"


def test_what_cannot_be_ordered_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="no utterance is left: 8 have no 'age'"):
        order_by_age([source], tmp_path / "o.jsonl", AgeOrder(by="age"))
    with pytest.raises(PicoLMError, match=r"o\.txt must end in \.jsonl"):
        order_by_age([source], tmp_path / "o.txt", AgeOrder())
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "age_months": "2;6"}\n')
    with pytest.raises(PicoLMError, match="is '2;6', which is no age"):
        order_by_age([str(tmp_path / "bad.jsonl")], tmp_path / "o.jsonl", AgeOrder())
