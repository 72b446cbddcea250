import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from picolm.errors import PicoLMError
from picolm.evaluation.controls import Unigram, by_length
from picolm.evaluation.masked import MaskedScorer
from picolm.evaluation.pair_files import Fields, keep, read_filter, read_pairs
from picolm.evaluation.pairs import OUTCOMES, PAIRS, outcomes
from picolm.evaluation.scoring import CausalScorer
from picolm.evaluation.task import Figure, Subject, parse_task
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, material

Table = Mapping[tuple[str, str], Figure]


def measured(model: Transformer, tokenizer: Tokenizer, words: str) -> Table:
    task = parse_task(words)
    task.prepare(material(model, tokenizer))
    return {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}


def test_accuracy_equals_a_direct_loop_over_the_scorer(
    causal: Transformer, tokenizer: Tokenizer, pairs_file: Path
) -> None:
    found = measured(causal, tokenizer, f"pairs:{pairs_file}")
    records = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    scorer = CausalScorer(engine(causal), tokenizer)
    right: dict[str, list[float]] = {}
    for record in records:
        good, bad = (float(scorer.score([record[f"sentence_{side}"]]).log_p[0]) for side in ("good", "bad"))
        right.setdefault(record["UID"], []).append(float(good > bad))
    for paradigm, own in right.items():
        assert found[f"paradigm/{paradigm}", "accuracy"].value == pytest.approx(100 * np.mean(own))
        assert found[f"paradigm/{paradigm}", "accuracy"].n == len(own)
    by_paradigm = [np.mean(own) for own in right.values()]
    assert found["all", "accuracy"].value == pytest.approx(100 * np.mean(by_paradigm))
    assert found["term/counting", "accuracy"].value == found["field/order", "accuracy"].value
    everything = [one for own in right.values() for one in own]
    assert found["all", "accuracy_over_pairs"].value == pytest.approx(100 * np.mean(everything))
    assert found["all", "accuracy_low"].value <= found["all", "accuracy"].value <= found["all", "accuracy_high"].value


def test_the_constant_scorer_is_at_exactly_fifty_in_every_group(
    causal: Transformer, tokenizer: Tokenizer, pairs_file: Path
) -> None:
    found = measured(causal, tokenizer, f"pairs:{pairs_file}")
    constant = [figure for (_, metric), figure in found.items() if metric == "accuracy_constant"]
    assert len(constant) == 5 and {figure.value for figure in constant} == {50.0}
    assert found["all", "ties_constant"].value == 5


def test_ties_count_as_halves_and_are_counted(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    same = {"sentence_good": "a cat", "sentence_bad": "a cat"}
    found = measured(causal, tokenizer, f"pairs:{write_jsonl([same, same, same])}")
    assert (found["all", "accuracy"].value, found["all", "ties"].value, found["all", "ties"].n) == (50.0, 3, 3)
    assert [subset for subset, metric in found if metric == "accuracy"] == ["all"], (
        "no groups where the file names none"
    )
    np.testing.assert_array_equal(outcomes(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])), [0.0, 0.5, 1.0])


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(PicoLMError, match="not finite"):
        outcomes(np.array([np.nan]), np.array([1.0]))


@pytest.mark.parametrize("settings", ["reduction=mean", "first_token=none", "leading_space=space"])
def test_settings_change_what_is_compared(
    causal: Transformer, tokenizer: Tokenizer, pairs_file: Path, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], list[int]]] = []
    real = CausalScorer.score_pairs

    def watch(self: CausalScorer, good: Any, bad: Any, *rest: Any, apart: bool) -> Any:
        assert apart is ("mean" not in settings or not seen)
        scores = real(self, good, bad, *rest, apart=apart)
        seen.append((list(good), scores[0].tokens.tolist()))
        return scores

    monkeypatch.setattr(CausalScorer, "score_pairs", watch)
    measured(causal, tokenizer, f"pairs:{pairs_file} controls=[]")
    measured(causal, tokenizer, f"pairs:{pairs_file} controls=[] {settings}")
    (texts, tokens), (other_texts, other_tokens) = seen
    if settings == "leading_space=space":
        assert other_texts == [f" {text}" for text in texts]
    elif settings == "first_token=none":
        assert other_tokens == [count - 1 for count in tokens]
    else:
        assert (other_texts, other_tokens) == (texts, tokens)


