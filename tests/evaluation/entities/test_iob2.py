import gzip
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.evaluation.entities.iob2 import TAGS, TYPES, Sentence, read_sentences
from picolm.evaluation.entities.spans import entities, illegal_starts

UNER = """\
# newdoc id = one
# sent_id = one-1
# text = Umalis si Juan.
1\tUmalis\tO\t-\t-
2\tsi\tO\t-\t-
3\tJuan\tB-PER\t-\tana
4\t.\tO\t-\t-

# sent_id = one-2
1\tCebu\tB-LOC\t-\tana
2\tCity\tI-LOC\t-\tana
"""


def written(tmp_path: Path, content: str | bytes, name: str = "some-test.iob2") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def words_and_tags(sentences: Sequence[Sentence]) -> list[list[tuple[str, str]]]:
    return [list(zip(sentence.words, sentence.tags, strict=True)) for sentence in sentences]


EXPECTED = [
    [("Umalis", "O"), ("si", "O"), ("Juan", "B-PER"), (".", "O")],
    [("Cebu", "B-LOC"), ("City", "I-LOC")],
]


def test_the_order_of_labels_is_that_of_the_loader() -> None:
    assert TAGS == ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text + "\n\n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\n\n" + text.replace("\n\n", "\n \n\n"),
    ],
    ids=["no empty line at the end", "several", "CRLF", "byte-order mark", "empty lines everywhere"],
)
def test_five_columns(tmp_path: Path, change: object) -> None:
    sentences = read_sentences(written(tmp_path, change(UNER)))  # type: ignore[operator]
    assert words_and_tags(sentences) == EXPECTED
    assert [sentence.text for sentence in sentences] == ["Umalis si Juan.", None]


def test_a_place_is_the_line_at_which_a_sentence_begins(tmp_path: Path) -> None:
    path = written(tmp_path, UNER)
    assert [sentence.place for sentence in read_sentences(path)] == [f"{path}, line 1", f"{path}, line 9"]


@pytest.mark.parametrize("parted", ["\t", " ", "   "])
def test_two_columns(tmp_path: Path, parted: str) -> None:
    lines = "Umalis O\nsi O\nJuan B-PER\n. O\n\nCebu B-LOC\nCity I-LOC".replace(" ", parted)
    assert words_and_tags(read_sentences(written(tmp_path, lines))) == EXPECTED


def test_a_hash_is_a_word_in_two_columns_and_begins_comments_elsewhere(tmp_path: Path) -> None:
    plain = read_sentences(written(tmp_path, "# text = # Juan\n# O\n#Juan B-PER\n"))
    assert words_and_tags(plain) == [[("#", "O"), ("#Juan", "B-PER")]] and plain[0].text == "# Juan"
    numbered = read_sentences(written(tmp_path, "1\t#\tO\t-\t-\n# a\tO\n2\t#Juan\tB-PER\t-\t-\n"))
    assert words_and_tags(numbered) == [[("#", "O"), ("#Juan", "B-PER")]]


def test_ranges_and_empty_nodes_are_no_words(tmp_path: Path) -> None:
    lines = [
        "1-2\tdo\t_\t-\t-",
        "1\tde\tO\t-\t-",
        "2\to\tO\t-\t-",
        "2.1\tnada\tO\t-\t-",
        "3\tSul\tB-LOC\t-\t-",
    ]
    (sentence,) = read_sentences(written(tmp_path, "\n".join(lines)))
    assert sentence.words == ("de", "o", "Sul") and sentence.tags == ("O", "O", "B-LOC")


def test_other_types_and_the_artefact_are_no_entities(tmp_path: Path) -> None:
    lines = "a B-OTH\nb I-OTH\nc B-O\nd I-O\ne B-PER"
    (sentence,) = read_sentences(written(tmp_path, lines))
    assert sentence.tags == ("O", "O", "O", "O", "B-PER")
    (sentence,) = read_sentences(written(tmp_path, "a B-MISC\nb B-OTH"), dropped=("OTH", "MISC"))
    assert sentence.tags == ("O", "O")


def test_illegal_starts_stay_as_they_are(tmp_path: Path) -> None:
    (sentence,) = read_sentences(written(tmp_path, "a O\nb I-PER\nc I-PER\nd I-LOC\ne B-ORG\nf I-ORG"))
    assert sentence.tags == ("O", "I-PER", "I-PER", "I-LOC", "B-ORG", "I-ORG")
    assert illegal_starts(sentence.tags) == 2


def test_gzip_is_read(tmp_path: Path) -> None:
    assert words_and_tags(read_sentences(written(tmp_path, gzip.compress(UNER.encode()), "a.iob2.gz"))) == EXPECTED


WORD = st.text(st.characters(exclude_categories=["Cs", "Zl", "Zp", "Cc"]), min_size=1, max_size=6)


