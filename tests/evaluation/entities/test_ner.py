"""The task ner: planted names, zero-shot sets, controls, seeds, heads, and what is written."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from seqeval.metrics import f1_score

import picolm
from picolm.errors import PicoLMError
from picolm.evaluation.convergence import binned, step_at_share
from picolm.evaluation.entities.answers import Answers
from picolm.evaluation.entities.comparison import compare_entities, counts_of_table
from picolm.evaluation.entities.iob2 import TAGS
from picolm.evaluation.entities.ner import head_of
from picolm.evaluation.entities.rules import capitalised
from picolm.evaluation.entities.scores import f1
from picolm.evaluation.fitting import Curve
from picolm.evaluation.progress import Meter
from picolm.evaluation.task import Figure, Found, Subject, Task, parse_task
from picolm.model.heads import CRFHead
from picolm.model.transformer import Transformer
from picolm.runs.directory import RunDirectory
from picolm.text.tokenizer import Tokenizer

from ..conftest import engine, material, tiny_model
from .conftest import planted

Table = Mapping[tuple[str, str], Figure]
WriteSet = Callable[..., Path]
QUICK = "learning_rates=3e-2 epochs=8 patience=0 bootstrap=100"


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return tiny_model(tokenizer, init={"std": 0.05})


def asked(model: Transformer, tokenizer: Tokenizer, words: str, **changes: Any) -> tuple[Task, Found, Table]:
    task = parse_task(words)
    task.prepare(material(model, tokenizer, **changes))
    found = task.measure(Subject(engine(model)))
    return task, found, {(f.subset, f.metric): f for f in found.figures}


@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_names_that_words_give_away_are_found(model: Transformer, tokenizer: Tokenizer, easy: Path, head: str) -> None:
    words = f"ner:{easy} head={head} controls=[majority,rules] {QUICK}"
    _, _, figures = asked(model, tokenizer, words)
    for metric in ("f1", "f1_strict", "precision", "recall", "macro_f1"):
        assert figures["xx_easy", metric].value > 90, metric
    assert figures["all", "f1_majority"].value == 0
    n = sum(tag.startswith("B-") for sentence in planted(60, 2) for _, tag in sentence)
    assert figures["xx_easy", "entities"][2:] == (n, None, 60) and figures["xx_easy", "f1"].n == n
    assert sum(figures[f"xx_easy/{kind}", "entities"].value for kind in ("PER", "ORG", "LOC")) == n
    assert figures["all", "dev_f1"].value > 90 and figures["all", "learning_rate"].value == 3e-2


def test_figures_equal_seqevals_on_the_tags_that_the_model_gives(
    tokenizer: Tokenizer, easy: Path, write_set: WriteSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Answers] = []
    real = Answers.of

    def noted(*arguments: Any) -> Answers:
        said.append(real(*arguments))
        return said[-1]

    monkeypatch.setattr(Answers, "of", noted)
    other = write_set("tl_other", test=planted(40, 5, ["si", "ni", "na"]))
    words = f"ner:{easy} transfer={other} sentences=60 epochs=3 learning_rates=1e-2 bootstrap=400 controls=[]"
    task, _, figures = asked(tiny_model(tokenizer), tokenizer, words)
    (answers,) = said
    scores = []
    for name, part in task.corpus.tests.items():  # type: ignore[attr-defined]
        gold = [list(sentence.tags) for sentence in part.sentences]
        predicted = [list(tags) for tags in answers.tags[name]]
        scores.append(f1_score(gold, predicted))
        assert 0.05 < scores[-1] < 0.95, "else much could be wrong unseen"
        assert figures[name, "f1"].value == pytest.approx(100 * scores[-1])
        assert figures[name, "macro_f1"].value == pytest.approx(100 * f1_score(gold, predicted, average="macro"))
        low, high = figures[name, "f1_low"].value, figures[name, "f1_high"].value
        assert low <= figures[name, "f1"].value <= high
        assert figures[name, "f1"].se == pytest.approx((high - low) / 3.92, rel=0.5)
    assert figures["all", "f1"].value == pytest.approx(100 * np.mean(scores)), "the mean over sets"


def test_a_crf_says_only_what_iob2_knows(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    words = f"ner:{easy} sentences=10 epochs=1 learning_rates=1e-4 bootstrap=10 controls=[]"
    legal, loose = (asked(model, tokenizer, f"{words} head={head}")[2]["xx_easy", "f1"] for head in ("crf", "softmax"))
    assert legal.n == loose.n
    _, _, figures = asked(tiny_model(tokenizer), tokenizer, f"{words} head=crf")
    assert figures["xx_easy", "f1_strict"].value == figures["xx_easy", "f1"].value, "both readings are one"
    head = head_of("crf", 4, torch.Generator().manual_seed(0))
    assert isinstance(head, CRFHead)
    for before, row in zip(TAGS, head.allowed.tolist(), strict=True):
        for tag, allowed in zip(TAGS, row, strict=True):
            assert allowed == (not tag.startswith("I-") or before in (f"B-{tag[2:]}", tag))
    assert head.allowed_start.tolist() == [not tag.startswith("I-") for tag in TAGS]


def test_a_crf_is_trained_on_sets_with_illegal_tags(
    model: Transformer, tokenizer: Tokenizer, write_set: WriteSet
) -> None:
    odd = "Ana I-PER\nsees O\nCebu I-LOC\n\n" * 10
    own = write_set("xx_odd", train=odd, dev=odd, test=odd)
    words = f"ner:{own} head=crf controls=[] learning_rates=3e-2 epochs=10 bootstrap=10"
    _, _, figures = asked(model, tokenizer, words)
    assert figures["xx_odd", "f1"].value == 100, "right tags are read leniently"
    assert figures["xx_odd", "f1_strict"].value == 0, "read strictly, the right tags have no name at all"


def test_zero_shot_sets_are_asked_as_they_are(
    model: Transformer, tokenizer: Tokenizer, easy: Path, write_set: WriteSet
) -> None:
    tl = write_set("tl_trg", test="si O\nAna B-PER\nCebu B-LOC\n\nJuan B-PER\nsees O\nni O\nana B-PER\n")
    words = f"ner:{easy} transfer={tl} pooled=[tl_trg] controls=rules {QUICK}"
    _, _, figures = asked(model, tokenizer, words)
    assert figures["tl_trg", "f1_after_particle"].value == pytest.approx(100 * 2 / (2 + 0 + 3))
    assert figures["tl_trg/PER", "recall_anchored"].n == 2 and figures["tl_trg/PER", "recall_unanchored"].n == 1
    hits = figures["tl_trg/PER", "recall_anchored"].value / 50 + figures["tl_trg/PER", "recall_unanchored"].value / 100
    assert hits == pytest.approx(3 * figures["tl_trg/PER", "recall"].value / 100)
    low, high = (figures["tl_trg/PER", f"recall_anchored_{end}"].value for end in ("low", "high"))
    assert 0 <= low <= figures["tl_trg/PER", "recall_anchored"].value < high <= 100
    assert ("xx_easy/PER", "recall_anchored") not in figures, "another language"
    assert ("tl_trg/ORG", "f1") not in figures, "there is none to be found"
    for metric in ("f1", "entities", "recall"):
        assert figures["pooled", metric] == figures["tl_trg", metric]._replace(subset="pooled")


def test_sets_that_are_pooled_are_one_set(
    model: Transformer, tokenizer: Tokenizer, easy: Path, write_set: WriteSet
) -> None:
    one, other = (write_set(f"yy_{seed}", test=planted(20, seed)) for seed in (7, 8))
    words = f"ner:{easy} transfer=[{one},{other}] pooled=[yy_7,yy_8] sentences=20 controls=rules {QUICK}"
    _, found, figures = asked(model, tokenizer, words)
    (tmp := easy / "counts").write_bytes(found.files["sentences.parquet"])
    counts = counts_of_table(tmp.read_bytes(), "counts")
    both = np.concatenate([counts["yy_7"], counts["yy_8"]]).sum(axis=(0, 1, 2))
    assert figures["pooled", "f1"].value == pytest.approx(100 * float(f1(both)))
    assert figures["pooled", "entities"].value == both[0] + both[2]
    f1s = [figures[name, "f1"].value for name in ("xx_easy", "yy_7", "yy_8")]
    assert figures["all", "f1"].value == pytest.approx(np.mean(f1s))


def test_seeds_are_averaged_and_told_apart(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    words = f"ner:{easy} sentences=12 epochs=2 learning_rates=3e-3 bootstrap=50 controls=[] seeds="
    (_, both, figures), *single = (asked(model, tokenizer, words + seeds) for seeds in ("[3,4]", "3", "4"))
    values = [table["xx_easy", "f1"].value for _, _, table in single]
    assert values[0] != values[1]
    assert figures["xx_easy", "f1"].value == pytest.approx(np.mean(values))
    assert figures["xx_easy", "f1_seed_sd"].value == pytest.approx(np.std(values, ddof=1))
    assert ("xx_easy", "f1_seed_sd") not in single[0][2]
    counts = counts_of_table(both.files["sentences.parquet"], "both")["xx_easy"]
    for seed, (_, found, _) in enumerate(single):
        own = counts_of_table(found.files["sentences.parquet"], "one")["xx_easy"]
        np.testing.assert_array_equal(counts[:, [seed]], own)
    assert [one["seed"] for one in json.loads(both.files["tuning.json"])] == [3, 4]
    _, twice, _ = asked(model, tokenizer, words + "[3,3]")
    same = counts_of_table(twice.files["sentences.parquet"], "twice")["xx_easy"]
    np.testing.assert_array_equal(same, counts[:, [0, 0]])


def test_the_untrained_model_is_tuned_once_for_all_checkpoints_and_calls(
    model: Transformer, tokenizer: Tokenizer, easy: Path
) -> None:
    words = f"ner:{easy} controls=untrained sentences=20 {QUICK}"
    first, found, figures = asked(model, tokenizer, words)
    again = first.measure(Subject(engine(model)))
    assert again.figures == found.figures and again.files == found.files
    second = parse_task(words)
    second.prepare(material(model, tokenizer, untrained=lambda: pytest.fail("it was asked again")))
    second.recall(first.shared_files())
    assert second.measure(Subject(engine(model))).figures == found.figures
    _, _, alone = asked(tiny_model_at_0(model), tokenizer, words.replace("controls=untrained", "controls=[]"))
    assert figures["xx_easy", "f1_untrained"].value == alone["xx_easy", "f1"].value, "it is tuned just as the model"
    assert figures["xx_easy", "f1_untrained"].value != figures["xx_easy", "f1"].value


def tiny_model_at_0(model: Transformer) -> Transformer:
    from picolm.model.initialization import build_model

    untrained = build_model(model.config, 0)
    assert isinstance(untrained, Transformer)
    return untrained


def test_a_whole_model_is_tuned_and_the_checkpoint_stays(tokenizer: Tokenizer, write_set: WriteSet, easy: Path) -> None:
    """A name is told by the word before it, which a probe of a model that never mixes places would not know."""
    model = tiny_model(tokenizer, init={"std": 0.1})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    words = f"ner:{easy} mode=full learning_rates=3e-3 epochs=5 bootstrap=10 controls=[] curve_every=0"
    _, _, figures = asked(model, tokenizer, words)
    assert figures["xx_easy", "f1"].value > 90
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert ("all", "t90_dev_f1") not in figures and ("all", "t90_loss") in figures


def test_masked_models_are_asked_too(tokenizer: Tokenizer, easy: Path) -> None:
    model = tiny_model(tokenizer, attention="bidirectional", init={"std": 0.05})
    task = parse_task(f"ner:{easy} controls=[] {QUICK}")
    identity = task.prepare(material(model, tokenizer))
    figures = {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}
    assert identity["readout"] == "mean" and figures["xx_easy", "f1"].value > 90


def test_words_beyond_the_window_are_asked_too(tokenizer: Tokenizer, write_set: WriteSet) -> None:
    """Several sentences as one, of which only overlapping pieces fit into the window."""
    long = [[word for sentence in planted(10, seed) for word in sentence] for seed in range(24)]
    own = write_set("xx_long", train=long[:16], dev=long[16:20], test=long[20:])
    model = tiny_model(tokenizer, init={"std": 0.05}, max_length=24)
    task, _, figures = asked(model, tokenizer, f"ner:{own} controls=[] batch_size=2 {QUICK}")
    (part,) = task.corpus.tests.values()  # type: ignore[attr-defined]
    names = [tag.startswith("B-") for tags in part.tags for tag in tags]
    # A word is in the first piece of its sentence, which is as much as would be read of a sentence that is cut off.
    in_first = [unit in set(one.pieces[0].units) for one in part.examples for unit in range(len(one.labels))]
    share = 100 * np.sum(np.array(names) & np.array(in_first)) / np.sum(names)
    assert figures["xx_long", "f1"].n == sum(names)
    assert figures["xx_long", "recall"].value > 60 > 30 > share


def test_what_chooses_is_f1_on_the_dev_set(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    words = f"ner:{easy} 'learning_rates=[1e-5, 1e-2]' epochs=3 patience=0 sentences=40 bootstrap=10 controls=[]"
    _, found, figures = asked(model, tokenizer, words)
    (record,) = json.loads(found.files["tuning.json"])
    scores = {float(rate): values for rate, values in record["dev_scores"].items()}
    assert set(scores) == {1e-5, 1e-2} and all(len(values) == 3 for values in scores.values())
    assert figures["all", "learning_rate"].value == 1e-2
    assert figures["all", "dev_f1"].value == pytest.approx(100 * max(scores[1e-2]))
    assert figures["all", "epoch"].value == 1 + int(np.argmax(scores[1e-2]))


def test_convergence_is_read_off_the_curves(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    _, found, figures = asked(model, tokenizer, f"ner:{easy} controls=[] seeds=[0,1] curve_every=5 {QUICK}")
    records = json.loads(found.files["tuning.json"])
    by_seed = []
    for record in records:
        steps, scores = np.array(record["curve"]).T
        assert steps[0] == 0 and (np.diff(steps) <= 5).all() and steps[-1] == len(record["losses"]) == 80
        by_seed.append(step_at_share(steps, scores, end=scores.max()))
    assert figures["all", "t90_dev_f1"].value == pytest.approx(np.mean(by_seed))
    losses = [step_at_share(*binned(np.array(record["losses"]), 20)) for record in records]
    assert figures["all", "t90_loss"].value == pytest.approx(np.mean(losses)) and figures["all", "t90_loss"].n == 2


def answers(losses: np.ndarray, steps: list[int], dev: list[float]) -> Answers:
    curve = Curve(losses, np.array(steps, dtype=np.int64), np.array(dev))
    return Answers({}, seed=0, learning_rate=1e-3, epoch=1, dev_scores={1e-3: ()}, curve=curve)


def test_t90_of_an_exponential_decay_is_minus_tau_ln_a_tenth() -> None:
    tau = 150.0
    losses = 1 + 2 * np.exp(-np.arange(4000) / tau)
    assert answers(losses, [], []).loss_t90() == pytest.approx(-tau * math.log(0.1), abs=20)
    steps = list(range(0, 4000, 20))
    rising = 1 - np.exp(-np.array(steps) / tau)
    assert answers(losses, steps, rising.tolist()).dev_t90() == pytest.approx(-tau * math.log(0.1), abs=1)


def test_the_way_of_dev_f1_ends_at_its_best() -> None:
    assert answers(np.ones(100), [0, 20, 40, 60], [0.0, 0.5, 1.0, 0.6]).dev_t90() == pytest.approx(36)


def test_a_t90_that_is_never_reached_is_left_out() -> None:
    flat = answers(np.ones(100), [0, 50, 100], [0.0, 0.0, 0.0])
    assert flat.loss_t90() is None and flat.dev_t90() is None
    assert answers(np.ones(100), [], []).dev_t90() is None


def test_everything_that_decides_is_in_the_identity(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    def identity(words: str) -> dict[str, Any]:
        return parse_task(words).prepare(material(model, tokenizer))

    first = identity(f"ner:{easy} {QUICK}")
    json.dumps(first, allow_nan=False)
    for change in (
        *("head=crf", "mode=full", "readout=first", "sentences=5", "seed=1", "seeds=1", "pooled=[xx_easy]"),
        *("particles=[ang]", "particle_languages=[xx]", "controls=[]", "curve_every=7", "standardize=false"),
    ):
        assert identity(f"ner:{easy} {QUICK} {change}") != first, change
    moved = easy.rename(easy.with_name("moved"))
    assert identity(f"ner:{moved} {QUICK}") == first, "files are known by what is in them"
    train = moved / "xx_easy-ud-train.iob2"
    train.write_text(train.read_text().replace("Juan", "Pedro"))
    assert identity(f"ner:{moved} {QUICK}") != first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("curve_every=21", "curve_every"),
        ("head=crv", "crf"),
        ("pooled=[xx_eas]", "pooled=xx_eas is no test set; did you mean 'xx_easy'?"),
        ("transfer=[nowhere.iob2]", "there is no file of entities 'nowhere.iob2'"),
        ("dev=null 'learning_rates=[1e-2,1e-3]'", None),
    ],
)
def test_mistakes_are_named(
    model: Transformer, tokenizer: Tokenizer, easy: Path, settings: str, message: str | None
) -> None:
    words = f"ner:{easy} epochs=1 bootstrap=10 controls=[] {settings}"
    if message is None:
        (easy / "xx_easy-ud-dev.iob2").unlink()
        message = "without a dev set nothing chooses between the learning rates 0.01, 0.001"
    with pytest.raises(PicoLMError, match=message.replace("?", r"\?")):
        asked(model, tokenizer, words)


def test_without_a_dev_set_the_last_epoch_is_taken(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    (easy / "xx_easy-ud-dev.iob2").unlink()
    _, _, figures = asked(model, tokenizer, f"ner:{easy} controls=[] {QUICK}")
    assert figures["all", "epoch"].value == 8 and ("all", "dev_f1") not in figures


def test_without_files_or_without_a_test_there_is_no_task(
    model: Transformer, tokenizer: Tokenizer, write_set: WriteSet
) -> None:
    with pytest.raises(PicoLMError, match="the task ner needs a directory with"):
        parse_task("ner head=crf")
    own = write_set("xx_train", train=planted(5, 0))
    with pytest.raises(PicoLMError, match="there is nothing to measure on"):
        asked(model, tokenizer, f"ner:{own}")


def test_progress_comes_to_its_end(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    told: list[tuple[int, int]] = []
    task = parse_task(f"ner:{easy} controls=[] {QUICK}")
    task.prepare(material(model, tokenizer))
    meter = Meter(lambda phase, done, total: told.append((done, total)), "step 1, ner")
    task.measure(Subject(engine(model), meter))
    assert told[-1][0] == told[-1][1] == 8 * 150 and len(told) > 10


def test_two_checkpoints_of_a_run_are_compared_by_what_is_left_of_them(
    trained: RunDirectory, easy: Path, tmp_path: Path
) -> None:
    words = f"ner:{easy} sentences=30 name=names {QUICK}"
    out = tmp_path / "eval"
    rows = picolm.evaluate(trained.path, [words], checkpoints=[0, 8], out=out)
    assert {row.task for row in rows} == {"names"}
    found = {(row.step, row.subset, row.metric): row for row in rows}
    assert found[0, "xx_easy", "f1_untrained"].value == found[0, "xx_easy", "f1"].value, "step 0 is the untrained model"
    first, last = sorted((out / "files").glob("step-*.sentences.parquet"))
    assert first.name.startswith("step-00000000.ner.")
    difference = compare_entities(last, first, draws=100)["xx_easy"]
    values = [found[step, "xx_easy", "f1"].value for step in (8, 0)]
    assert 100 * difference.difference == pytest.approx(values[0] - values[1])
    assert len(list((out / "files").glob("shared.ner.*.untrained.parquet"))) == 1
    assert pq.read_table(first).num_rows == 60 * 3
    again = picolm.evaluate(trained.path, [words], checkpoints=[0, 8], out=out, again=True)
    assert again == rows, "to the last bit"


def test_the_rule_of_capitals_stands_beside_the_model(model: Transformer, tokenizer: Tokenizer, easy: Path) -> None:
    _, _, figures = asked(model, tokenizer, f"ner:{easy} controls=rules {QUICK}")
    sentences = planted(60, 2)
    gold = [[tag for _, tag in sentence] for sentence in sentences]
    predicted = [capitalised([word for word, _ in sentence]) for sentence in sentences]
    assert figures["all", "f1_capitalised"].value == pytest.approx(100 * f1_score(gold, predicted))
