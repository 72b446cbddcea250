"""Transcripts in CHAT: what was said, by whom, and how old the child was."""

from pathlib import Path

import pytest

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.age_order import AgeOrder, order_by_age
from picolm.text.chat import spoken
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.sources import expand

TRANSCRIPT = """@UTF8
@Begin
@Languages:\tfra
@Participants:\tCHI Anae Target_Child, MOT Mother
@ID:\tfra|Paris|CHI|{age}|female|||Target_Child|||
@ID:\tfra|Paris|MOT||female|||Mother|||
*MOT:\ttu veux <le le> [/] le ballon [= balle] ? \x15120_340\x15
%mor:\tpro|tu v|vouloir ?
*CHI:\txxx .
*CHI:\tballon@f (.) rou(ge) &-euh
\tencore +...
@End
"""


def read(path: Path, text: str) -> list[Document]:
    path.write_text(text, encoding="utf-8")
    (source,) = expand([str(path)])
    return list(read_documents(source, Data()))


def test_utterances_have_their_speaker_and_the_age_of_the_child(tmp_path: Path) -> None:
    mother, child = read(tmp_path / "a.cha", TRANSCRIPT.format(age="2;06.15"))
    assert (mother.id, mother.domain, mother.text) == ("a.cha:7", "Paris", "tu veux le le le ballon?")
    assert child.text == "ballon rouge encore."
    common = {"corpus": "Paris", "language": "fra", "child": "CHI", "age_months": 30.49}
    assert mother.metadata == {"speaker": "MOT", "role": "Mother", **common}
    assert child.metadata == {"speaker": "CHI", "role": "Target_Child", **common}
    assert child.id == "a.cha:10"


@pytest.mark.parametrize(
    ("age", "months"), [("2;06.15", 30.49), ("1;03.", 15.0), ("1;11", 23.0), ("3;", 36.0), ("0;10.00", 10.0)]
)
def test_ages(tmp_path: Path, age: str, months: float) -> None:
    assert read(tmp_path / "a.cha", TRANSCRIPT.format(age=age))[0].metadata["age_months"] == months


@pytest.mark.parametrize(
    ("tier", "text"),
    [
        ("what is that ?", "what is that?"),
        ("Mommy , look !", "Mommy, look!"),
        ("well \u201e no \u2021 yes .", "well, no, yes."),
        ("I wanna [: want to] go [*] .", "I wanna go."),
        ("it 0is (be)cause no: .", "it because no."),
        ("&=laughs ice_cream &+b ball .", "ice cream ball."),
        ("+< and then +//.", "and then."),
        ("www .", ""),
        ("0 .", ""),
        ("yyy@u doggie@c .", "doggie."),
    ],
)
def test_what_was_said_is_left(tier: str, text: str) -> None:
    assert spoken(tier) == text


def test_transcripts_of_any_language_come_in_the_order_of_age(tmp_path: Path) -> None:
    for name, age in (("late", "3;01.00"), ("early", "1;06.00")):
        (tmp_path / f"{name}.cha").write_text(TRANSCRIPT.format(age=age), encoding="utf-8")
    out = tmp_path / "heard.jsonl"
    order_by_age([str(tmp_path)], out, AgeOrder(drop={"role": frozenset({"Target_Child"})}))
    (source,) = expand([str(out)])
    assert [d.metadata["age_months"] for d in read_documents(source, Data())] == [18.0, 37.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.cha is empty: it has no utterances"),
        ("hello there\n", "line 1 begins with 'hello ther'; a line of CHAT begins with"),
        ("@ID:\tfra|Paris|CHI\n", "line 1 has 3 fields; an @ID of CHAT"),
        (TRANSCRIPT.format(age="30 months"), "line 5 has the age '30 months'; CHAT writes years;months.days"),
    ],
)
def test_what_is_no_transcript_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PicoLMError, match=message):
        read(tmp_path / "a.cha", text)
