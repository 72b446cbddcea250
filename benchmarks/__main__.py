"""`python -m benchmarks` (or `make bench`): every benchmark, as ratios to a peer in the same run."""

import json
import platform
from pathlib import Path

import torch

from benchmarks import data_preparation, training_step

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    print(f"torch {torch.__version__}, {machine['threads']} threads, {machine['processor']}")
    rows = training_step.run()
    prepared = data_preparation.run()
    results = {"machine": machine, "torch": torch.__version__, "training_step": rows, "data_preparation": prepared}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    worst = min(row["ratio"] for row in rows)
    print(f"summary: PicoLM makes {worst:.2f}x the tokens/s of the plain loop or more, over {len(rows)} shapes")
    print(f"summary: PicoLM prepares text {prepared[0]['ratio']:.2f}x as fast as datasets.map")


if __name__ == "__main__":
    main()
