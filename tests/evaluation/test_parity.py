"""The same scores from other people's code: transformers by a direct loop, minicons, lm-evaluation-harness."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import picolm
from picolm.evaluation.continuations import encode_continuations
from picolm.evaluation.masked import MaskedScorer
from picolm.evaluation.scoring import CausalScorer, score_passages

from .conftest import TEXTS, engine

Saved = Callable[..., Path]


@pytest.mark.parametrize("changes", [{}, {"qk_norm": True, "tied": True}], ids=["llama", "qwen3"])
def test_sums_equal_those_of_transformers(saved: Saved, changes: dict[str, Any]) -> None:
    import transformers

    directory = saved(**changes)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model, tokenizer = picolm.open_model(directory)
    ours = CausalScorer(engine(model), tokenizer).score(TEXTS)
    for number, text in enumerate(TEXTS):
        ids = [theirs.config.bos_token_id, *their_tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            log_p = theirs(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        wanted = float(log_p.gather(1, torch.tensor(ids[1:])[:, None]).sum())
        assert ours.log_p[number] == pytest.approx(wanted, abs=1e-4)


def test_pseudo_log_likelihoods_equal_those_of_transformers(saved: Saved) -> None:
    import transformers

    directory = saved(attention="bidirectional")
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(directory).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model, tokenizer = picolm.open_model(directory)
    ours = MaskedScorer(engine(model), tokenizer, hiding="original").score(TEXTS)
    for number, text in enumerate(TEXTS):
        border = [theirs.config.bos_token_id]
        ids = border + their_tokenizer(text, add_special_tokens=False)["input_ids"] + border
        total = 0.0
        for place in range(1, len(ids) - 1):
            row = [*ids[:place], their_tokenizer.mask_token_id, *ids[place + 1 :]]
            with torch.no_grad():
                log_p = theirs(torch.tensor([row])).logits[0, place].double().log_softmax(-1)
            total += float(log_p[ids[place]])
        assert ours.log_p[number] == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("first_token", ["bos", "none"])
def test_sums_equal_those_of_minicons(saved: Saved, first_token: Any) -> None:
    from minicons import scorer

    directory = saved()
    model, tokenizer = picolm.open_model(directory)
    # A text of one token has nothing to score without the token before it; minicons fails at it.
    texts = [text for text in TEXTS if len(tokenizer.encode(text)) > 1]
    theirs = scorer.IncrementalLMScorer(str(directory), "cpu").sequence_score(
        texts, bos_token=first_token == "bos", reduction=lambda scores: scores.sum().item()
    )
    ours = CausalScorer(engine(model), tokenizer, first_token=first_token).score(texts)
    np.testing.assert_allclose(ours.log_p, theirs, atol=1e-4)


def test_tokens_equal_those_of_minicons(saved: Saved) -> None:
    from minicons import scorer

    directory = saved()
    model, tokenizer = picolm.open_model(directory)
    theirs = scorer.IncrementalLMScorer(str(directory), "cpu").token_score(TEXTS, bos_token=True)
    ours = CausalScorer(engine(model), tokenizer).score(TEXTS).per_token
    for own, scores in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, [score for _, score in scores][1:], atol=1e-4)


def test_continuations_equal_those_of_minicons(saved: Saved) -> None:
    from minicons import scorer

    directory = saved()
    model, tokenizer = picolm.open_model(directory)
    contexts, rest = (
        ["The cats that the dog sees", "one two three", "Zoë's naïve"],
        ["are here.", "four", "café costs 12 €"],
    )
    theirs = scorer.IncrementalLMScorer(str(directory), "cpu").conditional_score(
        contexts, rest, reduction=lambda scores: scores.sum().item()
    )
    passages = encode_continuations(
        tokenizer, contexts, [f" {text}" for text in rest], bos=0, begin="empty", places=contexts
    )
    ours = [log_p.sum() for log_p in score_passages(engine(model), passages)]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("hiding", ["original", "within_word_l2r"])
def test_pseudo_log_likelihoods_equal_those_of_minicons(
    saved: Saved, hiding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers
    from minicons import scorer

    base = transformers.PreTrainedTokenizerBase
    # minicons 0.3.39 calls a name that transformers 5 has dropped.
    monkeypatch.setattr(base, "batch_encode_plus", lambda self, *a, **k: self(*a, **k), raising=False)
    directory = saved(attention="bidirectional")
    model, tokenizer = picolm.open_model(directory)
    theirs = scorer.MaskedLMScorer(str(directory), "cpu").sequence_score(
        TEXTS, PLL_metric=hiding, reduction=lambda scores: scores.sum().item()
    )
    # Our tokenizers add no token around a text, so neither does minicons.
    ours = MaskedScorer(engine(model), tokenizer, hiding=hiding, first_token="none").score(TEXTS)
    np.testing.assert_allclose(ours.log_p, theirs, atol=1e-4)


@pytest.mark.parametrize("space", ["", " "], ids=["as_is", "space"])
def test_pairs_equal_those_of_lm_eval(saved: Saved, pairs_file: Path, space: str) -> None:
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    directory = saved()
    records = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    task = {
        "task": "pairs",
        "custom_dataset": lambda **_: {"validation": datasets.Dataset.from_list(records)},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "num_fewshot": 0,
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
        "target_delimiter": space,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(directory), "dtype": "float32"},
        tasks=[task],
        device="cpu",
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    setting = "space" if space else "as_is"
    rows = picolm.evaluate(directory, [f"pairs:{pairs_file} leading_space={setting} controls=[]"])
    (ours,) = [row.value for row in rows if row.metric == "accuracy_over_pairs"]
    assert ours == pytest.approx(100 * theirs["results"]["pairs"]["acc,none"])
    # An accuracy of five pairs agrees easily, sums do not.
    model, tokenizer = picolm.open_model(directory)
    good, bad = (
        CausalScorer(engine(model), tokenizer).score([space + record[f"sentence_{side}"] for record in records]).log_p
        for side in ("good", "bad")
    )
    sums = [[float(answer[0][0]) for answer in sample["resps"]] for sample in theirs["samples"]["pairs"]]
    np.testing.assert_allclose(np.stack([good, bad], axis=1), sums, atol=1e-4)