def test_the_mean_does_not_prefer_the_shorter(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl([{"sentence_good": "one two three four five six seven eight nine ten", "sentence_bad": "a"}])
    scores = CausalScorer(engine(causal), tokenizer).score_pairs(
        ["one two three four five six seven eight nine ten"], ["a"]
    )
    by_sum = measured(causal, tokenizer, f"pairs:{file}")["all", "accuracy"].value
    by_mean = measured(causal, tokenizer, f"pairs:{file} reduction=mean")["all", "accuracy"].value
    assert by_sum == 0.0
    assert by_mean == 100 * float(scores[0].mean()[0] > scores[1].mean()[0])


def test_masked_models_are_judged_by_pseudo_log_likelihood(
    masked: Transformer, tokenizer: Tokenizer, pairs_file: Path
) -> None:
    found = measured(masked, tokenizer, f"pairs:{pairs_file} hiding=original")
    records = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    scorer = MaskedScorer(engine(masked), tokenizer, hiding="original")
    good, bad = (scorer.score([record[f"sentence_{side}"] for record in records]) for side in ("good", "bad"))
    assert found["all", "accuracy_over_pairs"].value == 100 * outcomes(good.log_p, bad.log_p).mean()


def test_a_unigram_scorer_cannot_tell_orders_apart(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_batch(["one two three four five six seven", " seven six five four three two one", "one"])
    shuffled = [ids[0], ids[0][::-1].copy(), ids[2]]
    unigram = Unigram.of_sentences(shuffled, tokenizer.vocab_size)
    scores = unigram.score(shuffled)
    assert scores[0] == scores[1] != scores[2]
    counts = np.bincount(np.concatenate(shuffled), minlength=tokenizer.vocab_size)
    by_hand = sum(np.log((counts[i] + 1) / (counts.sum() + len(counts))) for i in ids[2])
    assert scores[2] == pytest.approx(by_hand, rel=1e-12)
    assert by_length(shuffled).tolist() == [-len(one) for one in shuffled]


def test_the_sample_of_each_paradigm_is_keyed(causal: Transformer, tokenizer: Tokenizer, pairs_file: Path) -> None:
    found = measured(causal, tokenizer, f"pairs:{pairs_file} pairs_per_paradigm=2 controls=length")
    assert found["all", "accuracy"].n == 4 and found["paradigm/from_odd", "accuracy"].n == 2
    assert {metric for _, metric in found if "_length" in metric} == {"accuracy_length", "ties_length"}
    assert not any("untrained" in metric for _, metric in found)


# Files.


def test_other_field_names(causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]) -> None:
    file = write_jsonl([{"sen": "one two", "wrong_sen": "two one", "kind": "x"}])
    found = measured(causal, tokenizer, f"pairs:{file} good_field=sen bad_field=wrong_sen paradigm_field=kind")
    assert found["paradigm/x", "accuracy"].n == 1


GOOD = '{"sentence_good": "a", "sentence_bad": "b"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: it has no pairs"),
        (b"\n\n", "is empty"),
        (f"{GOOD}{{".encode(), "line 2 is not valid JSON"),
        (f"{GOOD}[1]\n".encode(), "line 2 is not a JSON object but a list"),
        (
            b'{"sentence_good": "a", "sentence_bat": "b"}',
            "line 1 has no field 'sentence_bad'; did you mean 'sentence_bat'",
        ),
        (b'{"sentence_good": "a", "sentence_bad": 3}', "line 1 has a number as its 'sentence_bad'"),
        (b'{"sentence_good": " ", "sentence_bad": "b"}', "line 1 has an empty 'sentence_good'"),
        (b'{"sentence_good": "\\ud800", "sentence_bad": "b"}', "line 1 has half of a surrogate pair"),
        (b'{"sentence_good": "a", "sentence_bad": "b", "UID": ["x"]}', "line 1 has a list as its 'UID'"),
        (GOOD.encode() + b'{"sentence_good": "caf\xe9", "sentence_bad": "b"}', "line 2: byte 0xe9"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(content)
    with pytest.raises(PicoLMError) as error:
        read_pairs(file, Fields())
    assert str(file) in str(error.value) and message in str(error.value)


def test_half_a_gzip_and_no_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(GOOD.encode() * 1000)
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PicoLMError, match=r"truncated: the gzip stream ends within line \d+"):
        read_pairs(file, Fields())
    file.write_bytes(GOOD.encode())
    with pytest.raises(PicoLMError, match="is not valid gzip, at line 1"):
        read_pairs(file, Fields())
    with pytest.raises(PicoLMError, match=r"there is no file of pairs .*did you mean"):
        read_pairs(tmp_path / "pair.jsonl.gz", Fields())


def test_a_line_of_a_megabyte_is_refused_by_its_length(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl(
        [{"sentence_good": "a", "sentence_bad": "b"}, {"sentence_good": "x " * 500_000, "sentence_bad": "b"}]
    )
    with pytest.raises(PicoLMError, match=r"pairs.jsonl, line 2 has [\d,]+ tokens, but the model's window"):
        measured(causal, tokenizer, f"pairs:{file} controls=[]")


def test_a_filter_keeps_what_it_lists_and_misses_nothing(tmp_path: Path, pairs_file: Path) -> None:
    pairs = read_pairs(pairs_file, Fields())
    listed = tmp_path / "filter.json"
    listed.write_text(json.dumps({"from_even": [0, 4], "from_odd": ["3"]}))
    assert [pair.id for pair in keep(pairs, read_filter(listed), listed)] == ["0", "3", "4"]
    for content, message in (
        ({"from_even": [1]}, "lists the pair 1 of 'from_even'"),
        ({}, "lists no pair"),
        ([1], "must hold a JSON object"),
    ):
        listed.write_text(json.dumps(content))
        with pytest.raises(PicoLMError, match=message):
            keep(pairs, read_filter(listed), listed)
    with pytest.raises(PicoLMError, match="cannot read the list of pairs"):
        read_filter(tmp_path / "none.json")


# Tasks as they are written.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pears:x", "there is no task 'pears'; did you mean 'pairs'"),
        ("pairs", "the task pairs needs a file"),
        ("pairs:x first=bos", "unknown key 'first'; did you mean 'first_token'"),
        ("pairs:x first_token=cls", "first_token must be one of 'bos', 'none', not 'cls'"),
        ("pairs:x bootstrap=0", "bootstrap must be"),
        ("pairs:x reduction", "'reduction' is no key=value"),
        ("pairs:'x", "names no task"),
        ("", "names no task"),
    ],
)
def test_mistakes_in_a_task_are_one_sentence(words: str, message: str) -> None:
    with pytest.raises(PicoLMError) as error:
        parse_task(words)
    assert message in str(error.value)


