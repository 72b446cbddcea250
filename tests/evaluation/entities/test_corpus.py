from collections.abc import Callable
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.evaluation.entities.corpus import Corpus, Files, find_files, read_corpus, tags_of
from picolm.evaluation.entities.iob2 import TAGS
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from ..conftest import material
from .conftest import planted, written

WriteSet = Callable[..., Path]


def test_the_layout_of_universal_ner_is_found(easy: Path, write_set: WriteSet, tmp_path: Path) -> None:
    transfer = write_set("tl_trg", test=planted(5, 3))
    single = tmp_path / "mine.conll"
    single.write_text("Ana B-PER\n")
    files = find_files(str(easy), None, None, None, [str(transfer), str(single)])
    assert files == Files(
        easy / "xx_easy-ud-train.iob2",
        easy / "xx_easy-ud-dev.iob2",
        {
            "xx_easy": easy / "xx_easy-ud-test.iob2",
            "tl_trg": transfer / "tl_trg-ud-test.iob2",
            "mine": single,
        },
    )


def test_a_named_file_takes_the_place_of_the_directorys(easy: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other-test.iob2")
    files = find_files(str(easy), None, other, other, [])
    assert files.train.parent == easy and files.dev == Path(other) and list(files.tests) == ["other"]
    files = find_files(None, other, None, None, [other])
    assert files == Files(Path(other), None, {"other": Path(other)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: find_files(str(own / "no"), None, None, None, []), "no is no directory"),
        (lambda own: find_files(str(own / "xx_easy-ud-dev.iob2"), None, None, None, []), "is no directory: files are"),
        (
            lambda own: find_files(str(own), None, None, None, [str(own / "xx_easy-ud-test.iob2")]),
            "are both called 'xx_easy'",
        ),
        (lambda own: find_files(str(own), None, None, None, ["dev.iob2"]), "dev.iob2 cannot be called 'dev'"),
        (lambda own: find_files(str(own.parent), None, None, None, []), r"has no \*-train.iob2"),
        (lambda own: find_files(str(own), None, None, None, [str(own.parent)]), r"has no \*-test.iob2"),
    ],
)
def test_what_is_not_there_or_has_one_name_is_refused(
    easy: Path, change: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(PicoLMError, match=message):
        change(easy)


def test_several_files_of_a_kind_are_refused(easy: Path) -> None:
    (easy / "yy-test.iob2.gz").write_bytes(b"")
    with pytest.raises(PicoLMError, match=r"has several files of the kind \*-test.iob2: name one, as in test="):
        find_files(str(easy), None, None, None, [])


def read(directory: Path, model: Transformer, tokenizer: Tokenizer, *, sentences: int = 0, seed: int = 0) -> Corpus:
    files = find_files(str(directory), None, None, None, [])
    return read_corpus(files, material(model, tokenizer), dropped=("OTH",), sentences=sentences, seed=seed)


def test_labels_are_repaired_and_right_tags_are_kept(
    causal: Transformer, tokenizer: Tokenizer, write_set: WriteSet
) -> None:
    odd = "Ana I-PER\nCruz I-PER\nCebu I-LOC\n, O\nAcme B-ORG\n"
    directory = write_set("xx_odd", train=odd, test=odd)
    corpus = read(directory, causal, tokenizer)
    for part in (corpus.train, corpus.tests["xx_odd"]):
        assert part.tags == [("I-PER", "I-PER", "I-LOC", "O", "B-ORG")]
        assert tags_of(part.examples[0].labels) == ("B-PER", "I-PER", "B-LOC", "O", "B-ORG")
        assert part.facts() == {"sentences": 1, "words": 5, "illegal_starts": 2, "joined": 1}


def test_a_drawn_training_set_is_keyed_and_the_rest_stays(
    causal: Transformer, tokenizer: Tokenizer, easy: Path
) -> None:
    whole = [sentence.place for sentence in read(easy, causal, tokenizer).train.sentences]
    drawn = [read(easy, causal, tokenizer, sentences=20, seed=seed) for seed in (0, 0, 1)]
    places = [[sentence.place for sentence in one.train.sentences] for one in drawn]
    assert places[0] == places[1] != places[2] and len(places[0]) == 20
    assert sorted(places[0], key=whole.index) == places[0] and set(places[0]) < set(whole)
    assert len(drawn[0].dev.sentences) == len(drawn[0].tests["xx_easy"].sentences) == 60
    more = read(easy, causal, tokenizer, sentences=10**6)
    assert len(more.train.sentences) == 150


def test_a_type_that_cannot_be_learned_is_refused(
    causal: Transformer, tokenizer: Tokenizer, write_set: WriteSet
) -> None:
    directory = write_set("xx_few", train="Ana B-PER\n", test="Ana B-PER\n\nO O\nAcme B-ORG\n")
    with pytest.raises(
        PicoLMError, match=r"xx_few-ud-test.iob2, line 3: .* 'B-ORG', but .*train.iob2 .*dropped_types=\[OTH,ORG\]"
    ):
        read(directory, causal, tokenizer)


def test_a_set_without_any_entity_is_refused(causal: Transformer, tokenizer: Tokenizer, write_set: WriteSet) -> None:
    directory = write_set("xx_none", train="Ana B-PER\n", test="Ana O\n")
    with pytest.raises(PicoLMError, match=r"xx_none-ud-test.iob2 has no entity"):
        read(directory, causal, tokenizer)


def test_planted_sentences_are_what_they_claim() -> None:
    assert written([[("a", "O")], [("b", "B-PER")]]).count("\n\n") == 1
    assert {tag for sentence in planted(150, 0) for _, tag in sentence} == set(TAGS)
