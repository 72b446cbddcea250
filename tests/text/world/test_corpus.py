import hashlib
import json

import pytest

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.sources import expand
from picolm.text.world import NAMES, corpus, open_corpus

# Of the first 20 documents of each. After a deliberate change of a grammar, raise corpus.VERSION and write them anew.
BEGINNINGS = {
    2: {
        "english": "7085daaa49b96163",
        "svo": "37fdd76e00673f50",
        "sov": "8e7958d332f127ca",
        "vso": "e0a2c2e13e69a136",
        "pcfg": "9245b6f9f39124b1",
    }
}


def digest(documents: list[Document]) -> str:
    found = hashlib.sha256()
    for document in documents:
        record = [document.id, document.domain, document.text, dict(document.metadata), document.tags]
        found.update(json.dumps(record).encode() + b"\n")
    return found.hexdigest()


def test_the_default_corpus_is_the_one_that_is_declared(corpus: list[Document]) -> None:
    declared = open_corpus("embedded:english")
    assert sum(len(document.text.encode()) for document in corpus) == declared.size
    assert digest(corpus) == declared.sha256()
    assert 2_000_000 < declared.size < 3_000_000


def test_the_version_belongs_to_what_is_generated() -> None:
    found = {name: digest(list(open_corpus(f"{name}?documents=20").documents()))[:16] for name in NAMES}
    assert found == BEGINNINGS[corpus.VERSION]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_about_right(name: str) -> None:
    some = open_corpus(f"{name}?documents=400")
    assert abs(sum(len(document.text) for document in some.documents()) / some.size - 1) < 0.08


def test_identity_follows_the_parameters() -> None:
    sources = [
        "english",
        "english?seed=1",
        "english?documents=7",
        "sov",
        "sov?case=none",
        "sov?agreement=both",
        "sov?lexicon=1",
        "svo",
    ]
    assert len({open_corpus(source).sha256() for source in sources}) == len(sources)
    same = ["embedded:english", "english", "english?documents=16000", "english?seed=0&documents=16000"]
    assert {(open_corpus(source).sha256(), open_corpus(source).source) for source in same} == {
        (corpus.CORPUS_SHA256, "embedded:english")
    }
    assert open_corpus("sov?seed=2&case=none&documents=9").source == "embedded:sov?documents=9&seed=2&case=none"
    assert open_corpus(open_corpus("sov?seed=2&case=none").source) == open_corpus("sov?case=none&seed=2")


def test_fewer_documents_are_a_prefix_of_more_and_seeds_differ() -> None:
    few, more = (list(open_corpus(f"vso?documents={n}&seed=4").documents()) for n in (5, 9))
    assert more[:5] == few
    assert [document.text for document in open_corpus("vso?documents=5").documents()] != [d.text for d in few]


def test_parametrised_corpora_are_sources() -> None:
    first, second = expand(["embedded:english?documents=12", "embedded:sov?documents=8&seed=1"])
    assert (first.name, second.name) == ("embedded:english?documents=12", "embedded:sov?documents=8&seed=1")
    reader = read_documents(first, Data())
    assert len(list(reader)) == 12
    assert reader.bytes_read == first.size
    assert [document.domain for document in read_documents(second, Data())] == ["sov"] * 8


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("englisch", "no embedded corpus 'englisch'; did you mean 'english'"),
        ("english?document=5", "embedded:english has no parameter 'document'; did you mean 'documents'"),
        ("english?case=none", "embedded:english has no parameter 'case'"),
        ("english?", "embedded:english has no parameter ''"),
        ("english?documents=0", "documents must be a whole number from 1 on, not '0'"),
        ("english?documents=many", "documents must be a whole number from 1 on, not 'many'"),
        ("english?seed=-1", "seed must be a whole number from 0 on, not '-1'"),
        ("english?seed", "must give 'seed' once, as seed=VALUE"),
        ("english?seed=1&seed=2", "must give 'seed' once"),
        ("sov?case=suffix", "case must be one of none, particle, not 'suffix'"),
    ],
)
def test_wrong_sources_are_named(source: str, message: str) -> None:
    with pytest.raises(PicoLMError, match=message.replace("?", r"\?")):
        expand([f"embedded:{source}"])


def test_corpora_with_documents_in_common_are_refused() -> None:
    with pytest.raises(
        PicoLMError, match=r"embedded:english and embedded:english\?documents=9 have documents in common"
    ):
        expand(["embedded:english", "embedded:english?documents=9"])
    assert len(expand(["embedded:english", "embedded:english?seed=1", "embedded:english"])) == 2
