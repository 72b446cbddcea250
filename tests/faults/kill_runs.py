"""Kill runs at random moments with SIGKILL, resume them, and compare each with the run that nobody killed.

    python tests/faults/kill_runs.py                    50 eager runs and 5 compiled ones
    python tests/faults/kill_runs.py --runs 5 --compiled 0 --seed 7

Every other kill waits until a checkpoint is being written. A run is killed once to three times; after each kill
`picolm verify` must find nothing damaged. In the end every file of every checkpoint (weights and state) and every byte
of the log must be those of the reference. Exits with 1 where one is not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.runs.directory import RunDirectory
from picolm.runs.verification import verify_run

SETTINGS = [
    "data.sources=embedded:english?documents=150",
    "data.sequence_length=32",
    "tokenizer.vocab_size=300",
    *("model.d_model=32", "model.n_layers=2", "model.n_heads=4", "model.n_kv_heads=2", "model.d_ffn=48"),
    *("model.max_length=64", "model.dropout=0.1", "schedule.warmup_steps=3"),
    *("training.steps=60", "training.batch_size=8", "training.flush_every=5", "training.device=cpu"),
    *("training.ema.start=3", "training.threads=1", "validation.every=7", "validation.tokens_per_domain=1000"),
    *("samples.max_tokens=5", "checkpoints.state.every=3", "checkpoints.model.every=10"),
]


@dataclass(frozen=True)
class Outcome:
    """What became of one run that was killed."""

    kills: int
    resumed_from: list[int | None]
    differences: list[str]


class Killer:
    """Starts runs in processes of their own, kills them, resumes them, and compares them with a reference.

    Args:
        folder: where runs and data stand.
        settings: of the run, beside those above.
        seed: of the moments.
    """

    def __init__(self, folder: Path, settings: Sequence[str] = (), *, seed: int = 0) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        cache = f"data.cache={folder / 'cache'}"
        self.settings = [*SETTINGS, cache, *settings]
        self.reference = folder / "runs" / "reference"
        self.seconds = 0.0
        """How long the reference trained, its start left out."""

    def make_reference(self) -> None:
        """Make the run that nobody kills, and see how long it trains."""
        process = self._train("reference")
        self._await_training(process, self.reference)
        started = time.monotonic()
        self._wait(process)
        self.seconds = time.monotonic() - started
        assert not verify_run(RunDirectory(self.reference)).damage

    def kill_and_resume(self, name: str) -> Outcome:
        """Make the same run under kills."""
        run, kills, n_kills = self.folder / "runs" / name, 0, self.draw.choice((1, 1, 2, 3))
        process = self._train(name)
        while kills < n_kills:
            if not self._kill(process, run):
                if kills:
                    break
                # It had come to its end before: not a test of anything.
                shutil.rmtree(run)
                process = self._train(name)
                continue
            kills += 1
            if (run / "run.json").exists():
                damage = verify_run(RunDirectory(run)).damage
                assert not damage, damage
                process = self._start("resume", str(run))
            else:
                process = self._train(name)
        self._wait(process)
        attempts = [line["from_checkpoint"] for line in RunDirectory(run).attempts]
        outcome = Outcome(kills, attempts, differences(self.reference, run))
        if not outcome.differences:
            shutil.rmtree(run)
        return outcome

    def _kill(self, process: subprocess.Popen[bytes], run: Path) -> bool:
        """Kill a process in the middle of its work; whether it was still at work."""
        begun = len(RunDirectory(run).attempts) if run.is_dir() else 0
        waits_for_writing = self.draw.random() < 0.5
        if self.draw.random() < 0.85:
            self._await_training(process, run, begun + 1)
        ends = time.monotonic() + self.draw.random() * self.seconds
        while time.monotonic() < ends and process.poll() is None:
            time.sleep(0.001)
        while waits_for_writing and process.poll() is None and not list((run / "checkpoints").glob(".step-*partial*")):
            time.sleep(0.0002)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def _await_training(self, process: subprocess.Popen[bytes], run: Path, attempts: int = 1) -> None:
        """Wait until the attempt of that number has begun: before it, nothing is written but `run.json`."""
        while process.poll() is None and not (run.is_dir() and len(RunDirectory(run).attempts) >= attempts):
            time.sleep(0.005)

    def _train(self, name: str) -> subprocess.Popen[bytes]:
        # The defaults, whatever a preset says.
        config = self.folder / "empty.yaml"
        config.write_text("{}\n")
        runs = str(self.folder / "runs")
        return self._start("train", str(config), *self.settings, "--name", name, "--runs-dir", runs)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "picolm", *arguments]
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise AssertionError((self.folder / "output.txt").read_text()[-3000:])


def differences(left: Path, right: Path) -> list[str]:
    """What is not the same in two runs that should be: the log, and each file of each checkpoint and capture."""
    one, other = RunDirectory(left), RunDirectory(right)
    found = [] if one.log_path.read_bytes() == other.log_path.read_bytes() else ["log.jsonl"]
    for damage in (*verify_run(one).damage, *verify_run(other).damage):
        found.append(damage)
    for folder in ("checkpoints", "captures"):
        ours, theirs = _files(left / folder), _files(right / folder)
        found += [
            f"{folder}/{name}" for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)
        ]
    return found


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.glob("step-*/**/*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def main() -> int:
    """Run the test; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--compiled", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    failed = 0
    for kind, count, settings in (("eager", chosen.runs, []), ("compiled", chosen.compiled, ["training.compile=true"])):
        if not count:
            continue
        with tempfile.TemporaryDirectory() as folder:
            killer = Killer(Path(folder), settings, seed=chosen.seed)
            killer.make_reference()
            print(f"{kind}: the reference trained for {killer.seconds:.1f} s", flush=True)
            for number in range(count):
                outcome = killer.kill_and_resume(f"run-{number}")
                failed += bool(outcome.differences)
                verdict = "; ".join(outcome.differences) or "identical"
                print(f"{kind} {number}: {outcome.kills} kills, from {outcome.resumed_from}: {verdict}", flush=True)
    print(f"{failed} of {chosen.runs + chosen.compiled} runs differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
