"""Makes the runs of a list one after the other; started by `torchrun`, on each of its processes.

Usage: on_ranks.py LIST RUNS, with LIST a JSON file: [{name, overrides, trusted, dies: [step, ...]}, ...].
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

import picolm
from picolm.training.trainer import Trainer

torch.set_num_threads(1)
# Nothing that a run draws may come from a generator whose state is a rank's own.
torch.manual_seed(1000 + int(os.environ["RANK"]))

original = Trainer.update
DIES: list[int] = []


class Dies(Exception):
    pass


def mortal(trainer: Trainer, number: int, views: Any) -> None:
    if number in DIES:
        raise Dies
    original(trainer, number, views)


def main(listed: Path, runs: Path) -> None:
    Trainer.update = mortal  # type: ignore[method-assign]
    for one in json.loads(listed.read_text()):
        attempts = [[step] for step in one["dies"]] + [[]]
        for number, dies in enumerate(attempts):
            DIES[:] = dies
            try:
                if number == 0:
                    config = picolm.load_config(None, one["overrides"])
                    picolm.train(config, name=one["name"], runs_dir=runs, trusted=one["trusted"])
                else:
                    picolm.resume(runs / one["name"], trust=True)
            except Dies:
                continue


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
