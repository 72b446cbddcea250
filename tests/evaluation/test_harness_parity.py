"""The same figures from lm-evaluation-harness: its own task definitions over records of ours, its own model class."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import picolm
from picolm.assembly.evaluating import open_engine
from picolm.runs.evaluations import Evaluated

from .choice_records import RECORDS, TASKS
from .conftest import TEXTS

Write = Callable[..., Path]
NAMES = {
    "acc": "accuracy",
    "acc_norm": "accuracy_norm",
    "acc_bytes": "accuracy_bytes",
    "acc_mutual_info": "accuracy_pmi",
}


def definition(name: str, records: Sequence[Any], metrics: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    """A task that comes with the harness, over records of ours instead of a download."""
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    task: dict[str, Any] = load_yaml(Path(lm_eval.__file__).parent / "tasks" / TASKS[name], resolve_func=True)
    task |= {"custom_dataset": local(test=records), "num_fewshot": 0}
    task |= {"training_split": None, "validation_split": None, "test_split": "test", "tag": None}
    if metrics:
        task["metric_list"] = [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in metrics
        ]
    return task | changes


def local(**splits: Sequence[Any]) -> Callable[..., Any]:
    """Records of ours as the harness loads a data set."""
    import datasets

    return lambda **_: {name: datasets.Dataset.from_list(list(records)) for name, records in splits.items()}


def asked(model: Any, task: dict[str, Any], **changes: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The harness's figures, and what it kept of each record."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=[task], task_manager=manager, bootstrap_iters=0, **changes)
    figures = {name.partition(",")[0]: value for name, value in found["results"][task["task"]].items()}
    return figures, found["samples"][task["task"]]


def by_hugging_face(directory: Path, task: dict[str, Any]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    return asked("hf", task, model_args={"pretrained": str(directory), "dtype": "float32"}, batch_size=4, device="cpu")


def by_the_bridge(directory: Path, task: dict[str, Any]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    from picolm.evaluation.harness import HarnessModel

    engine, material = open_engine(directory)
    return asked(HarnessModel(engine, material.tokenizer, bos=material.bos), task)


MODELS = pytest.mark.parametrize("their", [by_hugging_face, by_the_bridge])


def table(rows: Sequence[Evaluated]) -> dict[str, float]:
    return {row.metric: row.value for row in rows if row.subset == "all"}


def log_p(sample: dict[str, Any]) -> list[float]:
    return [float(answer[0][0]) for answer in sample["resps"]]


@MODELS
@pytest.mark.parametrize("name", ["arc", "hellaswag", "piqa", "sciq"])
def test_choices_equal_the_harness_own_tasks(saved: Write, write_jsonl: Write, name: str, their: Any) -> None:
    directory, records = saved(max_length=256), RECORDS[name]
    theirs, samples = their(directory, definition(name, records, list(NAMES)))
    ours = table(picolm.evaluate(directory, [f"choices:{write_jsonl(records)} controls=[]"]))
    assert {metric: ours[own] for metric, own in NAMES.items()} == pytest.approx(
        {metric: 100 * theirs[metric] for metric in NAMES}
    )
    # Accuracies of few records agree easily; these two are made of the log-probabilities themselves.
    shares, bits = [], []
    for sample in samples:
        scores = log_p(sample)[: len(sample["resps"]) // 2]
        gold = int(sample["target"])
        shares.append(math.exp(scores[gold] - np.logaddexp.reduce(scores)))
        said = sample["arguments"][gold][1].removeprefix(" ")
        bits.append(-scores[gold] / math.log(2) / len(said.encode()))
    assert ours["answer_probability"] == pytest.approx(np.mean(shares), abs=1e-5)
    assert ours["answer_bits_per_byte"] == pytest.approx(np.mean(bits), abs=1e-5)


@MODELS
def test_partial_evaluation_equals_the_harness(saved: Write, write_jsonl: Write, their: Any) -> None:
    directory, records = saved(), RECORDS["winogrande"]
    theirs, samples = their(directory, definition("winogrande", records))
    ours = table(picolm.evaluate(directory, [f"choices:{write_jsonl(records)} controls=[]"]))
    assert ours["accuracy"] == pytest.approx(100 * theirs["acc"]) and "accuracy_norm" not in ours
    shares = []
    for sample in samples:
        scores = log_p(sample)
        shares.append(math.exp(scores[int(sample["doc"]["answer"]) - 1] - np.logaddexp.reduce(scores)))
    assert ours["answer_probability"] == pytest.approx(np.mean(shares), abs=1e-5)


def foreseen(directory: Path) -> dict[str, str]:
    """A text whose last word the model would have written itself."""
    model, tokenizer = picolm.open_model(directory)
    words = " ".join(TEXTS).split()
    for begin in range(len(words) - 3):
        context = " ".join(words[begin : begin + 3])
        ids = tokenizer.encode(context).tolist()
        with torch.no_grad():
            likeliest = int(model.logits(model(torch.tensor([ids])))[0, -1].argmax())
        word = tokenizer.decode([likeliest])
        if word[:1] == " " and word[1:].isalnum() and tokenizer.encode(context + word).tolist() == [*ids, likeliest]:
            return {"text": context + word}
    raise AssertionError("no such text")


@MODELS
def test_last_words_equal_the_harness(saved: Write, write_jsonl: Write, their: Any) -> None:
    directory = saved()
    records = [*RECORDS["lambada"], foreseen(directory)]
    theirs, _ = their(directory, definition("lambada", records))
    ours = table(picolm.evaluate(directory, [f"choices:{write_jsonl(records)}"]))
    assert ours["accuracy"] == pytest.approx(100 * theirs["acc"]) == 100 / len(records)
    assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-4)


@MODELS
def test_what_is_too_long_is_cut_as_the_harness_cuts_it(
    saved: Write, write_jsonl: Write, their: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, records = saved(max_length=36), RECORDS["hellaswag"]
    ours = table(picolm.evaluate(directory, [f"choices:{write_jsonl(records)} controls=[] unconditional=none"]))
    assert "2 of 3 questions are longer than the window of 36 tokens" in capsys.readouterr().err and ours["cut"] == 2
    _, samples = their(directory, definition("hellaswag", records))
    bits = []
    for sample in samples:
        gold = int(sample["target"])
        bits.append(-log_p(sample)[gold] / math.log(2) / len(sample["arguments"][gold][1].encode()[1:]))
    assert ours["answer_bits_per_byte"] == pytest.approx(np.mean(bits), abs=1e-5)


@MODELS
def test_examples_stand_before_a_question_as_in_the_harness(saved: Write, write_jsonl: Write, their: Any) -> None:
    directory, (example, *records) = saved(max_length=256), RECORDS["arc"]
    task = definition(
        "arc",
        records,
        custom_dataset=local(train=[example], test=records),
        num_fewshot=1,
        training_split="train",
        fewshot_split="train",
        fewshot_config={"sampler": "first_n"},
    )
    _, samples = their(directory, task)
    pool = write_jsonl([example], "pool.jsonl")
    ours = table(picolm.evaluate(directory, [f"choices:{write_jsonl(records)} controls=[] shots=1 shots_from={pool}"]))
    shares = []
    for sample in samples:
        scores = log_p(sample)
        shares.append(math.exp(scores[int(sample["target"])] - np.logaddexp.reduce(scores)))
    assert samples[0]["arguments"][0][0].startswith("Question: Which animal says moo?\nAnswer: the cow\n\nQuestion: ")
    assert ours["answer_probability"] == pytest.approx(np.mean(shares), abs=1e-5)


@MODELS
def test_rolling_perplexity_equals_the_harness(saved: Write, write_jsonl: Write, their: Any) -> None:
    directory = saved(max_length=16)
    records = [{"text": text} for text in [*TEXTS, " ".join(TEXTS)]]
    metrics = ["word_perplexity", "byte_perplexity", "bits_per_byte"]
    task = {
        "task": "rolling",
        "custom_dataset": local(test=records),
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": metric} for metric in metrics],
    }
    theirs, _ = their(directory, task)
    rows = picolm.evaluate(directory, [f"perplexity:{write_jsonl(records)} stride=16 pico_figure=false"])
    found = {row.metric: row for row in rows if row.subset == "all"}
    nats = found["loss"].value * found["loss"].n
    n_words = sum(len(re.split(r"\s+", record["text"])) for record in records)
    n_bytes = sum(len(record["text"].encode()) for record in records)
    assert found["bits_per_byte"].value == pytest.approx(theirs["bits_per_byte"], rel=1e-5)
    assert math.exp(nats / n_words) == pytest.approx(theirs["word_perplexity"], rel=1e-4)
    assert math.exp(nats / n_bytes) == pytest.approx(theirs["byte_perplexity"], rel=1e-5)


def test_generated_texts_equal_those_of_the_harness(saved: Write) -> None:
    directory = saved()
    # The last one is longer than the window.
    begun = ["one two", "The cats that", "a", "A: Where is it?\nB:", "café", " ".join(TEXTS)]
    records = [{"text": text} for text in begun]
    task = {
        "task": "written",
        "custom_dataset": local(test=records),
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{text}}",
        # A stop that appears in some of the texts.
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "bypass"}],
    }
    texts = [
        [sample["resps"][0][0] for sample in their(directory, task)[1]] for their in (by_hugging_face, by_the_bridge)
    ]
    assert texts[0] == texts[1] and len(set(texts[0])) == len(records)
