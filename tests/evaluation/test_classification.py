"""The task classification: planted labels, controls, pairs, long texts, and what is written."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import picolm
from picolm.errors import PicoLMError
from picolm.evaluation.bag import BagReader
from picolm.evaluation.labelled_corpus import examples_of
from picolm.evaluation.labelled_files import Labelled
from picolm.evaluation.task import Figure, Found, Subject, Task, parse_task
from picolm.model.transformer import Transformer
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import read_evaluations
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, material, tiny_model

Table = Mapping[tuple[str, str], Figure]
Write = Callable[..., Path]
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
QUICK = "learning_rates=1e-2 epochs=5"


def texts(count: int, seed: int, rule: Callable[[Sequence[str]], str]) -> list[dict[str, str]]:
    draw = np.random.default_rng(seed)
    drawn = [[WORDS[i] for i in draw.integers(0, len(WORDS), draw.integers(3, 8))] for _ in range(count)]
    return [{"text": " ".join(words), "label": rule(words)} for words in drawn]


def by_last_word(words: Sequence[str]) -> str:
    return "long" if len(words[-1]) > 3 else "short"


def by_some_word(words: Sequence[str]) -> str:
    return "has" if "seven" in words else "lacks"


def by_order(words: Sequence[str]) -> str:
    """What no bag of words can tell."""
    return "rises" if words[0] < words[-1] else "falls"


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return tiny_model(tokenizer, init={"std": 0.02})


def asked(model: Transformer, tokenizer: Tokenizer, words: str, **changes: Any) -> tuple[Task, Found, Table]:
    task = parse_task(words)
    task.prepare(material(model, tokenizer, **changes))
    found = task.measure(Subject(engine(model)))
    return task, found, {(f.subset, f.metric): f for f in found.figures}


def test_a_label_that_the_last_word_gives_away_is_found_by_a_probe(
    model: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    train = write_jsonl(texts(200, 0, by_last_word), "train.jsonl")
    test = write_jsonl(texts(100, 1, by_last_word), "test.jsonl")
    _, _, figures = asked(model, tokenizer, f"classification:{train} test={test} {QUICK}")
    assert figures["all", "accuracy"].value > 95 and figures["all", "mcc"].value > 90
    assert figures["all", "accuracy"].n == 100
    gold = [record["label"] for record in texts(100, 1, by_last_word)]
    most = max(("long", "short"), key=[record["label"] for record in texts(200, 0, by_last_word)].count)
    share = gold.count(most) / 100
    assert figures["all", "accuracy_majority"].value == pytest.approx(100 * share)
    assert figures["all", "accuracy_majority"].se == pytest.approx(100 * math.sqrt(share * (1 - share) / 99))
    assert figures["all", "mcc_majority"].value == 0.0
    assert figures["test/test", "accuracy"] == figures["all", "accuracy"]._replace(subset="test/test")


def test_a_bag_of_tokens_finds_words_and_no_order_and_a_tuned_model_finds_both(
    tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    model = tiny_model(tokenizer, init={"std": 0.1})
    for rule, is_in_the_bag in ((by_some_word, True), (by_order, False)):
        train = write_jsonl(texts(600, 0, rule), "train.jsonl")
        test = write_jsonl(texts(200, 1, rule), "test.jsonl")
        words = f"classification:{train} test={test} mode=full learning_rates=3e-3 controls=unigram batch_size=32"
        _, _, figures = asked(model, tokenizer, words)
        assert figures["all", "accuracy"].value > 90
        assert (figures["all", "accuracy_unigram"].value > 95) == is_in_the_bag
        assert ("all", "accuracy_untrained") not in figures


def test_labels_that_mean_nothing_are_not_learned(model: Transformer, tokenizer: Tokenizer, write_jsonl: Write) -> None:
    draw = np.random.default_rng(0)
    files = [
        write_jsonl(texts(count, seed, lambda _: str(draw.integers(0, 2))), f"{name}.jsonl")
        for name, count, seed in (("train", 200, 0), ("test", 400, 1))
    ]
    _, _, figures = asked(model, tokenizer, f"classification:{files[0]} test={files[1]} {QUICK}")
    for ending in ("", "_unigram", "_untrained", "_majority"):
        assert abs(figures["all", f"accuracy{ending}"].value - 50) < 100 * 5 * math.sqrt(0.25 / 400)
        assert abs(figures["all", f"mcc{ending}"].value) < 100 * 5 / math.sqrt(400)


def test_without_tests_figures_are_of_held_out_texts_and_say_so(
    model: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    train = write_jsonl(texts(60, 0, by_last_word), "train.jsonl")
    task = parse_task(f"classification:{train} dev_fraction=0.2 controls=[] {QUICK}")
    identity = task.prepare(material(model, tokenizer))
    figures = {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}
    assert {subset for subset, metric in figures if metric == "accuracy"} == {"all", "dev"}
    assert figures["dev", "accuracy"].n == 12 and figures["train", "cut_texts"].n == 48
    assert identity["test"] == [] and identity["dev"] is False and identity["dev_fraction"] == 0.2


def test_several_tests_are_told_apart_and_taken_together(
    model: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    train = write_jsonl(texts(100, 0, by_last_word), "train.jsonl")
    one = write_jsonl(texts(30, 1, by_last_word), "near.jsonl")
    other = write_jsonl(texts(70, 2, by_some_word), "far.jsonl")
    # Other labels than those of training; so they are given the same names.
    other.write_text(other.read_text().replace('"has"', '"long"').replace('"lacks"', '"short"'))
    words = f"classification:{train} test=[{one},{other}] controls=majority {QUICK}"
    _, found, figures = asked(model, tokenizer, words)
    near, far, both = (figures[subset, "accuracy"] for subset in ("test/near", "test/far", "all"))
    assert (near.n, far.n, both.n) == (30, 70, 100)
    assert both.value == pytest.approx((30 * near.value + 70 * far.value) / 100)
    assert near.value > 90 > far.value
    table = pq.read_table(io.BytesIO(found.files["predictions.parquet"])).to_pylist()
    for subset, figure in (("test/near", near), ("test/far", far)):
        own = [row for row in table if row["subset"] == subset]
        right = [row["label"] == row["predicted"] for row in own]
        assert figure.value == pytest.approx(100 * np.mean(right))
        assert all((row["log_p"] > math.log(0.5)) == hit for row, hit in zip(own, right, strict=True))
    assert table[0]["place"] == f"{one}, line 1" and table[-1]["place"] == f"{other}, line 70"


def test_seeds_give_a_mean_and_a_spread(tokenizer: Tokenizer, write_jsonl: Write) -> None:
    model = tiny_model(tokenizer)
    train = write_jsonl(texts(60, 0, by_order), "train.jsonl")
    test = write_jsonl(texts(80, 1, by_order), "test.jsonl")
    words = f"classification:{train} test={test} controls=untrained learning_rates=3e-3 epochs=2"
    _, found, both = asked(model, tokenizer, f"{words} seeds=[0,1]")
    alone = [asked(model, tokenizer, f"{words} seeds={seed}")[2] for seed in (0, 1)]
    for name in ("accuracy", "f1", "macro_f1", "mcc", "accuracy_untrained"):
        values = [one["all", name].value for one in alone]
        assert both["all", name].value == pytest.approx(np.mean(values))
        assert both["all", f"{name}_seed_sd"].value == pytest.approx(np.std(values, ddof=1))
        assert ("all", f"{name}_seed_sd") not in alone[0]
    record = json.loads(found.files["tuning.json"])
    assert [one["seed"] for one in record] == [0, 1] and all(one["learning_rate"] == 3e-3 for one in record)
    assert all(len(one["dev_scores"]["0.003"]) == 2 and len(one["losses"]) == 8 for one in record)


def test_controls_are_asked_once_for_all_checkpoints(
    model: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    train = write_jsonl(texts(40, 0, by_last_word), "train.jsonl")
    words = f"classification:{train} {QUICK}"
    first, found, _ = asked(model, tokenizer, words)
    second = parse_task(words)
    second.prepare(material(model, tokenizer, untrained=lambda: pytest.fail("it was asked again")))
    second.recall(first.shared_files())
    assert second.measure(Subject(engine(model))).figures == found.figures


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("positive=blue", "positive=blue is no label of"),
        ("positive=red score=f1 test=[a.jsonl,b/a.jsonl.gz]", "a.jsonl and b/a.jsonl.gz have one name"),
        ("score=f1", "score=f1 is of one label: name it, as in positive=green, or take score=macro_f1"),
        ("dev_fraction=0", "there is nothing to measure on: name a test file"),
        ("test=none.jsonl", "there is no file of labelled texts 'none.jsonl'"),
        ("pair_field=second", "line 1 has no field 'second'"),
        ("learning_rates=0", "learning_rates"),
        ("seeds=[]", "seeds"),
        ("readout=middle", "readout must be one of 'auto', 'first', 'last', 'mean', not 'middle'"),
    ],
)
def test_mistakes_are_one_sentence(
    model: Transformer, tokenizer: Tokenizer, write_jsonl: Write, settings: str, message: str
) -> None:
    records = [{"text": "x", "label": label} for label in ("green", "red", "yellow")]
    with pytest.raises(PicoLMError) as error:
        asked(model, tokenizer, f"classification:{write_jsonl(records, 'train.jsonl')} {settings}")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_a_choice_and_a_task_without_a_file(
    model: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    with pytest.raises(PicoLMError, match="needs a file of training texts: write classification:PATH"):
        parse_task("classification")
    file = write_jsonl([{"text": "x", "label": 1}, {"text": "y", "label": 1}], "train.jsonl")
    with pytest.raises(PicoLMError, match=r"all texts in .*train.jsonl have the label '1'"):
        asked(model, tokenizer, f"classification:{file}")
    file = write_jsonl([{"text": "x", "label": 0}, {"text": "y", "label": 1}], "train.jsonl")
    test = write_jsonl([{"text": "x", "label": 1}, {"text": "y", "label": -1}], "test.jsonl")
    with pytest.raises(PicoLMError, match=r"test.jsonl, line 2 has the label '-1', which no text in .*train.jsonl has"):
        asked(model, tokenizer, f"classification:{file} test={test}")


def test_the_positive_label_may_be_named(model: Transformer, tokenizer: Tokenizer, write_jsonl: Write) -> None:
    draw = np.random.default_rng(0)
    records = [{"text": record["text"], "label": int(draw.integers(0, 2))} for record in texts(60, 0, by_order)]
    train = write_jsonl(records, "train.jsonl")
    words = f"classification:{train} dev_fraction=0.5 controls=[] score=macro_f1 {QUICK}"
    f1 = {name: asked(model, tokenizer, f"{words}{name}")[2] for name in ("", " positive=1", " positive=0")}
    assert f1[""]["all", "f1"].value == f1[" positive=1"]["all", "f1"].value != f1[" positive=0"]["all", "f1"].value
    both = [f1[name]["all", "f1"].value for name in (" positive=1", " positive=0")]
    assert f1[""]["all", "macro_f1"].value == pytest.approx(np.mean(both)), "two labels have two F1"


# Texts as a model reads them.


def labelled(text: str, pair: str | None = None) -> Labelled:
    return Labelled(text, pair, "a", "here")


def test_the_last_token_of_a_causal_model_and_all_of_a_masked_one(
    model: Transformer, masked: Transformer, tokenizer: Tokenizer
) -> None:
    one, other = (tokenizer.encode(text).tolist() for text in ("one two", "three"))
    sep = tokenizer.separator_id
    bos = 7
    for which, text, tokens, first in (
        (model, labelled("one two"), [bos, *one], 1),
        (model, labelled("one two", "three"), [bos, *one, sep, *other], 1),
        (masked, labelled("one two"), [bos, *one, bos], 0),
        (masked, labelled("one two", "three"), [bos, *one, sep, *other, bos], 0),
    ):
        ((example,), n_cut) = examples_of([text], [3], material(which, tokenizer, bos=bos))
        (piece,) = example.pieces
        assert piece.tokens.tolist() == tokens and example.labels.tolist() == [3] and n_cut == 0
        assert (piece.units.tolist(), piece.firsts.tolist(), piece.lasts.tolist()) == ([0], [first], [len(tokens) - 1])


def test_long_texts_lose_their_ends_and_are_counted(
    model: Transformer, masked: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    long = "one two three four five six seven eight " * 20
    whole = tokenizer.encode(long).tolist()
    for which in (model, masked):
        for window in (10, 11):
            some = [labelled("one"), labelled(long), labelled(long)]
            examples, n_cut = examples_of(some, [0, 0, 0], material(which, tokenizer, window=window))
            assert n_cut == 2 and [len(example.pieces[0].tokens) for example in examples[1:]] == [window, window]
            assert examples[1].pieces[0].tokens[1:9].tolist() == whole[:8]
            pairs = [labelled(long, long), labelled("one", long), labelled("one", "two")]
            examples, n_cut = examples_of(pairs, [0, 0, 0], material(which, tokenizer, window=window))
            assert n_cut == 2 and all(len(example.pieces[0].tokens) == window for example in examples[:2])
            inner = examples[0].pieces[0].tokens.tolist()[1:]
            where = inner.index(tokenizer.separator_id)
            assert inner[:where] == whole[:where] and inner[where + 1 : where + 4] == whole[:3]
    records = [*texts(20, 0, by_last_word), {"text": long, "label": "long"}]
    train, test = write_jsonl(records, "train.jsonl"), write_jsonl(records[-3:], "test.jsonl")
    words = f"classification:{train} dev={train} test={test} controls=[] {QUICK}"
    _, _, figures = asked(model, tokenizer, words, window=32)
    for subset, n in (("train", 21), ("dev", 21), ("test/test", 3)):
        assert (figures[subset, "cut_texts"].value, figures[subset, "cut_texts"].n) == (1, n)


def test_a_pair_is_told_by_both_of_its_texts(tokenizer: Tokenizer, write_jsonl: Write) -> None:
    """Whether two words are the same: neither alone says anything."""
    model = tiny_model(tokenizer, init={"std": 0.1})
    draw = np.random.default_rng(0)
    chosen = [(int(a), int(a if draw.random() < 0.5 else draw.integers(0, 3))) for a in draw.integers(0, 3, 700)]
    records = [{"one": WORDS[a], "two": WORDS[b], "gold": a == b} for a, b in chosen]
    train, test = write_jsonl(records[:600], "train.jsonl"), write_jsonl(records[600:], "test.jsonl")
    words = (
        f"classification:{train} test={test} text_field=one pair_field=two label_field=gold positive=true "
        "mode=full learning_rates=3e-3 controls=[]"
    )
    _, _, figures = asked(model, tokenizer, words)
    assert figures["all", "accuracy"].value > 95 and figures["all", "f1"].value > 95


def test_a_bag_knows_which_tokens_a_text_has(model: Transformer, tokenizer: Tokenizer) -> None:
    train, _ = examples_of([labelled("one two"), labelled("two two six")], [0, 1], material(model, tokenizer))
    test, _ = examples_of([labelled("six one seven"), labelled("two")], [0, 1], material(model, tokenizer))
    reader = BagReader(train, 1024)
    known = np.unique(np.concatenate([example.pieces[0].tokens for example in train]))
    assert reader.width == len(known)
    for examples in (train, test):
        batch = reader.batch(examples, np.array([1, 0]))
        for row, example in zip(batch.features[:, 0], (examples[1], examples[0]), strict=True):
            assert known[row.numpy() == 1].tolist() == sorted({*example.pieces[0].tokens.tolist()} & {*known.tolist()})
            assert set(row.tolist()) <= {0.0, 1.0}
        assert batch.labels.tolist() == [[1], [0]] and bool(batch.mask.all())


# From the files to the rows.


def test_checkpoints_of_a_run_are_asked(trained: RunDirectory, write_jsonl: Write, tmp_path: Path) -> None:
    train = write_jsonl(texts(60, 0, by_last_word), "train.jsonl")
    test = write_jsonl(texts(40, 1, by_last_word), "test.jsonl")
    task = f"classification:{train} test={test} {QUICK} name=last-word"
    out = tmp_path / "eval"
    rows = picolm.evaluate(trained.path, [task], checkpoints=[0, 8], out=out)
    assert {row.task for row in rows} == {"last-word"} and {row.step for row in rows} == {0, 8}
    untrained = {row.value for row in rows if (row.subset, row.metric) == ("all", "accuracy_untrained")}
    at_0 = {row.value for row in rows if (row.subset, row.metric, row.step) == ("all", "accuracy", 0)}
    assert untrained == at_0, "an untrained twin is the model of step 0"
    assert len(read_evaluations(out)) == len(rows)
    assert picolm.evaluate(trained.path, [task], checkpoints=[0, 8], out=out, again=True) == rows, "to the last bit"
    endings = sorted(".".join(file.name.split(".")[3:]) for file in (out / "files").iterdir())
    assert endings == ["controls.json", *["predictions.parquet"] * 2, *["tuning.json"] * 2]
    facts = json.loads(next(out.glob("*.json")).read_text())
    assert sorted(facts["identity"]["data_sha256"]) == ["test/test", "train"]
    assert facts["identity"]["learning_rates"] == [1e-2] and facts["identity"]["readout"] == "last"
    assert facts["sources"] == {"train": str(train), "test/test": str(test)}
    # The same files in another place are the same data.
    (tmp_path / "moved").mkdir()
    moved = [path.rename(tmp_path / "moved" / path.name) for path in (train, test)]
    again = f"classification:{moved[0]} test={moved[1]} {QUICK} name=last-word"
    picolm.evaluate(trained.path, [again], checkpoints=[0, 8], out=out)
    assert len(list(out.glob("*.parquet"))) == 2
