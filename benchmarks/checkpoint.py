"""How long a checkpoint holds training up, against the time of a step and against `torch.save` on the training thread.

The small preset at its own shape. A step is timed alone and, in turn, with a checkpoint after it: what the call itself
takes (the copy to host memory) and how much longer the steps take beside which the file is written.
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

from benchmarks.training_step import trainer_on
from picolm.config.loading import load_config
from picolm.runs.directory import RunDirectory
from picolm.runs.ledger import Ledger
from picolm.text.tokenizer import Tokenizer
from picolm.training.checkpointing import Checkpoints
from picolm.training.numerics import numerics
from picolm.training.trainer import Trainer
from picolm.training.writer import Writer

ROUNDS = 5
BESIDE = 3
"""Steps that are timed after a checkpoint: the file is written beside them."""


def run() -> list[dict[str, Any]]:
    """Measure the small preset; print and return one row."""
    changes = {
        "model.vocab_size": 50304,
        "data.sequence_length": 512,
        "training.batch_size": 4,
        "training.device": "cpu",
        "training.precision": "bf16",
    }
    config = load_config("small", changes)
    tokens = np.random.default_rng(0).integers(0, 50304, (4, 513))
    with tempfile.TemporaryDirectory() as folder, numerics(config.training):
        trainer, views = trainer_on(config, tokens, Path(folder))
        run_directory = RunDirectory(Path(folder) / "run")
        with Ledger(run_directory.path) as ledger, Writer() as writer:
            tokenizer = Tokenizer.characters(["abc"])
            trainer.checkpoints = Checkpoints(
                run_directory, config, tokenizer, writer=writer, ledger=ledger, warn=print
            )

            def step() -> None:
                trainer.update(100, views)

            step()
            rows = [_round(trainer, step, writer, Path(folder), number) for number in range(1, ROUNDS + 1)]
    figures = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    shape, columns = "small, V 50,304, 4 x 512, bf16", ("step", "stall", "beside", "torch")
    print("\n" + f"{'checkpoint: seconds':<34}" + "".join(f"{name:>12}" for name in columns))
    print(f"{shape:<34}" + "".join(f"{figures[name]:>12.2f}" for name in columns), flush=True)
    figures["ratio"] = figures["torch"] / figures["stall"]
    return [{"shape": shape, **{key: round(value, 3) for key, value in figures.items()}}]


def _round(trainer: Trainer, step: Callable[[], None], writer: Writer, folder: Path, number: int) -> dict[str, float]:
    alone = statistics.median(_timed(step) for _ in range(BESIDE))
    stall = _timed(lambda: trainer.save(number, whole=True))
    beside = [_timed(step) for _ in range(BESIDE)]
    writer.wait()
    state = {"model": trainer.structure.objective.state_dict(), "optimizer": trainer.structure.optimizer.state_dict()}
    saved = _timed(lambda: torch.save(state, folder / "peer.pt"))
    # What the steps beside lost is stalled too.
    lost = sum(beside) - BESIDE * alone
    return {"step": alone, "stall": stall, "beside": lost, "torch": saved}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
