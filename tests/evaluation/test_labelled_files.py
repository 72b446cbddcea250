import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.evaluation.labelled_corpus import cut
from picolm.evaluation.labelled_files import Fields, held_out, label_numbers, read_labelled, sample

TABLE = "text\tlabel\na good film\tpos\na bad film\tneg\n"
LINES = '{"text": "a good film", "label": "pos"}\n{"text": "a bad film", "label": "neg"}\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def test_the_same_texts_in_four_forms(write: Callable[[str, str | bytes], Path]) -> None:
    for name, content in (("a.jsonl", LINES), ("a.jsonl.gz", LINES), ("a.tsv", TABLE), ("a.tsv.gz", TABLE)):
        texts = read_labelled(write(name, content), Fields())
        assert [(text.text, text.pair, text.label) for text in texts] == [
            ("a good film", None, "pos"),
            ("a bad film", None, "neg"),
        ]
        assert texts[1].place.endswith(f"{name}, line {3 if '.tsv' in name else 2}")


def test_tables_are_read_as_they_stand(write: Callable[[str, str | bytes], Path]) -> None:
    """Windows line ends, a byte-order mark, quotes that mean nothing, columns that are empty or of no interest."""
    table = '\ufeffid\tone\ttwo\tgold\tnote\r\n\t"Quoted, she said\tIt\'s "so"\t0\t\r\n2\tplain\tagain\t1\t\r\n\r\n'
    texts = read_labelled(write("a.tsv", table), Fields("one", "two", "gold"))
    assert [(text.text, text.pair, text.label) for text in texts] == [
        ('"Quoted, she said', 'It\'s "so"', "0"),
        ("plain", "again", "1"),
    ]


def test_labels_are_known_by_their_text(write: Callable[[str, str | bytes], Path]) -> None:
    lines = "".join(f'{{"text": "x", "label": {label}}}\n' for label in ("1", '"1"', "true", '"true"', "-1"))
    assert [text.label for text in read_labelled(write("a.jsonl", lines), Fields())] == ["1", "1", "true", "true", "-1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", r"a.txt is not .jsonl, .jsonl.gz, .tsv or .tsv.gz"),
        ("a.jsonl", "", "is empty: it has no labelled texts"),
        ("a.tsv", "", "is empty"),
        ("a.tsv", "text\tlabel\n", "is empty"),
        ("a.jsonl", LINES + "[1]", "line 3 is not a JSON object but a list"),
        ("a.jsonl", '{"text": "x", "lable": "a"}', "line 1 has no field 'label'; did you mean 'lable'"),
        ("a.jsonl", '{"txet": "x", "label": "a"}', "line 1 has no field 'text'; did you mean 'txet'"),
        ("a.jsonl", '{"text": " ", "label": "a"}', "line 1 has an empty string in its 'text'"),
        ("a.jsonl", '{"text": 5, "label": "a"}', "line 1 has a number in its 'text', which must be a string"),
        ("a.jsonl", '{"text": "x", "label": 2.5}', "line 1 has 2.5 as its 'label': a label is a text, a whole number"),
        ("a.jsonl", '{"text": "x", "label": ["a"]}', "line 1 has a list in its 'label'"),
        ("a.jsonl", '{"text": "x", "label": ""}', "line 1 has an empty string in its 'label'"),
        ("a.jsonl", b'{"text": "caf\xe9", "label": "a"}', "line 1: byte 0xe9"),
        ("a.tsv", b"text\tlabel\ncaf\xe9\ta\n", "line 2: byte 0xe9"),
        ("a.tsv", TABLE + "only one\n", "line 4 has 1 columns, but the first line names 2 (text, label)"),
        ("a.tsv", TABLE + "a\tb\tc\n", "line 4 has 3 columns"),
        ("a.tsv", "text\ttext\na\tb\n", "has two columns called 'text' in its first line"),
        ("a.tsv", "sentence\tlabel\na\tb\n", "line 2 has no field 'text'"),
    ],
)
def test_bad_files_are_named_by_line(
    write: Callable[[str, str | bytes], Path], name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(PicoLMError) as error:
        read_labelled(write(name, content), Fields())
    assert name in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.tsv.gz"])
def test_half_a_gzip_is_named_by_line(tmp_path: Path, name: str) -> None:
    whole = gzip.compress((TABLE if ".tsv" in name else LINES).encode() * 1000)
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PicoLMError, match=r"truncated: the gzip stream ends within line \d+"):
        read_labelled(tmp_path / name, Fields())
    with pytest.raises(PicoLMError, match=r"there is no file of labelled texts .*did you mean"):
        read_labelled(tmp_path / f"b{name[1:]}", Fields())


def test_a_label_that_was_never_seen_is_named_by_line(write: Callable[[str, str | bytes], Path]) -> None:
    texts = read_labelled(write("a.tsv", TABLE), Fields())
    assert label_numbers(texts, ("neg", "pos"), Path("train.tsv")) == [1, 0]
    with pytest.raises(PicoLMError, match=r"a.tsv, line 3 has the label 'neg', which no text in train.tsv has.*'nag'"):
        label_numbers(texts, ("nag", "pos"), Path("train.tsv"))


def test_texts_are_held_out_by_their_number_alone(write: Callable[[str, str | bytes], Path]) -> None:
    texts = read_labelled(
        write("a.tsv", "text\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(40))), Fields()
    )
    rest, dev = held_out(texts, 0.1)
    assert len(dev) == 4 and sorted([*rest, *dev], key=texts.index) == texts
    assert rest == sorted(rest, key=texts.index) and dev == sorted(dev, key=texts.index)
    other = [texts[0], *texts[1:][::-1]]
    assert [texts.index(text) for text in dev] == [other.index(text) for text in held_out(other, 0.1)[1]]
    assert len(held_out(texts, 0.001)[1]) == 1
    drawn = sample(texts, 5)
    assert len(drawn) == 5 and drawn == sorted(drawn, key=texts.index) and sample(texts, 99) == texts


@given(first=st.integers(1, 60), second=st.integers(0, 60), room=st.integers(2, 80))
def test_the_longer_text_is_cut_first_and_no_room_is_wasted(first: int, second: int, room: int) -> None:
    one, other = cut(first, second, room)
    assert 0 < one <= first and 0 <= other <= second and one + other == min(first + second, room)
    if one < first and other < second:
        assert abs(one - other) <= 1, "two long texts share"
    elif one < first:
        assert one >= other, "a short text is left whole beside a long one"
    elif other < second:
        assert other >= one - 1
