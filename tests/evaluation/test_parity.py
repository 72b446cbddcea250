"""The same scores from other people's code: transformers by a direct loop, minicons and lm-eval where installed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import picolm
from picolm.evaluation.masked import MaskedScorer
from picolm.evaluation.scoring import CausalScorer
from picolm.model.huggingface import SpecialTokens, save_model
from picolm.text.tokenizer import Tokenizer

from .conftest import TEXTS, engine, tiny_model

Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Saved:
    def save(**changes: Any) -> Path:
        directory = tmp_path / "model"
        directory.mkdir()
        special = SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id)
        save_model(tiny_model(tokenizer, **changes), directory, special)
        tokenizer.save(directory, 96)
        return directory

    return save


@pytest.mark.parametrize("changes", [{}, {"qk_norm": True, "tied": True}], ids=["llama", "qwen3"])
def test_sums_equal_those_of_transformers(saved: Saved, changes: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
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
    transformers = pytest.importorskip("transformers")
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


def test_sums_equal_those_of_minicons(saved: Saved) -> None:
    scorers = pytest.importorskip("minicons.scorer")
    directory = saved()
    model, tokenizer = picolm.open_model(directory)
    theirs = scorers.IncrementalLMScorer(str(directory), "cpu").sequence_score(
        TEXTS, bos_token=True, reduction=lambda scores: scores.sum().item()
    )
    np.testing.assert_allclose(CausalScorer(engine(model), tokenizer).score(TEXTS).log_p, theirs, atol=1e-4)


@pytest.mark.parametrize("hiding", ["original", "within_word_l2r"])
def test_pseudo_log_likelihoods_equal_those_of_minicons(
    saved: Saved, hiding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorers = pytest.importorskip("minicons.scorer")
    base = pytest.importorskip("transformers").PreTrainedTokenizerBase
    # minicons 0.3.39 calls a name that transformers 5 has dropped.
    monkeypatch.setattr(base, "batch_encode_plus", lambda self, *a, **k: self(*a, **k), raising=False)
    directory = saved(attention="bidirectional")
    model, tokenizer = picolm.open_model(directory)
    theirs = scorers.MaskedLMScorer(str(directory), "cpu").sequence_score(
        TEXTS, PLL_metric=hiding, reduction=lambda scores: scores.sum().item()
    )
    # Our tokenizers add no token around a text, so neither does minicons.
    ours = MaskedScorer(engine(model), tokenizer, hiding=hiding, first_token="none").score(TEXTS)
    np.testing.assert_allclose(ours.log_p, theirs, atol=1e-4)


def test_accuracy_equals_that_of_lm_eval(saved: Saved, pairs_file: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
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
        "target_delimiter": " ",
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
    rows = picolm.evaluate(directory, [f"pairs:{pairs_file} leading_space=space controls=[]"])
    (ours,) = [row.value for row in rows if row.metric == "accuracy_over_pairs"]
    assert ours == pytest.approx(100 * theirs["results"]["pairs"]["acc,none"])
