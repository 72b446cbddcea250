"""Captures of whole runs: what stands in them, that the run is the same as without, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import picolm
from picolm.assembly.ingredients import prepare
from picolm.errors import PicoLMError
from picolm.runs.captures import capture_path, metrics_path
from picolm.runs.directory import RunDirectory
from picolm.runs.manifest import read_manifest, verify
from picolm.runs.tables import read_metrics
from picolm.runs.verification import verify_run
from picolm.seams import Measurement, View
from picolm.training.capture import Capture
from picolm.training.trainer import Trainer
from picolm.training.writer import Writer

Overrides = dict[str, object]

EVERYTHING: Overrides = {
    "training.steps": 6,
    "capture.at": [0, 3, 6],
    "capture.activations": ["residual.*", "hidden", "layers.*.attention.pattern", "layers.*.mlp.down_proj"],
    "capture.gradients": ["layers.*.attention.o_proj", "embedding", "layers.0.mlp_norm"],
    "capture.moments": ["layers.*.mlp.up_proj", "embedding"],
    "capture.updates": ["layers.*.mlp.up_proj.weight", "unembedding"],
    "capture.train_batch": True,
    "capture.batch_size": 3,
    "capture.probes": {"held_out": {"sequences": 5}, "up-only": {"domain": "up", "sequences": 2}},
}
MASKED: Overrides = {"objective": {"kind": "masked", "rate": 0.3}, "model.attention": "bidirectional"}
MUON: Overrides = {"optimizer": {"kind": "muon", "learning_rate": 0.02}}


class Watched:
    """A run of which the weights and the optimizer's state after each update are kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.state: dict[int, dict[str, Tensor]] = {}
        self.views: dict[int, tuple[View, ...]] = {}
        self.entries = -1
        plain = Trainer.update

        def step(trainer: Trainer, number: int, views: tuple[View, ...]) -> None:
            if number == 0:
                self.weights[0], self.entries = snapshot(trainer), len(trainer.structure.optimizer.state)
            plain(trainer, number, views)
            self.views[number + 1] = views
            self.weights[number + 1] = snapshot(trainer)
            self.state[number + 1] = state_of(trainer)

        monkeypatch.setattr(Trainer, "update", step)


def snapshot(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.structure.objective.model.named_parameters()}


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{kind}/{name}": value.clone()
        for group in trainer.structure.optimizer.param_groups
        for name, p in zip(group["names"], group["params"], strict=True)
        for kind, value in trainer.structure.optimizer.state.get(p, {}).items()
    }


def run(
    overrides: Overrides, directory: Path, name: str = "run", measurements: Sequence[Measurement] = ()
) -> RunDirectory:
    config = picolm.load_config(None, overrides)
    return picolm.train(config, name=name, runs_dir=directory, measurements=measurements)


def captured(run: RunDirectory, step: int, file: str) -> dict[str, Tensor]:
    return load_file(capture_path(run.path, step) / f"{file}.safetensors")