def test_a_label_says_what_is_unusual() -> None:
    assert parse_task("pairs:data/blimp.jsonl.gz").label == "pairs:blimp"
    assert parse_task("pairs:blimp.jsonl reduction=mean controls=[length]").label == (
        "pairs:blimp reduction=mean controls=length"
    )
    assert parse_task("perplexity").label == "perplexity"
    assert parse_task("perplexity:embedded:sov?seed=3").label == "perplexity:embedded:sov?seed=3"


# Real files.


def test_blimp_is_read_whole(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "blimp" / "blimp.jsonl.gz", Fields())
    paradigms = Counter(pair.paradigm for pair in pairs)
    assert len(paradigms) == 67 and set(paradigms.values()) == {1000}
    terms = Counter(pair.term for pair in pairs)
    assert terms == {
        name: 1000 * count
        for name, count in {
            "anaphor_agreement": 2,
            "argument_structure": 7,
            "s-selection": 2,
            "binding": 7,
            "control_raising": 5,
            "determiner_noun_agreement": 8,
            "ellipsis": 2,
            "filler_gap_dependency": 7,
            "irregular_forms": 2,
            "island_effects": 8,
            "npi_licensing": 7,
            "quantifiers": 4,
            "subject_verb_agreement": 6,
        }.items()
    }
    assert Counter(pair.field for pair in pairs) == {
        "syntax": 26000,
        "morphology": 18000,
        "syntax_semantics": 14000,
        "semantics": 9000,
    }
    listed = shared_data / "blimp" / "babylm_filtered_pairs.json.gz"
    kept = Counter(pair.paradigm for pair in keep(pairs, read_filter(listed), listed))
    assert sum(kept.values()) == 59_875 and len(kept) == 67 and (min(kept.values()), max(kept.values())) == (681, 986)