@given(
    st.lists(
        st.lists(
            st.tuples(WORD.filter(lambda word: bool(word.strip())), st.sampled_from(TAGS)), min_size=1, max_size=6
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_sentence_and_no_word_is_lost(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str]]]
) -> None:
    numbered = "\n".join(
        "".join(f"{number}\t{word}\t{tag}\t-\t-\n" for number, (word, tag) in enumerate(own, start=1))
        for own in sentences
    )
    path = tmp_path_factory.getbasetemp() / "any.iob2"
    path.write_bytes(numbered.encode())
    assert words_and_tags(read_sentences(path)) == sentences
    path.write_bytes("\n".join("".join(f"{word}\t{tag}\n" for word, tag in own) for own in sentences).encode())
    assert words_and_tags(read_sentences(path)) == sentences


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: it has no sentences"),
        ("# sent_id = 1\n\n# text = a\n", "is empty: it has no sentences"),
        ("1\ta\tO\n", "line 1 has 3 columns; Universal NER has 5, parted by tabs"),
        ("{" + "x" * 1_000_000 + "}\n", "line 1 has 1 column; Universal NER has 5"),
        ("1\ta\tO\t-\t-\n2\tb\tO\n", "line 2 has 3 columns, but the words before it have 5"),
        ("a\tO\n\nb\n", "line 3 has 1 column, but the words before it have 2"),
        ("1\ta\tB-PRE\t-\t-\n", "line 1 has the tag 'B-PRE'; did you mean 'B-PER'?"),
        ("a\tO\nb\tB-MISC\n", r"line 2 has the tag 'B-MISC'.*dropped_types=\[OTH,MISC\]"),
        ("a\tPER\n", "line 1 has the tag 'PER'"),
        ("a\t\n", "line 1 has the tag ''"),
        ("a\t" + "y" * 1_000_000, "line 1 has the tag 'y{30}'"),
        ("1\t\tO\t-\t-\n", "line 1 has a tag but no word"),
        ("one\ta\tO\t-\t-\n", "line 1 begins with 'one', which numbers no word"),
        ("1.\ta\tO\t-\t-\n", "line 1 begins with '1.', which numbers no word"),
        (
            "1\ta\tO\t-\t-\n2\tb\tO\t-\t-\n1\tc\tO\t-\t-\n",
            "line 3 begins a sentence with its word 1, but no empty line ends",
        ),
        ("a O\n# sent_id = 2\nb O\n", "line 2 begins a sentence with its sent_id, but no empty line ends"),
        (b"1\tcaf\xe9\tO\t-\t-\n", "line 1: byte 0xe9 at offset 5 of the line is not valid UTF-8"),
        ("1\ta\tO\t-\t-\n".encode("utf-16"), "line 1: byte 0xff .* is not valid UTF-8"),
    ],
)
def test_damage_is_named_by_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(PicoLMError, match=message) as error:
        read_sentences(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 500


def test_half_a_gzip_and_a_missing_file_are_named(tmp_path: Path) -> None:
    whole = gzip.compress((UNER * 50).encode())
    half = written(tmp_path, whole[: len(whole) // 2], "half.iob2.gz")
    with pytest.raises(PicoLMError, match=r"half\.iob2\.gz is truncated: the gzip stream ends within line"):
        read_sentences(half)
    with pytest.raises(PicoLMError, match=r"is not valid gzip"):
        read_sentences(written(tmp_path, UNER, "no.iob2.gz"))
    with pytest.raises(PicoLMError, match=r"there is no file of entities .*; did you mean '.*half\.iob2\.gz'"):
        read_sentences(tmp_path / "halb.iob2.gz")
    with pytest.raises(PicoLMError, match=r"cannot read the entities in .*: Is a directory"):
        read_sentences(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentences", "words", "counts"),
    [
        # Of the first version of this file, which is the one at hand; the released one has 2,874 / 1,436 / 2,712.
        ("English-EWT/en_ewt-ud-train", 12_543, 204_579, (2_873, 1_434, 2_698)),
        ("English-EWT/en_ewt-ud-dev", 2_001, 25_149, (343, 224, 399)),
        ("English-EWT/en_ewt-ud-test", 2_077, 25_097, (449, 322, 317)),
        ("Slovak-SNK/sk_snk-ud-train", 8_483, 80_628, (2_277, 153, 277)),
        ("Slovak-SNK/sk_snk-ud-dev", 1_060, 12_733, (276, 60, 300)),
        ("Slovak-SNK/sk_snk-ud-test", 1_061, 12_736, (539, 50, 326)),
        ("English-PUD/en_pud-ud-test", 1_000, 21_176, (414, 235, 426)),
        ("Tagalog-TRG/tl_trg-ud-test", 128, 734, (19, 0, 4)),
        ("Cebuano-GJA/ceb_gja-ud-test", 188, 1_295, (42, 1, 6)),
    ],
)
def test_the_counts_of_universal_ner(
    shared_data: Path, name: str, sentences: int, words: int, counts: tuple[int, int, int]
) -> None:
    read = read_sentences(shared_data / "uner" / f"UNER_{name}.iob2")
    assert (len(read), sum(len(sentence.words) for sentence in read)) == (sentences, words)
    found = Counter(entity.kind for sentence in read for entity in entities(sentence.tags))
    assert tuple(found[kind] for kind in TYPES) == counts
    assert sum(illegal_starts(sentence.tags) for sentence in read) == 0


def test_slovak_names_of_one_word(shared_data: Path) -> None:
    read = read_sentences(shared_data / "uner" / "UNER_Slovak-SNK" / "sk_snk-ud-train.iob2")
    lengths = {kind: Counter[int]() for kind in TYPES}
    for sentence in read:
        for kind, start, stop in entities(sentence.tags):
            lengths[kind][stop - start] += 1
    shares = {kind: round(100 * found[1] / found.total(), 1) for kind, found in lengths.items()}
    assert shares == {"PER": 87.6, "LOC": 75.1, "ORG": 56.9}
