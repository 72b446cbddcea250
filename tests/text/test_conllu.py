import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.sources import SourceFile


def row(number: str, form: str, tag: str, misc: str = "_") -> str:
    return f"{number}\t{form}\t_\t{tag}\t_\t_\t_\t_\t_\t{misc}\n"


SENTENCE = row("1", "Il", "PRON") + row("2", "parle", "VERB")
CONTRACTED = (
    row("3-4", "du", "_") + row("3", "de", "ADP") + row("4", "le", "DET") + row("4.1", "cher", "ADJ", "CopyOf=2")
)
END = row("5", "chat", "NOUN", "SpaceAfter=No|Gloss=x") + row("6", ".", "PUNCT") + "\n"


def read(path: Path, content: str) -> list[Document]:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return list(read_documents(SourceFile(path), Data()))


def words(document: Document) -> list[tuple[str, str]]:
    return [(document.text[tag.start : tag.stop], tag.upos) for tag in document.tags]


@pytest.mark.parametrize("name", ["d.conllu", "d.conllu.gz"])
def test_a_sentence_is_rebuilt_from_its_words(tmp_path: Path, name: str) -> None:
    (document,) = read(tmp_path / name, SENTENCE + CONTRACTED + END)
    assert document.text == "Il parle du chat."
    expected = [("Il", "PRON"), ("parle", "VERB"), ("du", "ADP"), ("chat", "NOUN"), (".", "PUNCT")]
    assert words(document) == expected
    assert (document.id, document.domain, document.metadata) == (f"{name}:1", "d", {"sentences": 1})


def test_the_text_comment_wins(tmp_path: Path) -> None:
    (document,) = read(tmp_path / "d.conllu", "# text = Il  parle\u00a0du chat.\n" + SENTENCE + CONTRACTED + END)
    assert document.text == "Il  parle\u00a0du chat."
    assert words(document)[2] == ("du", "ADP")


def test_documents_begin_where_they_are_marked(tmp_path: Path) -> None:
    sentence = SENTENCE + "\n"
    content = f"# newdoc id = one\n# genre = news\n# sent_id = 1\n{sentence}{sentence}# newdoc\n{sentence * 2000}"
    one, two = read(tmp_path / "d.conllu", content)
    assert (one.id, one.text, one.metadata) == ("one", "Il parle\nIl parle", {"genre": "news", "sentences": 2})
    assert (two.id, two.metadata["sentences"]) == ("d.conllu:10", 2000)
    assert words(one) == [("Il", "PRON"), ("parle", "VERB")] * 2


def test_unmarked_sentences_are_joined_into_pieces(tmp_path: Path) -> None:
    documents = read(tmp_path / "d.conllu", (SENTENCE + "\n") * 5000)
    assert "\n".join(document.text for document in documents) == "\n".join(["Il parle"] * 5000)
    assert all(8192 <= len(document.text) + 1 < 8192 + 9 for document in documents[:-1])
    assert len({document.id for document in documents}) == len(documents) == 6


def test_words_without_a_tag_have_none(tmp_path: Path) -> None:
    (document,) = read(tmp_path / "d.conllu", row("1", "a", "_") + row("2", "b", "X") + "\n")
    assert words(document) == [("b", "X")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "d.conllu is empty: it has no sentences"),
        ("# text = x\n\n", "is empty"),
        (SENTENCE + "3\tx\n", "line 3 has 2 columns; CoNLL-U has 10, parted by tabs"),
        (SENTENCE + row("x", "y", "X"), "line 3 begins with 'x', which numbers no word"),
        (
            "# text = Il\n" + SENTENCE + "\n",
            "the sentence at line 1 has the word 'parle', which its text does not hold",
        ),
        (row("1", "a", "NN") + "\n", "the sentence at line 1 has the part of speech 'NN', which is not universal"),
    ],
)
def test_mistakes_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(PicoLMError, match=message):
        read(tmp_path / "d.conllu", content)


CONTENT = ("# newdoc id = é\n# text = Il parle du chat.\n" + SENTENCE + CONTRACTED + END).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 3), st.binary(max_size=4)), max_size=5))
def test_any_mutation_parses_or_is_refused(tmp_path: Path, edits: list[tuple[int, int, bytes]]) -> None:
    content = CONTENT
    for position, removed, inserted in edits:
        content = content[:position] + inserted + content[position + removed :]
    path = tmp_path / "d.conllu"
    path.write_bytes(content)
    try:
        documents = list(read_documents(SourceFile(path), Data()))
    except PicoLMError as error:
        assert "d.conllu" in str(error)
    else:
        for document in documents:
            spans = [bound for tag in document.tags for bound in tag[:2]]
            assert spans == sorted(spans)
            assert not spans or spans[-1] <= len(document.text)


@pytest.mark.parametrize(
    ("file", "documents"),
    [
        ("UD_English-EWT/en_ewt-ud-dev.conllu.gz", 318),
        ("UD_French-GSD/fr_gsd-ud-dev.conllu.gz", None),
        ("UD_Japanese-GSD/ja_gsd-ud-dev.conllu.gz", 507),
        ("UD_Chinese-GSDSimp/zh_gsdsimp-ud-test.conllu.gz", None),
    ],
)
def test_real_treebanks(shared_data: Path, file: str, documents: int | None) -> None:
    found = list(read_documents(SourceFile(shared_data / "ud" / file), Data()))
    assert documents is None or len(found) == documents
    lines = gzip.decompress((shared_data / "ud" / file).read_bytes()).decode().splitlines()
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    assert "\n".join(document.text for document in found) == "\n".join(texts)
    for document in found:
        tagged = "".join(document.text[tag.start : tag.stop] for tag in document.tags)
        assert "".join(tagged.split()) == "".join(document.text.split())
