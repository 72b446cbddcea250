"""Minimal pairs per second on BLiMP, against the same scoring through transformers in fixed batches of 32.

The tiny preset, random weights, a vocabulary of 8,192. The peer is what one writes by hand: sentences in the order
of the file, 32 at a time, padded to the longest of them, whole logits, `log_softmax`, `gather`; the good ones and then
the bad ones. Both count from sentences to the difference of the two sums of each pair, tokenizing included, and must
find the same. They run by turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from picolm.config.loading import load_config
from picolm.evaluation.pair_files import Fields, Pair, read_pairs, sample
from picolm.evaluation.scoring import CausalScorer, Engine
from picolm.model.huggingface import SpecialTokens, load_model, save_model
from picolm.model.initialization import build_model
from picolm.text.tokenizer import Tokenizer

BLIMP = Path(__file__).resolve().parents[2] / "shared" / "data" / "blimp" / "blimp.jsonl.gz"
PER_PARADIGM = 200
ROUNDS = 3
BATCH = 32


def run() -> list[dict[str, Any]]:
    """Measure both on a sample of every paradigm; print and return one row; none where BLiMP is not there."""
    if not BLIMP.is_file():
        print(f"\nevaluation: left out, there is no {BLIMP}")
        return []
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    everything = read_pairs(BLIMP, Fields())
    pairs = sample(everything, PER_PARADIGM, seed=0)
    tokenizer = Tokenizer.train_bpe((pair.good for pair in everything), 8192)
    config = load_config("tiny", {"model.vocab_size": 8192}).model
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        special = SpecialTokens(tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id)
        save_model(build_model(config, 0), directory, special)
        tokenizer.save(directory, config.max_length)
        scorer = CausalScorer(Engine(load_model(directory), torch.device("cpu")), tokenizer)
        peer = AutoModelForCausalLM.from_pretrained(directory).eval()
        peer_tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)

        def theirs() -> np.ndarray[Any, Any]:
            good, bad = (_peer(peer, peer_tokenizer, [side(pair) for pair in pairs]) for side in (_good, _bad))
            return np.asarray(good - bad)

        def ours() -> np.ndarray[Any, Any]:
            sentences = [pair.good for pair in pairs], [pair.bad for pair in pairs]
            good, bad = scorer.score_pairs(*sentences, apart=True)
            return np.asarray(good.log_p - bad.log_p)

        np.testing.assert_allclose(ours(), theirs(), rtol=0, atol=1e-3)
        rounds = [(_timed(ours), _timed(theirs)) for _ in range(ROUNDS)]
    rates = [len(pairs) / statistics.median(seconds) for seconds in zip(*rounds, strict=True)]
    ratio = statistics.median(their / our for our, their in rounds)
    shape = f"tiny, V 8,192, {len(pairs):,} pairs of BLiMP"
    print("\n" + f"{'evaluation: pairs/s':<34}{'PicoLM':>12}{'by hand':>12}{'ratio':>8}")
    print(f"{shape:<34}{rates[0]:>12,.0f}{rates[1]:>12,.0f}{ratio:>8.2f}", flush=True)
    load = round(os.getloadavg()[0], 1)
    row = {"shape": shape, "picolm": round(rates[0], 1), "peer": round(rates[1], 1), "load": load}
    return [{**row, "ratio": round(ratio, 3)}]


def _good(pair: Pair) -> str:
    return pair.good


def _bad(pair: Pair) -> str:
    return pair.bad


@torch.no_grad()
def _peer(model: Any, tokenizer: Any, sentences: Sequence[str]) -> np.ndarray[Any, Any]:
    sums = []
    for start in range(0, len(sentences), BATCH):
        some = [tokenizer.bos_token + sentence for sentence in sentences[start : start + BATCH]]
        batch = tokenizer(some, return_tensors="pt", padding=True, add_special_tokens=False)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        log_p = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
        chosen = log_p.gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]
        sums.append(chosen.double().sum(1).numpy())
    return np.concatenate(sums)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    run()