def test_the_supplement_is_read_whole(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "blimp" / "blimp_supplement_filtered.jsonl.gz", Fields())
    assert Counter(pair.paradigm for pair in pairs) == {
        "hypernym": 842,
        "qa_congruence_easy": 64,
        "qa_congruence_tricky": 165,
        "subject_aux_inversion": 3867,
        "turn_taking": 280,
    }
    assert any("\n" in pair.good for pair in pairs)


def test_the_twelve_terms_of_the_paper_stand_beside_the_thirteen_of_its_files(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    terms = {"a": "argument_structure", "b": "argument_structure", "c": "s-selection", "d": "binding"}
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    records = [
        {
            "sentence_good": f"{words[i]} {words[j]}",
            "sentence_bad": f"{words[j]} {words[i]} {words[i]}",
            "UID": name,
            "linguistics_term": term,
        }
        for place, (name, term) in enumerate(terms.items())
        for i, j in [(place, k) for k in range(7) if k != place][: 3 + place]
    ]
    found = measured(causal, tokenizer, f"pairs:{write_jsonl(records)} reduction=mean")
    by_paradigm = {name: found[f"paradigm/{name}", "accuracy"].value for name in terms}
    whole = np.mean([by_paradigm[name] for name in "abc"])
    assert found["term/argument_structure+s-selection", "accuracy"].value == pytest.approx(whole)
    assert found["all", "accuracy_over_12_terms"].value == pytest.approx((whole + by_paradigm["d"]) / 2)
    thirteen = (np.mean([by_paradigm["a"], by_paradigm["b"]]), by_paradigm["c"], by_paradigm["d"])
    assert found["all", "accuracy_over_terms"].value == pytest.approx(np.mean(thirteen))
    assert len({*by_paradigm.values()}) > 1, "else every mean is the same"


def test_the_untrained_model_is_asked_once_for_all_checkpoints_and_calls(
    causal: Transformer, tokenizer: Tokenizer, pairs_file: Path
) -> None:
    first = parse_task(f"pairs:{pairs_file}")
    first.prepare(material(causal, tokenizer))
    figures = first.measure(Subject(engine(causal))).figures
    second = parse_task(f"pairs:{pairs_file}")
    second.prepare(material(causal, tokenizer, untrained=lambda: pytest.fail("it was asked again")))
    second.recall(first.shared_files())
    assert second.measure(Subject(engine(causal))).figures == figures


def test_the_outcome_of_each_pair_is_kept_in_the_order_of_the_pairs(
    causal: Transformer, tokenizer: Tokenizer, pairs_file: Path
) -> None:
    task = parse_task(f"pairs:{pairs_file}")
    task.prepare(material(causal, tokenizer))
    found = task.measure(Subject(engine(causal)))
    judged = np.frombuffer(found.files[OUTCOMES], dtype=np.uint8) / 2
    shared = pq.read_table(io.BytesIO(task.shared_files()[PAIRS]))
    figures = {(one.subset, one.metric): one.value for one in found.figures}
    paradigms = np.array(shared["paradigm"].to_pylist())
    for paradigm in np.unique(paradigms):
        mean = 100 * judged[paradigms == paradigm].mean()
        assert mean == pytest.approx(figures[f"paradigm/{paradigm}", "accuracy"])
    assert shared["id"].to_pylist() == [pair.id for pair in read_pairs(pairs_file, Fields())]
