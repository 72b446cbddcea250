import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from picolm.cli import app
from picolm.errors import PicoLMError
from picolm.text.world import minimal_pairs, open_corpus


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["data", "world", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_statistics_are_those_of_the_documents() -> None:
    source = "embedded:vso?documents=30&seed=2"
    documents = list(open_corpus(source).documents())
    printed = json.loads(run(source, "--samples", "2", "--json"))
    assert printed["documents"] == 30
    assert printed["bytes"] == sum(len(document.text) for document in documents)
    assert printed["words"] == sum(len(document.tags) for document in documents)
    assert sum(printed["tags"].values()) == pytest.approx(1.0)
    assert [sample["text"] for sample in printed["samples"]] == [document.text for document in documents[:2]]
    assert {row["paradigm"] for row in printed["paradigms"]} >= {"object_agreement", "verb_position"}


def test_samples_show_each_word_with_its_tag() -> None:
    document = open_corpus("english?documents=8").document(0)
    printed = run("english?documents=8", "--samples", "1", "--phenomena")
    for start, stop, upos in document.tags:
        assert f"{document.text[start:stop]}/{upos}" in printed
    assert "\nfiller_gap / what_or_that: a clause with a gap takes `what`" in printed


def test_pairs_are_written(tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    assert "10 pairs" in run("svo?case=particle", "--pairs", "2", "--out", str(out), "--seed", "7")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    made = minimal_pairs(count=2, seed=7, corpus="svo?case=particle")
    assert [record["sentence_bad"] for record in records] == [pair.bad for pair in made]


def test_pairs_need_a_file() -> None:
    with pytest.raises(PicoLMError, match="--pairs N and --out FILE go together"):
        run("--pairs", "2")
