"""What a run promises, tested on whole runs of a second or two."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import picolm
from picolm.assembly.ingredients import prepare
from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.seams import Observer
from picolm.training.interruption import Interruption
from picolm.training.trainer import Trainer

Overrides = dict[str, object]


def run(overrides: Overrides, directory: Path, name: str, **options: Any) -> RunDirectory:
    return picolm.train(picolm.load_config(None, overrides), name=name, runs_dir=directory, **options)


def weights(run: RunDirectory) -> bytes:
    return (run.checkpoints[-1].path / "model.safetensors").read_bytes()


def losses(run: RunDirectory) -> list[float]:
    return [line["loss"] for line in run.log if line["event"] == "train"]


MUON: Overrides = {"optimizer": {"kind": "muon", "learning_rate": 0.02}}
MASKED: Overrides = {"objective": {"kind": "masked", "rate": 0.3}, "model.attention": "bidirectional"}


@pytest.mark.parametrize("changes", [{}, MASKED, {"training.precision": "bf16"}, {"model.dropout": 0.2}])
def test_two_runs_of_one_configuration_are_the_same_bytes(
    small_run: Overrides, tmp_path: Path, changes: Overrides
) -> None:
    first = run({**small_run, **changes}, tmp_path, "first")
    torch.manual_seed(12345)  # nothing a run draws may come from the global generator
    second = run({**small_run, **changes}, tmp_path, "second")
    assert weights(first) == weights(second)
    assert first.log_path.read_bytes() == second.log_path.read_bytes()
    assert first.identity["config_hash"] == second.identity["config_hash"]


@pytest.mark.parametrize("changes", [{}, MASKED])
def test_loader_threads_and_prefetch_change_no_byte(small_run: Overrides, tmp_path: Path, changes: Overrides) -> None:
    base = {**small_run, **changes}
    first = run(base, tmp_path, "first")
    second = run({**base, "data.loader_workers": 3, "data.prefetch_steps": 7}, tmp_path, "second")
    assert weights(first) == weights(second)
    assert first.log_path.read_bytes() == second.log_path.read_bytes()


@pytest.mark.parametrize("changes", [{}, MASKED])
@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_micro_batches_change_nothing_beyond_rounding(
    small_run: Overrides, tmp_path: Path, changes: Overrides, micro_batch_size: int
) -> None:
    base = {**small_run, **changes, "training.steps": 4}
    whole = run(base, tmp_path, "whole")
    parts = run({**base, "training.micro_batch_size": micro_batch_size}, tmp_path, "parts")
    assert losses(parts) == pytest.approx(losses(whole), rel=2e-5)
    norms = [[line["gradient_norm"] for line in r.log if line["event"] == "train"] for r in (whole, parts)]
    assert norms[1] == pytest.approx(norms[0], rel=2e-4)


def test_seeds_are_factors_of_their_own(small_run: Overrides, tmp_path: Path) -> None:
    base = {**small_run, "training.steps": 3, "model.dropout": 0.1}
    reference = run(base, tmp_path, "reference")
    for seed in ("init", "data", "dropout"):
        other = run({**base, f"seeds.{seed}": 1}, tmp_path, seed)
        assert losses(other) != losses(reference), seed
        validations = [next(line for line in r.log if line["event"] == "validation") for r in (reference, other)]
        # The untrained model on the same held-out documents: only other initial values may show.
        assert (validations[0] == validations[1]) is (seed != "init")
    sampled = run({**base, "seeds.sampling": 1}, tmp_path, "sampling")
    assert weights(sampled) == weights(reference)


def test_the_model_learns_what_there_is_to_learn(small_run: Overrides, tmp_path: Path) -> None:
    result = run({**small_run, "training.steps": 150, "validation.every": 50}, tmp_path, "learns")
    first, *_, last = [line for line in result.log if line["event"] == "validation"]
    assert last["step"] == 150
    for domain in ("up", "down"):
        # Once the direction is known each word follows from the last: chance is ln 300 = 5.7 nats a token.
        assert first["domains"][domain]["loss"] > 5.4
        assert last["domains"][domain]["loss"] < 1.2
    assert result.log[-1]["event"] == "sample"


def test_the_log_says_what_happened(small_run: Overrides, tmp_path: Path) -> None:
    result = run(small_run, tmp_path, "run")
    training = [line for line in result.log if line["event"] == "train"]
    assert [line["step"] for line in training] == list(range(1, 13))
    assert training[0]["learning_rate"] == pytest.approx(5e-3 / 3)
    assert training[2]["learning_rate"] == pytest.approx(5e-3)
    assert [line["sequences"] for line in training] == [8 * step for step in range(1, 13)]
    assert training[-1]["tokens"] == 12 * 8 * 32
    assert all(line["losses"] == {"causal": pytest.approx(line["loss"])} for line in training)
    assert math.log(300) - 0.3 < training[0]["loss"] < math.log(300) + 0.3
    assert [line["step"] for line in result.log if line["event"] == "validation"] == [0, 5, 10, 12]
    steps = [line["step"] for line in result.timings]
    assert steps == sorted(set(steps)) and steps[-1] == 12


def test_validation_is_token_weighted_and_its_bits_are_per_byte_of_text(small_run: Overrides, tmp_path: Path) -> None:
    overrides = {**small_run, "training.steps": 2, "schedule.warmup_steps": 1, "validation.batch_size": 3}
    result = run(overrides, tmp_path, "run")
    model, _ = picolm.open_model(result.path)
    data = prepare(picolm.load_config(None, overrides)).data
    split = data.split("validation")
    table = split.documents().to_pylist()
    record = [line for line in result.log if line["event"] == "validation"][-1]
    total_nats = total_tokens = 0.0
    for domain, figures in record["domains"].items():
        chosen = set(split.domain_documents(domain).tolist())
        assert sum(table[i]["bytes"] for i in chosen) == figures["bytes"]
        n_tokens = sum(split.document_span(i)[1] - split.document_span(i)[0] for i in chosen)
        assert figures["tokens"] == n_tokens
        assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
        nats = figures["loss"] * n_tokens
        assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / figures["bytes"])
        total_nats, total_tokens = total_nats + nats, total_tokens + n_tokens
    assert record["loss"] == pytest.approx(total_nats / total_tokens)
    # One domain recomputed from the saved model, document stream by hand.
    from picolm.data.rows import ValidationRows

    tokens, valid = ValidationRows(split, "up", 32, 100_000).rows
    nats = 0.0
    for row, n in zip(torch.from_numpy(tokens), valid.tolist(), strict=True):
        with torch.no_grad():
            logits = model.logits(model(row[None, : n - 1]))[0].double()
        nats -= logits.log_softmax(-1).gather(1, row[1:n, None]).sum().item()
    assert record["domains"]["up"]["loss"] * record["domains"]["up"]["tokens"] == pytest.approx(nats, rel=1e-5)


class Synchronisations(TorchDispatchMode):
    """Counts the operations that make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.is_nonzero,
            torch.ops.aten.masked_select,
        ):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes", [{"training.ema.start": 3}, MASKED, MUON, {"training.micro_batch_size": 2, "training.precision": "bf16"}]
)
def test_a_step_never_waits_for_the_device(
    small_run: Overrides, tmp_path: Path, changes: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, counted = Trainer.update, []

    def counting(self: Trainer, step: int, views: Any) -> None:
        with Synchronisations() as mode:
            original(self, step, views)
        counted.append(mode.found)

    monkeypatch.setattr(Trainer, "update", counting)
    run({**small_run, **changes}, tmp_path, "run")
    assert counted == [[]] * 12
    with Synchronisations() as mode:
        torch.ones(1).item()
    assert mode.found


class Poison(Observer):
    """Makes one weight infinite before chosen steps, and heals it afterwards."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = Trainer.update

        def poisoned(trainer: Trainer, step: int, views: Any) -> None:
            weight = next(iter(trainer.structure.parameters.values())).data
            kept = weight.view(-1)[0].clone()
            if step in self.steps:
                weight.view(-1)[0] = torch.inf
            original(trainer, step, views)
            if step in self.steps:
                weight.view(-1)[0] = kept

        monkeypatch.setattr(Trainer, "update", poisoned)


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Poison({4, 5}).attach(monkeypatch)
    result = run(small_run, tmp_path, "run")
    training = [line for line in result.log if line["event"] == "train"]
    assert [line["skipped"] for line in training] == [0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2]
    assert not math.isfinite(training[4]["loss"]) and math.isfinite(training[6]["loss"])
    model, _ = picolm.open_model(result.path)
    assert all(p.isfinite().all() for p in model.parameters())


def test_too_many_skipped_steps_end_the_run_with_a_reason(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Poison(set(range(3, 12))).attach(monkeypatch)
    with pytest.raises(PicoLMError, match=r"not finite in 3 of 6 steps, more than training\.nonfinite_limit=2"):
        run(
            {**small_run, "training.nonfinite_limit": 2, "validation.every": 0, "training.flush_every": 2},
            tmp_path,
            "run",
        )
    assert "not finite" in RunDirectory.open(tmp_path / "run").log[-1]["reason"]
    assert len([line for line in RunDirectory.open(tmp_path / "run").log if line["event"] == "train"]) == 6


class Interrupt(Observer):
    """Sends this process a signal when a step is logged."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def timed(self, record: Any) -> None:
        if record["step"] == 5:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_saved_model(
    small_run: Overrides, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    interruption = Interruption()
    result = run(small_run, tmp_path, "run", observers=[Interrupt(number)], interruption=interruption)
    assert interruption.exit_code == 128 + number
    assert signal.getsignal(number) is before
    step = result.checkpoints[-1].step
    assert 5 <= step < 12
    assert result.checkpoints[-1].damaged() == []
    assert [line["step"] for line in result.log if line["event"] == "train"][-1] == step
    assert not [line for line in result.log if line["event"] == "sample"]


def test_a_run_leaves_the_process_as_it_was(small_run: Overrides, tmp_path: Path) -> None:
    torch.manual_seed(4)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run({**small_run, "training.threads": 2, "training.steps": 4}, tmp_path, "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_run_json_holds_the_resolved_configuration(small_run: Overrides, tmp_path: Path) -> None:
    result = run({**small_run, "training.steps": 4}, tmp_path, "run")
    from picolm.config.loading import build_config, config_hash

    identity = json.loads((result.path / "run.json").read_text())
    resolved = build_config(identity["config"])
    assert resolved.model.vocab_size == identity["data"]["tokenizer"]["vocab_size"] == 300
    assert config_hash(resolved) == identity["config_hash"]
    model, _ = picolm.open_model(result.path)
    assert sum(p.numel() for p in model.parameters()) == identity["parameters"]["total"]


def test_transformers_opens_what_a_run_saved(small_run: Overrides, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    for name, changes, auto in (
        ("causal", {}, transformers.AutoModelForCausalLM),
        ("masked", MASKED, transformers.AutoModelForMaskedLM),
    ):
        checkpoint = run({**small_run, **changes}, tmp_path, name).checkpoints[-1].path
        twin, tokenizer = auto.from_pretrained(checkpoint), transformers.AutoTokenizer.from_pretrained(checkpoint)
        model, ours = picolm.open_model(checkpoint)
        ids = tokenizer("three four five", return_tensors="pt")["input_ids"]
        assert ids[0].tolist() == ours.encode("three four five").tolist()
        with torch.no_grad():
            torch.testing.assert_close(model.logits(model(ids)), twin(ids).logits, rtol=0, atol=1e-5)
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (ours.separator_id, ours.pad_id)
