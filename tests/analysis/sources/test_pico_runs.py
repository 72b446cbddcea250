"""Original Pico runs, laid out as pico-train lays them out."""

import math
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from picolm.analysis.opening import open_source
from picolm.analysis.probe import Probe
from picolm.analysis.source import Source
from picolm.analysis.subject import look
from picolm.errors import PicoLMError

from ..conftest import PICO, VOCABULARY, as_one_device_stores, pico_dynamics, write_pico_run

PicoRun = tuple[Path, dict[int, dict[str, Tensor]]]


def opened(pico_run: PicoRun) -> Source:
    return open_source(pico_run[0])


def half_split(weight: Tensor) -> Tensor:
    """Rows 0, 2, 4, 6, then 1, 3, 5, 7 of each head of 8."""
    order = [head * 8 + row for head in range(len(weight) // 8) for row in (0, 2, 4, 6, 1, 3, 5, 7)]
    return weight[order]


def test_weights_wherever_a_step_has_them(pico_run: PicoRun) -> None:
    source, steps = opened(pico_run), pico_run[1]
    assert (source.kind, source.steps, source.capture_steps) == ("original Pico run", (0, 100, 200), (0, 100, 200))
    assert (source.geometry.n_kv_heads, source.geometry.head_dim, source.geometry.rotary_dim) == (2, 8, 8)
    for step, weights in steps.items():
        snapshot = source.snapshot(step)
        found = snapshot.read(snapshot.shapes)
        assert len(found) == len(weights)
        assert torch.equal(found["embedding"], weights["embedding_proj.weight"])
        assert torch.equal(found["unembedding"], weights["de_embedding_proj.weight"])
        at = "layers.1"
        for ours, theirs in (("gate_proj", "w_0"), ("up_proj", "w_1"), ("down_proj", "w_2")):
            assert torch.equal(found[f"{at}.mlp.{ours}"], weights[f"{at}.swiglu.{theirs}.weight"])
        for letter in "vo":
            assert torch.equal(found[f"{at}.attention.{letter}_proj"], weights[f"{at}.attention.{letter}_proj.weight"])
        for letter in "qk":
            stored = weights[f"{at}.attention.{letter}_proj.weight"]
            assert torch.equal(found[f"{at}.attention.{letter}_proj"], half_split(stored))
        assert torch.equal(found[f"{at}.mlp_norm"], weights[f"{at}.swiglu_norm.weight"])


@pytest.mark.parametrize("step", [0, 100, 200])
def test_the_model_is_the_original_one(step: int, pico_run: PicoRun, tokens: Tensor) -> None:
    """Scores of a head by the original's own rule: neighbouring pairs turned as complex numbers."""
    subject, weights = opened(pico_run).snapshot(step).subject(), pico_run[1][step]
    sites = ["layers.0.attention_norm", "layers.0.attention.pattern", "hidden"]
    seen = look(subject, Probe(tokens), activations=sites).activations
    x = seen["layers.0.attention_norm"]
    angles = torch.outer(torch.arange(x.shape[1]), 500.0 ** (-torch.arange(0, 8, 2) / 8))

    def turned(letter: str, head: int) -> Tensor:
        part = x @ weights[f"layers.0.attention.{letter}_proj.weight"][head * 8 : (head + 1) * 8].T
        pairs = torch.view_as_complex(part.reshape(*part.shape[:-1], 4, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    for head in range(6):
        scores = turned("q", head) @ turned("k", head // 3).mT / math.sqrt(8)
        pattern = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(-1)
        torch.testing.assert_close(seen["layers.0.attention.pattern"][:, head], pattern, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(subject.logits(seen["hidden"]), seen["hidden"] @ weights["de_embedding_proj.weight"].T)


@pytest.mark.parametrize("devices", [1, 16])
def test_learning_dynamics_are_what_was_seen(devices: int, tmp_path: Path) -> None:
    """With 10 sequences in forwards of 4, 4 and 2; those of one device are put right."""
    write_pico_run(tmp_path / "run", devices=devices, batch=4, n_rows=10)
    source = open_source(tmp_path / "run")
    capture = source.capture(100)
    assert capture.probes == ("train", "val")
    for probe, seed in (("train", 100), ("val", 101)):
        expected = pico_dynamics(seed, 10)
        names = capture.names("activation", probe)
        assert names == tuple(name.replace("swiglu.w_2", "mlp.down_proj") for name in expected["activations"])
        found = capture.read("activation", names, probe)
        for name, theirs in zip(names, expected["activations"].values(), strict=True):
            assert torch.equal(found[name], theirs[:, None])
        gradients = capture.read("gradient", capture.names("gradient", probe), probe)
        assert torch.equal(gradients["layers.1.mlp.down_proj"], expected["gradients"]["layers.1.swiglu.w_2"])
        assert capture.real(probe).shape == (10, 1) and capture.real(probe).all()
    rows = capture.tokens("train")
    assert rows is not None and rows.shape == (10, 12)
    assert torch.equal(rows, torch.randint(VOCABULARY, (10, 12), generator=torch.Generator().manual_seed(100)))
    assert capture.tokens("val") is None and capture.names("update", None) == ()
    assert any("transposed by mistake" in note for note in capture.notes) == (devices == 1)
    assert any("gradients are sums over forwards" in note for note in capture.notes)


def test_the_scrambling_is_that_of_the_specification() -> None:
    """`x.T.reshape`: rows mix samples and features; with one sequence a forward there is nothing to put right."""
    x = torch.arange(6.0).view(2, 3)
    assert as_one_device_stores(x, 2).tolist() == [[0, 3, 1], [4, 2, 5]]
    assert torch.equal(as_one_device_stores(x, 1), x)


def test_scrambled_activations_need_the_size_of_their_forwards(tmp_path: Path) -> None:
    write_pico_run(tmp_path / "run", devices=1)
    (tmp_path / "run" / "training_config.yaml").unlink()
    shutil.copy(
        tmp_path / "run" / "checkpoints" / "step_0" / "config.json", tmp_path / "run" / "checkpoints" / "step_200"
    )
    capture = open_source(tmp_path / "run").capture(0)
    assert capture.read("gradient", ["layers.0.attention.v_proj"], "val")
    with pytest.raises(PicoLMError, match=r"to put them right, training_config\.yaml must stand in the run"):
        capture.read("activation", ["layers.0.attention.v_proj"], "val")


def test_code_in_learning_dynamics_is_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    write_pico_run(tmp_path / "run", devices=16)
    dynamics = tmp_path / "run" / "checkpoints" / "step_100" / "learning_dynamics"
    trace = tmp_path / "it-ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(trace), "w")

    with zipfile.ZipFile(dynamics / "val_gradients.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"layers.0.attention.v_proj": Attack()}))
    capture = open_source(tmp_path / "run").capture(100)
    with pytest.raises(PicoLMError, match=r"val_gradients\.pt' asks for _?io\.open, which could run code"):
        capture.names("gradient", "val")
    assert not trace.exists()
    assert capture.read("gradient", ["layers.0.attention.v_proj"], "train")


def test_missing_and_damaged_parts_are_named(tmp_path: Path) -> None:
    write_pico_run(tmp_path / "run", devices=16)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "step_300").mkdir()
    for file in (
        checkpoints / "step_100" / "pytorch_model.bin",
        checkpoints / "step_200" / "fabric_state" / "checkpoint.pt",
    ):
        file.write_bytes(file.read_bytes()[:5000])
    (checkpoints / "step_0" / "learning_dynamics" / "val_activations.pt").unlink()
    source = open_source(tmp_path / "run")
    assert source.steps == (0, 100, 200)
    assert [note.split(":")[0] for note in source.notes] == [f"{checkpoints / 'step_300'} is left out"]
    for step in (100, 200):
        with pytest.raises(PicoLMError, match=r"(pytorch_model\.bin|checkpoint\.pt)' is damaged"):
            source.snapshot(step)
    capture = source.capture(0)
    assert capture.names("activation", "val") == () and capture.names("gradient", "val")
    with pytest.raises(PicoLMError, match="has no probe 'vall'; did you mean 'val'"):
        capture.names("activation", "vall")
    with pytest.raises(PicoLMError, match=r"has no activation 'layers\.0\.attention\.v_prj'; did you mean"):
        capture.read("activation", ["layers.0.attention.v_prj"], "train")
    arrow = checkpoints / "step_0" / "learning_dynamics" / "train_data" / "data-00000-of-00001.arrow"
    arrow.write_bytes(b"damaged")
    with pytest.raises(PicoLMError, match=r"arrow' is damaged"):
        capture.tokens("train")


def test_one_original_checkpoint_by_itself(pico_run: PicoRun) -> None:
    source = open_source(pico_run[0] / "checkpoints" / "step_100")
    assert (source.kind, source.steps) == ("model", (100,))
    assert source.geometry.d_model == PICO["d_model"]
