"""`python -m benchmarks` (or `make bench`): every benchmark, as ratios to a peer in the same run."""

import json
import os
import platform
from pathlib import Path

# As the command line does; read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

from benchmarks import (
    analysis,
    checkpoint,
    data_preparation,
    episodes,
    evaluation,
    loss,
    step_memory,
    tagging,
    training_step,
)

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    print(f"torch {torch.__version__}, {machine['threads']} threads, {machine['processor']}")
    modules = (training_step, loss, step_memory, checkpoint, data_preparation, tagging, evaluation, analysis, episodes)
    tables = {module.__name__.split(".")[-1]: module.run() for module in modules}
    RESULTS.write_text(json.dumps({"machine": machine, "torch": torch.__version__, **tables}, indent=2) + "\n")
    ratios = {name: [f"{row['ratio']:.2f}" for row in rows] for name, rows in tables.items()}
    print("summary of ratios:", "; ".join(f"{name} {' '.join(values)}" for name, values in ratios.items()))


if __name__ == "__main__":
    main()
