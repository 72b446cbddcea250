import gzip
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.evaluation.choice_files import Question, read_questions, with_shots
from picolm.evaluation.choice_formats import FORMATS
from picolm.evaluation.choosing import Ballot
from picolm.evaluation.continuations import cut, encode_continuations
from picolm.evaluation.greedy import score_written
from picolm.evaluation.scoring import Engine, score_passages
from picolm.evaluation.task import Figure, Subject, parse_task
from picolm.evaluation.trees import Passage
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from .choice_records import RECORDS
from .conftest import TEXTS, engine, material, tiny_model

Table = Mapping[tuple[str, str], Figure]
Write = Callable[..., Path]
GENERIC = [
    {"context": "one two three", "choices": ["four", "two", "eleven twelve"], "answer": 0, "group": "counting"},
    {"context": "The cats", "choices": ["are here.", "is here."], "answer": "0", "group": "agreement"},
    {"question": "Where is it?", "choices": ["There.", "unbelievably", "a", "café"], "answer": 3},
    {"context": "", "choices": ["The dog sees the cats.", "dog The the sees cats."], "answer": 0, "group": "counting"},
]


def measured(model: Transformer, tokenizer: Tokenizer, words: str, **changes: Any) -> Table:
    task = parse_task(words)
    task.prepare(material(model, tokenizer, **changes))
    return {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}


def by_hand(model: Transformer, tokenizer: Tokenizer, context: str, continuation: str, always: bool = False) -> float:
    """Log-probability of a continuation, one text at a time from whole logits."""
    kept = context.rstrip()
    before = tokenizer.encode(kept).tolist()
    own = tokenizer.encode(context + continuation).tolist()[len(before) :]
    begun = [tokenizer.separator_id, *before] if always or not before else before
    ids = [*begun, *own][-(model.config.max_length + 1) :]
    with torch.no_grad():
        log_p = model.logits(model(torch.tensor([ids[:-1]])))[0].log_softmax(-1)
    return float(sum(log_p[place - 1, ids[place]] for place in range(len(ids) - len(own), len(ids))))


@pytest.mark.parametrize("settings", ["", "begin=always", "delimiter=none", "unconditional=answer"])
def test_figures_equal_a_computation_by_hand(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write, settings: str
) -> None:
    found = measured(causal, tokenizer, f"choices:{write_jsonl(GENERIC)} {settings}")
    space, always = "" if "none" in settings else " ", "always" in settings
    right: dict[str, list[float]] = {}
    for record in GENERIC:
        context = record.get("context", f"Question: {record.get('question')}\nAnswer:")
        texts, answer = record["choices"], int(record["answer"])
        sums = np.array([by_hand(causal, tokenizer, context, space + text, always) for text in texts])
        premise = "Answer:" if "unconditional" in settings else ""
        alone = np.array([by_hand(causal, tokenizer, premise, space + text, always) for text in texts])
        counts = [len(tokenizer.encode(context + space + text)) - len(tokenizer.encode(context)) for text in texts]
        scores = {
            "accuracy": sums,
            "accuracy_norm": sums / [len(text) for text in texts],
            "accuracy_bytes": sums / [len(text.encode()) for text in texts],
            "accuracy_tokens": sums / counts,
            "accuracy_pmi": sums - alone,
        }
        for name, own in scores.items():
            best = np.isclose(own, own.max(), rtol=0, atol=1e-9)
            right.setdefault(name, []).append(100.0 * best[answer] / best.sum())
        bits = -sums[answer] / math.log(2) / len(texts[answer].encode())
        right.setdefault("answer_bits_per_byte", []).append(bits)
        right.setdefault("answer_probability", []).append(np.exp(sums)[answer] / np.exp(sums).sum())
    for name, values in right.items():
        figure = found["all", name]
        assert figure.value == pytest.approx(np.mean(values)), name
        assert figure.se == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values))), name
    assert found["group/counting", "accuracy"].value == pytest.approx(np.mean([right["accuracy"][n] for n in (0, 3)]))
    assert found["group/counting", "accuracy"].n == 2 and ("group/", "accuracy") not in found
    assert found["all", "accuracy_low"].value <= found["all", "accuracy"].value <= found["all", "accuracy_high"].value


