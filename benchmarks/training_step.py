"""One optimizer step: PicoLM's trainer against a plain PyTorch loop over `transformers`' Llama of the same shape.

The peer is what a careful researcher writes by hand: `LlamaForCausalLM` with SDPA attention, `F.cross_entropy` on its
logits, clipping, fused AdamW, autocast for bf16. Both train on the same random tokens; steps of the two alternate, so
that a machine whose speed drifts slows both. Figures are medians of paired steps.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers

from picolm.config import schema
from picolm.config.loading import load_config
from picolm.model.size import flops_per_token
from picolm.objective.causal import CausalFormulation
from picolm.runs.directory import RunDirectory
from picolm.seams import Sequences, View
from picolm.training.batches import Batches
from picolm.training.live import Live
from picolm.training.numerics import numerics
from picolm.training.parallel import Ranks
from picolm.training.plan import EpochPlan
from picolm.training.recorder import Recorder
from picolm.training.structure import Structure
from picolm.training.trainer import Trainer

# preset, vocabulary, sequences, length, precision
SHAPES = [
    ("demo", 1024, 32, 128, "fp32"),
    ("tiny", 8192, 16, 256, "fp32"),
    ("tiny", 8192, 16, 256, "bf16"),
    ("tiny", 50304, 4, 512, "bf16"),
    ("small", 8192, 4, 512, "bf16"),
]
PAIRS = 5


def run() -> list[dict[str, Any]]:
    """Time every shape; print and return a row for each."""
    print(f"{'shape':<34} {'PicoLM':>14} {'plain Llama':>14} {'ratio':>7} {'GFLOP/s':>8}")
    return [_row(*shape) for shape in SHAPES]


def _row(preset: str, vocab_size: int, rows: int, length: int, precision: str) -> dict[str, Any]:
    changes = {
        "model.vocab_size": vocab_size,
        "model.max_length": max(length, 256),
        "data.sequence_length": length,
        "training.batch_size": rows,
        "training.micro_batch_size": rows,
        "training.precision": precision,
        "training.gradient_clip": 1.0,
        "training.device": "cpu",
    }
    config = load_config(preset, changes)
    tokens = np.random.default_rng(0).integers(0, vocab_size, (rows, length + 1))
    with tempfile.TemporaryDirectory() as folder, numerics(config.training):
        ours, theirs = trainer_step(config, tokens, Path(folder)), _plain_step(config, torch.from_numpy(tokens))
        for step in (ours, theirs):
            step()
        pairs = [(_timed(ours), _timed(theirs)) for _ in range(PAIRS)]
    ratio = statistics.median(peer / own for own, peer in pairs)
    own, peer = (rows * length / statistics.median(times) for times in zip(*pairs, strict=True))
    flops = own * flops_per_token(config.model, vocab_size, length)
    name = f"{preset}, V {vocab_size:,}, {rows} x {length}, {precision}"
    print(f"{name:<34} {own:>10,.0f} t/s {peer:>10,.0f} t/s {ratio:>6.2f}x {flops / 1e9:>8.0f}", flush=True)
    return {
        "shape": name,
        "picolm_tokens_per_second": round(own),
        "plain_tokens_per_second": round(peer),
        "ratio": round(ratio, 3),
    }


def _timed(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def trainer_step(config: schema.Config, tokens: np.ndarray, folder: Path) -> Callable[[], None]:
    """A step of PicoLM's trainer on fixed tokens, as a function without arguments."""
    trainer, views = trainer_on(config, tokens, folder)
    return lambda: trainer.update(100, views)


def trainer_on(config: schema.Config, tokens: np.ndarray, folder: Path) -> tuple[Trainer, tuple[View, ...]]:
    """PicoLM's trainer, and views of fixed tokens."""
    formulation = CausalFormulation()
    plan = EpochPlan(n_rows=len(tokens), batch_size=len(tokens), fingerprint="benchmark", seed=0)
    device = torch.device("cpu")
    run = RunDirectory.create(folder / "run", {"interventions": []})
    structure = Structure(config, formulation, (), device)
    structure.build(0)
    trainer = Trainer(
        config,
        structure=structure,
        live=Live(config, data=None, rows=None, tokenizer=None, ranks=Ranks()),  # type: ignore[arg-type]
        plan=plan,
        # Batches are prepared ahead on another thread in a run; here the views are made once.
        batches=Batches(plan, None, formulation, first=0, last=0, prefetch=0, workers=1, pin=False),  # type: ignore[arg-type]
        validation=None,
        recorder=Recorder(run, [], nonfinite_limit=0, flops_per_token=1, device=device),
        checkpoints=None,
    )
    valid = np.full(len(tokens), tokens.shape[1])
    sequences = Sequences(tokens, valid, np.arange(len(tokens)), stream="train", step=0)
    views = formulation.views(sequences, measure=False)
    structure.objective.train()
    return trainer, views


def _plain_step(config: schema.Config, tokens: torch.Tensor) -> Callable[[], None]:
    shape = config.model
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.d_model,
            intermediate_size=shape.d_ffn,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            num_key_value_heads=shape.n_kv_heads,
            max_position_embeddings=shape.max_length,
            rms_norm_eps=shape.norm_eps,
            tie_word_embeddings=shape.tied,
            attn_implementation="sdpa",
        )
    )
    optimizer = torch.optim.AdamW(llama.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16"):
            logits = llama(tokens[:, :-1], use_cache=False).logits
        F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