@pytest.mark.parametrize(
    "changes",
    [{"model.dropout": 0.2}, {**MASKED, "data.document_borders": True}, {**MUON, "training.precision": "bf16"}],
)
def test_a_run_with_capture_ends_as_one_without(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Overrides
) -> None:
    with_capture, without = Watched(monkeypatch), None
    first = run({**small_run, **EVERYTHING, **changes}, tmp_path, "with")
    monkeypatch.undo()
    without = Watched(monkeypatch)
    second = run({**small_run, **changes, "training.steps": 6}, tmp_path, "without")
    assert not (second.path / "captures").exists() and not (second.path / "metrics").exists()
    assert sorted(p.name for p in (first.path / "captures").iterdir()) == [
        "probes", "step-00000000", "step-00000003", "step-00000006",
    ]  # fmt: skip
    assert with_capture.entries == 0, "a look at an optimizer without state gives it entries"
    for step in range(7):
        for name, weight in without.weights[step].items():
            assert torch.equal(weight, with_capture.weights[step][name]), (step, name)
        for name, state in without.state.get(step, {}).items():
            assert torch.equal(state, with_capture.state[step][name]), (step, name)
    assert first.log_path.read_bytes() == second.log_path.read_bytes()
    files = [run.checkpoints[-1].path / "model.safetensors" for run in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("changes", [{}, {"training.precision": "bf16", "model.dropout": 0.2}])
def test_a_compiled_run_with_capture_ends_as_one_without(
    small_run: Overrides, tmp_path: Path, changes: Overrides
) -> None:
    runs = {}
    for name, more in (("with", EVERYTHING), ("without", {"training.steps": 6})):
        torch._dynamo.reset()
        runs[name] = run({**small_run, **more, **changes, "training.compile": True}, tmp_path, name)
    assert verify(capture_path(runs["with"].path, 6)) == []
    assert runs["with"].log_path.read_bytes() == runs["without"].log_path.read_bytes()
    files = [one.checkpoints[-1].path / "model.safetensors" for one in runs.values()]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("changes", [{}, MUON, {**MASKED, "model.tied": False}])
def test_what_a_capture_holds(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Overrides
) -> None:
    watched = Watched(monkeypatch)
    result = run({**small_run, **EVERYTHING, **changes}, tmp_path)
    for step in (0, 3, 6):
        path = capture_path(result.path, step)
        assert verify(path) == []
        manifest = read_manifest(path)
        assert (manifest["kind"], manifest["step"], manifest["dtype"]) == ("picolm-capture", step, "fp32")
        assert manifest["weights"] == f"checkpoints/step-{step:08d}"
        assert manifest["probes"]["up-only"] == "captures/probes/up-only.safetensors"
        batches = {"held_out", "up-only"} | ({"train"} if step else set())
        assert set(manifest["files"]) == {f"{n}.safetensors" for n in batches | ({"optimizer"} if step else set())}
        for batch in batches:
            check_batch(watched, result, step, captured(result, step, batch), changes)
    assert_optimizer(watched, result)
    train, views = captured(result, 3, "train"), watched.views[3]
    assert train["batch/input_ids"].dtype == torch.int32
    assert torch.equal(train["batch/input_ids"].long(), views[0].tensors["input_ids"])


def check_batch(
    watched: Watched, result: RunDirectory, step: int, tensors: dict[str, Tensor], changes: Overrides
) -> None:
    rows = len(tensors["activation/hidden"])
    sites = [f"residual.{i}" for i in range(3)] + ["hidden"]
    sites += [f"layers.{i}.{name}" for i in range(2) for name in ("attention.pattern", "mlp.down_proj")]
    matrices = ["layers.0.attention.o_proj", "layers.1.attention.o_proj", "embedding", "layers.0.mlp_norm"]
    term = "masked" if "objective" in changes else "causal"
    wanted = {f"activation/{site}" for site in sites} | {f"gradient/{name}.weight" for name in matrices}
    assert {key for key in tensors if not key.startswith("batch/")} == wanted | {f"token_loss/{term}"}
    assert tensors["activation/residual.1"].shape == (rows, 32, 32)
    assert tensors["activation/layers.1.attention.pattern"].shape == (rows, 4, 32, 32)
    assert tensors["token_loss/" + term].shape == (rows, 32)
    for name in matrices:
        assert tensors[f"gradient/{name}.weight"].shape == watched.weights[step][f"{name}.weight"].shape
        assert tensors[f"gradient/{name}.weight"].abs().max() > 0
    # The weights of that very step: the same rows looked up in them.
    if "batch/input_ids" in tensors:
        embedded = watched.weights[step]["embedding.weight"][tensors["batch/input_ids"].long()]
        assert torch.equal(tensors["activation/residual.0"], embedded)


def assert_optimizer(watched: Watched, result: RunDirectory) -> None:
    for step in (3, 6):
        tensors = captured(result, step, "optimizer")
        moments = {key.removeprefix("moment/"): value for key, value in tensors.items() if key.startswith("moment/")}
        names = ["layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight", "embedding.weight"]
        expected = {
            key: value
            for key, value in watched.state[step].items()
            if key.partition("/")[2] in names and not key.startswith("step/")
        }
        assert set(moments) == set(expected) and len(expected) >= 4
        assert all(torch.equal(moments[key], value) for key, value in expected.items())
        updates = {key.removeprefix("update/"): value for key, value in tensors.items() if key.startswith("update/")}
        assert set(updates) == {"layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight", "unembedding.weight"}
        for name, update in updates.items():
            difference = watched.weights[step][name] - watched.weights[step - 1][name]
            assert torch.equal(update, difference) and update.abs().max() > 0


def test_a_captured_loss_and_gradient_are_those_of_the_update(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate of nearly nothing the weights stay, so the train batch shows what the loop computed."""
    changes: Overrides = {
        "training.gradient_clip": None,
        "optimizer.learning_rate": 1e-30,
        "optimizer.weight_decay": 0.0,
        "optimizer.betas": [0.0, 0.0],
    }
    watched = Watched(monkeypatch)
    result = run({**small_run, **EVERYTHING, **changes, "capture.moments": ["embedding"]}, tmp_path)
    for step in (3, 6):
        train = captured(result, step, "train")
        logged = next(line["loss"] for line in result.log if line["event"] == "train" and line["step"] == step)
        assert float(train["token_loss/causal"].nanmean()) == pytest.approx(logged, rel=1e-6)
        # With beta 0 the first moment is the gradient itself.
        gradient = watched.state[step]["exp_avg/embedding.weight"]
        torch.testing.assert_close(train["gradient/embedding.weight"], gradient, rtol=1e-4, atol=1e-9)


def test_probes_are_the_same_rows_at_every_step_and_in_every_run(small_run: Overrides, tmp_path: Path) -> None:
    first = run({**small_run, **EVERYTHING}, tmp_path, "first")
    second = run({**small_run, **EVERYTHING, "seeds": {"data": 5, "init": 7}, "capture.every": 1}, tmp_path, "second")
    for name in ("held_out", "up-only"):
        files = [(r.path / "captures" / "probes" / f"{name}.safetensors").read_bytes() for r in (first, second)]
        assert files[0] == files[1]
    rows = load_file(first.path / "captures" / "probes" / "held_out.safetensors")
    assert rows["tokens"].shape == rows["documents"].shape == (5, 33)
    step = captured(first, 0, "held_out")
    assert int((~step["token_loss/causal"].isnan()).sum()) == int((rows["valid"] - 1).sum())
    assert not torch.equal(captured(first, 3, "held_out")["activation/hidden"], step["activation/hidden"])


def test_bfloat16_is_float32_rounded_and_losses_stay_float32(small_run: Overrides, tmp_path: Path) -> None:
    full = run({**small_run, **EVERYTHING}, tmp_path, "full")
    half = run({**small_run, **EVERYTHING, "capture.dtype": "bf16"}, tmp_path, "half")
    for file in ("held_out", "train", "optimizer"):
        precise = captured(full, 3, file)
        for name, tensor in captured(half, 3, file).items():
            kept = name.startswith(("token_loss/", "batch/"))
            assert tensor.dtype == (precise[name].dtype if kept else torch.bfloat16)
            expected = precise[name].to(tensor.dtype)
            torch.testing.assert_close(tensor, expected, rtol=0, atol=0, equal_nan=True)
    assert read_manifest(capture_path(half.path, 3))["dtype"] == "bf16"


def test_chosen_positions_are_stored(small_run: Overrides, tmp_path: Path) -> None:
    full = run({**small_run, **EVERYTHING}, tmp_path, "full")
    some = run({**small_run, **EVERYTHING, "capture.positions": [4, -1]}, tmp_path, "some")
    valid = load_file(full.path / "captures" / "probes" / "held_out.safetensors")["valid"]
    whole, chosen = (captured(r, 3, "held_out")["activation/residual.1"] for r in (full, some))
    assert chosen.shape == (5, 2, 32)
    for row, n in enumerate(valid.tolist()):
        assert torch.equal(chosen[row, 0], whole[row, 4])
        assert torch.equal(chosen[row, 1], whole[row, min(n, 32) - 1])
    assert read_manifest(capture_path(some.path, 3))["positions"] == [4, -1]


def test_captures_are_in_the_ledger_and_a_resumed_run_makes_the_later_ones_again(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**small_run, **EVERYTHING, "checkpoints.state.every": 4}
    loss = measured("loss", ["token_loss"], ["causal"], lambda loss: loss.nanmean())
    whole = run(changes, tmp_path, "whole", [loss])
    assert verify_run(whole).damage == []
    original, attempts = Trainer.update, []

    def mortal(trainer: Trainer, number: int, views: tuple[View, ...]) -> None:
        if number == 5 and not attempts:
            attempts.append(number)
            raise RuntimeError("killed")
        original(trainer, number, views)

    monkeypatch.setattr(Trainer, "update", mortal)
    with pytest.raises(RuntimeError):
        run({**changes, "checkpoints.state.every": 2, "capture.at": [0, 3, 5, 6]}, tmp_path, "killed", [loss])
    resumed = picolm.resume(tmp_path / "killed", measurements=[loss])
    assert verify_run(resumed).damage == [] == verify_run(resumed).notes
    for folder in ("captures", "metrics"):
        for file in (path for path in (whole.path / folder).rglob("*") if path.is_file()):
            assert file.read_bytes() == (resumed.path / file.relative_to(whole.path)).read_bytes(), file.name
    # A flipped bit in any of them is named.
    for file in (
        "captures/step-00000003/held_out.safetensors",
        "captures/probes/held_out.safetensors",
        "metrics/step-00000003.parquet",
    ):
        data = bytearray((resumed.path / file).read_bytes())
        data[-1] ^= 1
        (resumed.path / file).write_bytes(data)
        assert any(file in sentence for sentence in verify_run(resumed).damage)


def test_what_is_written_late_is_what_was_seen(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = run({**small_run, **EVERYTHING}, tmp_path, "at-once")
    waiting: list[Any] = []

    def all_at_the_end(self: Writer) -> None:
        assert len(waiting) == 6, "three captures, and the models that they refer to"
        while waiting:
            waiting.pop(0)()

    monkeypatch.setattr(Writer, "submit", lambda self, task: waiting.append(task))
    monkeypatch.setattr(Writer, "wait", lambda self: all_at_the_end(self) if waiting else None)
    late = run({**small_run, **EVERYTHING}, tmp_path, "late")
    for step in (0, 3, 6):
        for file in capture_path(at_once.path, step).iterdir():
            assert file.read_bytes() == (capture_path(late.path, step) / file.name).read_bytes(), file.name


def measured(name: str, needs: Sequence[Any], sites: Sequence[str], function: Any) -> Measurement:
    return Measurement(name, tuple(needs), tuple(sites), function)


def test_measurements_are_written_and_what_only_they_need_is_not_stored(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    measurements = [
        measured("rms", ["activation"], ["residual.*"], lambda x: float(x.square().mean().sqrt())),
        measured("norms", ["weight", "update"], ["layers.*.mlp.up_proj"], lambda w, u: {"w": w.norm(), "u": u.norm()}),
        measured("entropy", ["activation"], ["layers.1.attention.pattern"], lambda p: p.amax((0, 2, 3))),
        measured("moment", ["moment"], ["embedding"], lambda m: float(m["exp_avg"].abs().sum())),
        measured("loss", ["token_loss"], ["causal"], lambda loss: loss.nanmean()),
        measured("both", ["activation", "gradient"], ["layers.0.mlp.gate_proj"], lambda a, g: a.shape[-1] - g.shape[0]),
        measured("chance", ["weight"], ["embedding"], lambda w: float(torch.rand(1))),
    ]
    changes: Overrides = {
        "capture.activations": [],
        "capture.gradients": [],
        "capture.moments": [],
        "capture.updates": [],
    }
    generators = []
    plain = Capture.take

    def take(self: Capture, done: int, views: tuple[View, ...] | None) -> None:
        before = torch.get_rng_state()
        plain(self, done, views)
        generators.append(torch.equal(torch.get_rng_state(), before))

    monkeypatch.setattr(Capture, "take", take)
    result = run({**small_run, **EVERYTHING, **changes, "capture.token_losses": False}, tmp_path, "run", measurements)
    assert generators == [True] * 3, "`chance` drew from a generator of the run"
    assert sorted(p.name for p in capture_path(result.path, 3).iterdir()) == ["manifest.json", "train.safetensors"]
    assert set(captured(result, 3, "train")) == {"batch/input_ids", "batch/targets"}
    table = read_metrics(result.path / "metrics").to_pylist()
    assert sorted({row["step"] for row in table}) == [0, 3, 6]
    found = {(r["step"], r["metric"], r["site"], r["head"], r["probe"]): r for r in table}
    assert len(found) == len(table)
    last = watched.weights[6]["layers.1.mlp.up_proj.weight"]
    row = found[6, "norms.w", "layers.1.mlp.up_proj", None, None]
    assert row["value"] == pytest.approx(float(last.norm())) and row["layer"] == 1
    update = last - watched.weights[5]["layers.1.mlp.up_proj.weight"]
    assert found[6, "norms.u", "layers.1.mlp.up_proj", None, None]["value"] == pytest.approx(float(update.norm()))
    assert found[3, "both", "layers.0.mlp.gate_proj", None, "train"]["value"] == 0
    assert [found[3, "entropy", "layers.1.attention.pattern", head, "held_out"]["value"] for head in range(4)] == [
        1.0
    ] * 4
    assert found[3, "moment", "embedding", None, None]["value"] > 0
    assert {(r["metric"], r["probe"]) for r in table if r["step"] == 0} == {
        ("rms", "held_out"), ("rms", "up-only"), ("entropy", "held_out"), ("entropy", "up-only"), ("chance", None),
        ("loss", "held_out"), ("loss", "up-only"), ("both", "held_out"), ("both", "up-only"),
    }  # fmt: skip
    assert np.isfinite([row["value"] for row in table]).all()
    assert metrics_path(result.path, 6).is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capture.activations": ["layers.*.mpl.down_proj"]}, r"capture.activations: .*did you mean 'layers\.\*\.mlp"),
        ({"capture.gradients": ["layers.*.mlp.down"]}, r"capture.gradients: the model has no trained matrix"),
        ({"capture.probes": {"x": {"domain": "upp"}}}, r"capture.probes.x.domain: .*did you mean 'up'"),
        ({"capture.budget_gb": 1e-6}, "more than capture.budget_gb=1e-06"),
        (
            {"data.validation_fraction": 0.0, "validation.every": 0},
            "looks at held-out documents, but the run holds out",
        ),
        ({"capture.probes": {"x": {"sources": ["nowhere.txt"]}}}, "there is no nowhere.txt"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    small_run: Overrides, tmp_path: Path, changes: Overrides, message: str
) -> None:
    with pytest.raises(PicoLMError, match=message):
        run({**small_run, "training.steps": 4, "capture.every": 2, **changes}, tmp_path)
    assert not (tmp_path / "run").exists(), "the run is refused before it begins"


def test_a_measurement_that_can_find_nothing_is_refused(small_run: Overrides, tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="measurement 'm': the model has no activation and weight at 'residual"):
        run({**small_run, **EVERYTHING}, tmp_path, "a", [measured("m", ["activation", "weight"], ["residual.*"], None)])
    with pytest.raises(PicoLMError, match="measurement 'text' must give a number"):
        run({**small_run, **EVERYTHING}, tmp_path, "b", [measured("text", ["weight"], ["embedding"], lambda w: "much")])


def test_a_probe_of_its_own_sources(small_run: Overrides, tmp_path: Path) -> None:
    source = tmp_path / "probe.jsonl"
    texts = ["one two three", "three two one", "ten nine eight"]
    source.write_text("".join(json.dumps({"text": text, "domain": text[:3]}) + "\n" for text in texts))
    probes = {"mine": {"sources": [str(source)], "sequences": 2}}
    changes: Overrides = {"capture.probes": probes, "data.validation_fraction": 0.0, "capture.at": [2]}
    result = run({**small_run, "training.steps": 2, "schedule.warmup_steps": 1, **changes}, tmp_path)
    rows = load_file(result.path / "captures" / "probes" / "mine.safetensors")
    tokenizer = prepare(picolm.load_config(None, {**small_run, "data.validation_fraction": 0.0})).tokenizer
    stream = [
        token for row, n in zip(rows["tokens"], rows["valid"].tolist(), strict=True) for token in row[1:n].tolist()
    ]
    expected = [token for text in texts for token in [*tokenizer.encode(text).tolist(), tokenizer.separator_id]]
    assert stream == expected[: len(stream)] and len(stream) == min(len(expected), 64)
    assert int((~captured(result, 2, "mine")["token_loss/causal"].isnan()).sum()) == len(stream)