def test_what_chooses_without_understanding(causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write) -> None:
    found = measured(causal, tokenizer, f"choices:{write_jsonl(GENERIC)} bootstrap=10")
    chance = 100 * (1 / 3 + 1 / 2 + 1 / 4 + 1 / 2) / 4
    assert found["all", "chance"].value == pytest.approx(chance)
    assert found["all", "accuracy_constant"].value == pytest.approx(chance), (
        "exactly chance, or ties are counted wrongly"
    )
    assert found["group/counting", "accuracy_constant"].value == found["group/counting", "chance"].value
    assert found["all", "ties_constant"].value == 4
    lengths = [[len(tokenizer.encode(f" {text}")) for text in record["choices"]] for record in GENERIC]
    for name, best in (("shortest", min), ("longest", max)):
        worth = [
            (own[int(record["answer"])] == best(own)) / own.count(best(own))
            for own, record in zip(lengths, GENERIC, strict=True)
        ]
        assert found["all", f"accuracy_{name}"].value == pytest.approx(100 * np.mean(worth))


def test_the_unigram_control_knows_words_but_not_their_order(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    records = [
        {"context": "one", "choices": ["two three", " three two".strip()], "answer": 0},
        {"context": "one", "choices": ["the", "the", "the cat"], "answer": 2},
    ]
    found = measured(causal, tokenizer, f"choices:{write_jsonl(records)} controls=unigram")
    # Two orders of the same words tie; a longer text is never more probable.
    assert found["all", "accuracy_unigram"].value == pytest.approx(25.0) and found["all", "ties_unigram"].value == 2


def test_the_untrained_twin_is_asked_once_for_all_checkpoints(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    built: list[int] = []

    def untrained() -> Transformer:
        built.append(1)
        return causal

    task = parse_task(f"choices:{write_jsonl(GENERIC)}")
    task.prepare(material(causal, tokenizer, untrained=untrained))
    tables = [
        {f.metric: f.value for f in task.measure(Subject(engine(causal))).figures if f.subset == "all"} for _ in "ab"
    ]
    assert tables[0] == tables[1] and built == [1]
    for name in ("accuracy", "accuracy_norm", "accuracy_pmi", "ties", "answer_probability"):
        assert tables[0][f"{name}_untrained"] == tables[0][name], "the twin was the model itself"


def test_the_untrained_twin_is_not_asked_again_in_another_call(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    def never() -> Transformer:
        raise AssertionError("asked again")

    for records in (GENERIC, RECORDS["lambada"]):
        words = f"choices:{write_jsonl(records)}"
        first, second = parse_task(words), parse_task(words)
        first.prepare(material(causal, tokenizer))
        wanted = first.measure(Subject(engine(causal))).figures
        second.prepare(material(causal, tokenizer, untrained=never))
        second.recall(first.shared_files())
        assert second.measure(Subject(engine(causal))).figures == wanted
        second.prepare(material(causal, tokenizer, untrained=never))
        second.recall({name: content[:-8] for name, content in first.shared_files().items()})
        with pytest.raises(AssertionError, match="asked again"):
            second.measure(Subject(engine(causal)))


SCORES = st.lists(
    st.lists(st.sampled_from([-3.5, -2.0, -2.0, -1.25, 0.0]), min_size=1, max_size=6), min_size=1, max_size=8
)


@given(SCORES)
def test_outcomes_over_all_possible_answers_sum_to_one(scores: list[list[float]]) -> None:
    flat, sizes = np.array([score for own in scores for score in own]), [len(own) for own in scores]
    total = np.zeros(len(scores))
    for answer in range(max(sizes)):
        ballot = Ballot.of(sizes, [min(answer, size - 1) for size in sizes])
        total += ballot.outcomes(flat) * [answer < size for size in sizes]
    np.testing.assert_allclose(total, 1.0)


@given(SCORES, st.randoms(use_true_random=False))
def test_the_best_choice_does_not_depend_on_where_it_stands(scores: list[list[float]], random: Any) -> None:
    sizes = [len(own) for own in scores]
    orders = [random.sample(range(size), size) for size in sizes]
    answers = [random.randrange(size) for size in sizes]
    moved = [[own[place] for place in order] for own, order in zip(scores, orders, strict=True)]
    here = Ballot.of(sizes, answers)
    there = Ballot.of(sizes, [order.index(answer) for order, answer in zip(orders, answers, strict=True)])
    first, second = (np.array([score for own in listed for score in own]) for listed in (scores, moved))
    np.testing.assert_array_equal(here.outcomes(first), there.outcomes(second))
    np.testing.assert_array_equal(here.ties(first), there.ties(second))
    np.testing.assert_allclose(here.probabilities(first), there.probabilities(second))


def test_a_tie_is_worth_its_share() -> None:
    ballot = Ballot.of([3, 2, 4], [0, 1, 2])
    scores = np.array([1.0, 1.0, 0.0, 5.0, 4.0, 2.0, 2.0, 2.0, 2.0])
    np.testing.assert_array_equal(ballot.outcomes(scores), [1 / 2, 0.0, 1 / 4])
    np.testing.assert_array_equal(ballot.ties(scores), [1, 0, 1])
    np.testing.assert_allclose(ballot.probabilities(np.log(np.arange(1.0, 10.0))), [1 / 6, 5 / 9, 8 / 30])
    with pytest.raises(PicoLMError, match="not finite"):
        ballot.outcomes(np.array([np.nan] + [0.0] * 8))


def test_equal_choices_tie_to_the_last_bit(tokenizer: Tokenizer, write_jsonl: Write) -> None:
    # In float32, and beside texts of other lengths: rows of a batch differ in the last digits.
    model = tiny_model(tokenizer)
    tables = []
    for answer in (0, 2):
        records = [
            {"context": text, "choices": ["a dog", "thirteen, one", "a dog"], "answer": answer} for text in TEXTS
        ]
        tables.append(measured(model, tokenizer, f"choices:{write_jsonl([*records, GENERIC[0]])} controls=[]"))
    assert tables[0] == tables[1] and tables[0]["all", "ties"].value >= 1


def test_long_questions_lose_their_beginnings_and_are_counted(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"context": "one two three " * 40, "choices": ["four", "two"], "answer": 0}
    file = write_jsonl([long, GENERIC[0]])
    found = measured(causal, tokenizer, f"choices:{file} controls=[]")
    assert found["all", "cut"] == Figure("all", "cut", 1, None, 2)
    assert (
        "1 of 2 questions are longer than the window of 96 tokens and lose their beginnings" in capsys.readouterr().err
    )
    sums = [by_hand(causal, tokenizer, long["context"], f" {text}") for text in long["choices"]]
    other = [by_hand(causal, tokenizer, GENERIC[0]["context"], f" {text}") for text in GENERIC[0]["choices"]]
    shares = [np.exp(own[0]) / np.exp(own).sum() for own in (sums, other)]
    assert found["all", "answer_probability"].value == pytest.approx(np.mean(shares))


def test_a_choice_that_is_longer_than_the_window_is_refused(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    file = write_jsonl([GENERIC[0], {"context": "one", "choices": ["two", "three " * 97], "answer": 0}])
    with pytest.raises(PicoLMError, match=r"line 2 scores \d+ tokens, but the model's window has room for 96"):
        measured(causal, tokenizer, f"choices:{file}")


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40))
def test_what_is_cut_is_the_end_of_the_whole(before: int, scored: int, window: int) -> None:
    passage = Passage(np.arange(before + scored), before)
    if scored > window:
        with pytest.raises(PicoLMError, match="has room for"):
            cut(passage, window)
        return
    short = cut(passage, window)
    np.testing.assert_array_equal(short.tokens, passage.tokens[-(window + 1) :])
    assert short.n_scored == scored and short.first >= 1


@given(st.sampled_from(TEXTS), st.data())
def test_a_context_and_its_continuation_are_the_tokens_of_both(text: str, data: st.DataObject) -> None:
    tokenizer = Tokenizer.train_bpe(TEXTS * 2, 330)
    place = data.draw(st.integers(0, len(text) - 1))
    context, rest = text[:place], text[place:]
    try:
        (passage,) = encode_continuations(tokenizer, [context], [rest], bos=0, begin="empty", places=["here"])
    except PicoLMError:
        # A token that spans both and more of the context: nothing is left to score.
        assert len(tokenizer.encode(text)) <= len(tokenizer.encode(context.rstrip()))
        return
    n_before = len(tokenizer.encode(context.rstrip()))
    assert passage.n_scored == len(tokenizer.encode(text)) - n_before and passage.first == max(n_before, 1)
    if not n_before:
        np.testing.assert_array_equal(passage.tokens, [0, *tokenizer.encode(text)])


@pytest.mark.parametrize("rows", [1, 10**6])
def test_what_a_model_would_write_is_what_it_writes(
    causal: Transformer, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(Engine, "logit_rows", rows)
    passages, wanted = [], []
    for begin in ([5, 6, 7], [9], [30, 31, 200, 7]):
        ids = list(begin)
        with torch.no_grad():
            for _ in range(4):
                ids.append(int(causal.logits(causal(torch.tensor([ids])))[0, -1].argmax()))
        passages += [
            Passage(np.array(ids), len(begin)),
            Passage(np.array([*ids[:-1], (ids[-1] + 1) % 300]), len(begin)),
        ]
        wanted += [True, False]
    written = score_written(engine(causal), passages)
    assert [one.is_greedy for one in written] == wanted
    for one, log_p in zip(written, score_passages(engine(causal), passages), strict=True):
        np.testing.assert_allclose(one.log_p, log_p)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_formats_are_recognized(write_jsonl: Write, name: str) -> None:
    form, questions = read_questions(write_jsonl(RECORDS[name]), "auto", delimiter=" ", group_field="group")
    assert form == name and len(questions) == len(RECORDS[name])
    assert all(len(q.contexts) == len(q.continuations) == len(q.choices) > q.answer for q in questions)


def test_the_prompts_are_those_of_the_tests(write_jsonl: Write) -> None:
    def first(name: str, record: int = 0) -> Question:
        file = write_jsonl(RECORDS[name])
        return read_questions(file, "auto", delimiter=" ", group_field="group")[1][record]

    arc = first("arc", 1)
    assert arc.contexts == ("Question: What is three and four?\nAnswer:",) * 3
    assert (arc.continuations, arc.answer) == ((" six", " seven", " eleven"), 1)
    hellaswag = first("hellaswag")
    assert hellaswag.contexts[0] == "Feeding cats: The cats that the dog sees are here. One of the cats"
    assert hellaswag.continuations[1:3] == (" is thirteen  dogs.", " sees the dog. that it sees.")
    winogrande = first("winogrande", 1)
    assert winogrande.contexts == ("Zoë paid Ann 12 €, so Zoë", "Zoë paid Ann 12 €, so Ann")
    assert (winogrande.continuations, winogrande.answer) == ((" is rich.",) * 2, 1)
    sciq = first("sciq")
    assert sciq.contexts[0] == "Rain falls from clouds. It is wet.\nQuestion: What falls from clouds?\nAnswer:"
    assert sciq.choices[sciq.answer] == "rain"
    assert first("piqa").contexts[0] == "Question: How to see a cat\nAnswer:"
    lambada = first("lambada")
    assert (lambada.contexts, lambada.continuations) == (("one two three four five six",), (" seven",))


@pytest.mark.parametrize(
    ("labels", "key", "answer"),
    [("ABCD", "C", 2), ("1234", "3", 2), ("ABCD", "3", 2), ("1234", "C", 2), ("ABCD", 3, 2), ("1234", 1, 0)],
)
def test_keys_are_letters_or_numbers(write_jsonl: Write, labels: str, key: Any, answer: int) -> None:
    record = {"question": "q", "choices": {"text": list("wxyz"), "label": list(labels)}, "answerKey": key}
    (question,) = read_questions(write_jsonl([record]), "arc", delimiter=" ", group_field="group")[1]
    assert question.answer == answer


def test_examples_depend_on_the_question_alone(write_jsonl: Write) -> None:
    _, questions = read_questions(write_jsonl(GENERIC), "auto", delimiter=" ", group_field="group")
    shot = with_shots(questions, questions, 2, seed=0)
    assert with_shots(questions[2:], questions, 2, seed=0) == shot[2:]
    assert with_shots(questions, questions, 2, seed=1) != shot
    for question, asked in zip(shot, questions, strict=True):
        assert question.contexts[0].count("\n\n") == 2 and question.contexts[0].endswith(f"\n\n{asked.contexts[0]}")
        assert asked.answered not in question.contexts[0], "no question is its own example"
        assert question.answer == asked.answer and question.continuations == asked.continuations
    with pytest.raises(PicoLMError, match=r"shots=4 needs as many examples beside .* line 1, but there are 3"):
        with_shots(questions, questions, 4, seed=0)


def test_questions_have_examples_of_their_own(write_jsonl: Write) -> None:
    records = [{"context": f"number {n}", "choices": ["a", "b"], "answer": n % 2} for n in range(12)]
    _, questions = read_questions(write_jsonl(records), "auto", delimiter=" ", group_field="group")
    drawn = {question.contexts[0].partition("\n\n")[0] for question in with_shots(questions, questions, 1, seed=0)}
    assert len(drawn) > 3, "not the same examples before all, whose luck would be everyone's"


def test_the_interval_of_ties_among_three_is_right(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    alike = {"context": "one", "choices": ["two"] * 3, "answer": 1}
    found = measured(causal, tokenizer, f"choices:{write_jsonl([alike] * 4)} controls=[]")
    for name in ("accuracy", "accuracy_low", "accuracy_high", "chance"):
        assert found["all", name].value == pytest.approx(100 / 3)
    assert found["all", "ties"].value == 4


def test_the_error_of_a_perplexity_is_that_of_its_logarithm(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    records = RECORDS["lambada"]
    found = measured(causal, tokenizer, f"choices:{write_jsonl(records)}")["all", "perplexity"]
    texts = [record["text"].rpartition(" ") for record in records]
    nats = [-by_hand(causal, tokenizer, context, f" {word}") for context, _, word in texts]
    assert found.value == pytest.approx(math.exp(np.mean(nats)))
    assert found.se == pytest.approx(found.value * np.std(nats, ddof=1) / math.sqrt(len(nats)))


def test_a_quick_look_draws_questions(causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write) -> None:
    file = write_jsonl(GENERIC)
    drawn = [measured(causal, tokenizer, f"choices:{file} questions=2 seed={seed} controls=[]") for seed in range(6)]
    assert {table["all", "accuracy"].n for table in drawn} == {2}
    assert len({table["all", "answer_probability"].value for table in drawn}) > 1
    whole = measured(causal, tokenizer, f"choices:{file} controls=[]")
    assert measured(causal, tokenizer, f"choices:{file} questions=9 controls=[]") == whole


def test_files_may_be_packed(causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write, tmp_path: Path) -> None:
    plain, packed = write_jsonl(GENERIC), tmp_path / "questions.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert measured(causal, tokenizer, f"choices:{packed}") == measured(causal, tokenizer, f"choices:{plain}")


def test_everything_that_decides_is_in_the_identity(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write
) -> None:
    file, pool = write_jsonl(GENERIC), write_jsonl(GENERIC[:3], "pool.jsonl")

    def identity(words: str) -> dict[str, Any]:
        return parse_task(words).prepare(material(causal, tokenizer))

    plain = identity(f"choices:{file}")
    assert (plain["format"], plain["bos"], plain["tokenizer"]) == (
        "generic",
        tokenizer.separator_id,
        tokenizer.fingerprint,
    )
    assert identity(f"choices:{file} format=generic") == plain, "how a format was found decides about nothing"
    shots = identity(f"choices:{file} shots=1 shots_from={pool}")
    pool.write_text(pool.read_text().replace("eleven", "ten"))
    assert identity(f"choices:{file} shots=1 shots_from={pool}") != shots
    file.write_text(file.read_text().replace("eleven", "ten"))
    assert identity(f"choices:{file}") != plain
    assert json.dumps(plain)


def test_masked_models_are_refused(masked: Transformer, tokenizer: Tokenizer, write_jsonl: Write) -> None:
    with pytest.raises(PicoLMError, match="is a masked model, which continues no text: ask it for pairs"):
        measured(masked, tokenizer, f"choices:{write_jsonl(GENERIC)}")


ARC, WINOGRANDE, HELLASWAG = (RECORDS[name][0] for name in ("arc", "winogrande", "hellaswag"))


@pytest.mark.parametrize(
    ("record", "settings", "message"),
    [
        ({"contxt": "a", "choices": ["b", "c"], "answer": 0}, "", r"line 2 has no field 'question'.*"),
        ({**GENERIC[0], "answer": 3}, "", "line 2 has 3 as its 'answer', which must be a number from 0 to 2"),
        ({**GENERIC[0], "answer": "four"}, "", "line 2 has 'four' as its 'answer', which must be a number from 0 to 2"),
        ({**GENERIC[0], "answer": True}, "", "line 2 has .* as its 'answer'"),
        ({**GENERIC[0], "answer": None}, "", "line 2 has null as its 'answer'.*without the answers"),
        ({**GENERIC[0], "choices": ["four"]}, "", "line 2 has 1 in its 'choices', where there must be two"),
        ({**GENERIC[0], "choices": "four"}, "", "line 2 has a string as its 'choices', which must be a list"),
        ({**GENERIC[0], "choices": ["four", 2]}, "", "line 2 has a number in its 'choices', which must be a string"),
        ({**GENERIC[0], "choices": ["four", " "]}, "", "line 2 has an empty string in its 'choices'"),
        ({**GENERIC[0], "choices": ["four", "\ud800"]}, "", "line 2 has half of a surrogate pair"),
        ({**GENERIC[0], "group": ["a"]}, "", "line 2 has a list as its 'group'"),
        ({"choices": ["a", "b"]}, "", "line 2 has no field 'answer', which format=generic needs"),
        ([1, 2], "", "line 2 is not a JSON object but a list"),
        (GENERIC[0], "shots_from=x.jsonl", "shots_from=x.jsonl is read only where there are shots"),
        (GENERIC[0], "shots=1 shots_from=x.jsonl", "there is no file of questions 'x.jsonl'"),
        (GENERIC[0], "format=arc", "line 1 has no field 'answerKey', which format=arc needs"),
        (GENERIC[0], "format=arcs", "format"),
    ],
)
def test_bad_records_are_named(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write, record: Any, settings: str, message: str
) -> None:
    with pytest.raises(PicoLMError, match=message):
        measured(causal, tokenizer, f"choices:{write_jsonl([GENERIC[0], record])} {settings}")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"words": "a b"}, r"line 1 has the fields words, which fit no format; the formats are hellaswag \(activity"),
        ({**ARC, "answerKey": "E"}, "line 1 has 'E' as its 'answerKey', which must be one of A, B, C, D"),
        ({**ARC, "choices": {"text": ["a", "b"], "label": ["A", "B", "C"]}}, "line 1 has 2 choices, but 3 labels"),
        ({**ARC, "choices": {"text": ["a", "b"]}}, "line 1, 'choices', has no field 'label'"),
        ({**ARC, "choices": ["a", "b"]}, "line 1 has a list as its 'choices', which must be an object"),
        ({**WINOGRANDE, "sentence": "no blank"}, "line 1 has no blank '_' with text behind it"),
        ({**WINOGRANDE, "answer": ""}, "line 1 has '' as its 'answer', which must be a number from 1 to 2"),
        ({**HELLASWAG, "endings": ["[header]", "b"]}, "line 1 has an ending of nothing but brackets"),
        ({**HELLASWAG, "label": ""}, "line 1 has '' as its 'label'.*without the answers"),
        ({"text": "word"}, "line 1 has a 'text' that does not end with a word behind others"),
        ({"text": "words and "}, "line 1 has a 'text' that does not end with a word behind others"),
    ],
)
def test_bad_records_of_well_known_tests_are_named(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Write, record: Any, message: str
) -> None:
    with pytest.raises(PicoLMError, match=message):
        measured(causal, tokenizer, f"choices:{write_jsonl([record])}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: it has no questions"),
        (b"\n \n", "is empty: it has no questions"),
        (b'{"choices": ["a", "b"], "answer": 0', "line 1 is not valid JSON"),
        ('{"context": "é"}'.encode("latin-1"), "line 1: byte 0xe9 at offset 13"),
        (b"\x1f\x8b\x08\x00", "line 1"),
    ],
)
def test_damaged_files_are_named(
    causal: Transformer, tokenizer: Tokenizer, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_bytes(content)
    with pytest.raises(PicoLMError, match=message):
        measured(causal, tokenizer, f"choices:{file}")


def test_half_a_packed_file_is_named(causal: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl.gz"
    whole = gzip.compress("".join(json.dumps(record) + "\n" for record in GENERIC).encode())
    file.write_bytes(whole[: len(whole) - 12])
    with pytest.raises(PicoLMError, match=r"questions.jsonl.gz is truncated: the gzip stream ends within line"):
        measured(causal, tokenizer, f"choices:{file}")
    with pytest.raises(PicoLMError, match=r"did you mean '.*questions.jsonl.gz'"):
        measured(causal, tokenizer, f"choices:{tmp_path / 'question.jsonl.gz'}")
    with pytest.raises(PicoLMError, match="the task choices needs a file"):
        parse_task("choices")


def test_every_format_is_tested() -> None:
    assert set(FORMATS) == {*RECORDS, "generic"}
