"""`picolm text`: taggers from the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from picolm.cli import app
from picolm.errors import PicoLMError


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def conllu(path: Path, n: int = 40) -> str:
    rows = [("the", "DET"), ("dog", "NOUN"), ("runs", "VERB"), (".", "PUNCT")]
    sentence = "".join(f"{i}\t{w}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n" for i, (w, tag) in enumerate(rows, start=1))
    path.write_text((sentence + "\n") * n)
    return str(path)


def test_a_tagger_is_trained_scored_and_used(tmp_path: Path) -> None:
    source, out = conllu(tmp_path / "a.conllu"), tmp_path / "a.tagger"
    found = json.loads(run("text", "train-tagger", source, "--out", str(out), "--tagset", "coarse", "--json"))
    assert found["held_out"]["accuracy"] == 1.0 and found["held_out"]["words"] == 16
    assert found["names"] == ["NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "ADP", "NUM", "CONJ", "PRT", ".", "X"]
    text = tmp_path / "d.txt"
    text.write_text("The dog runs.\n\n" * 40)
    data = str(tmp_path / "data")
    run("data", "prepare", str(text), "--out", data, "--tokenizer", "bpe:300", "--tagger", str(out),
        "--validation-fraction", "0")  # fmt: skip
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["tag_names"] == found["names"]


def test_classes_are_learnt_without_annotation_and_named_by_some(tmp_path: Path) -> None:
    source, out = conllu(tmp_path / "a.conllu"), str(tmp_path / "c.tagger")
    words = ["text", "train-tagger", source, "--classes", "4", "--named-by", source, "--test", source, "--out", out]
    printed = run(*words)
    assert "hidden_markov" in printed and "100.0% of 160 held-out words" in printed
    with pytest.raises(PicoLMError, match="is never overwritten"):
        run(*words)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    source, out = conllu(tmp_path / "a.conllu"), str(tmp_path / "c.tagger")
    for more, message in (
        (["--tagset", "penn"], "--tagset 'penn' is neither upos nor coarse"),
        (["--named-by", source], "--named-by names the classes of --classes"),
    ):
        with pytest.raises(PicoLMError, match=message):
            run("text", "train-tagger", source, "--out", out, *more)
    plain = tmp_path / "plain.txt"
    plain.write_text("no tags here")
    with pytest.raises(PicoLMError, match="has no parts of speech: give CoNLL-U"):
        run("text", "train-tagger", str(plain), "--out", out)
