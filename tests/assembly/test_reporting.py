"""What is computed for a page from checkpoints and captures, beside what direct computation gives."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import picolm
from picolm.analysis.cka import debiased_cka
from picolm.assembly import spectra
from picolm.assembly.reporting import look_inside, look_inside_each, report
from picolm.errors import PicoLMError
from picolm.report.insides import Insides
from picolm.runs.captures import capture_path
from picolm.runs.directory import RunDirectory

CAPTURES = (0, 4, 8, 12)
CAPTURED: dict[str, object] = {
    "capture.at": list(CAPTURES),
    "capture.activations": ["residual.*", "layers.*.attention.pattern"],
    "capture.positions": "all",
    "capture.probes": {"held_out": {"sequences": 3}},
    "checkpoints.model.at": [0, 6],
}


@pytest.fixture
def run(small_run: dict[str, object], tmp_path: Path) -> RunDirectory:
    return picolm.train(picolm.load_config(None, {**small_run, **CAPTURED}), name="seen", runs_dir=tmp_path / "runs")


def test_likeness_is_the_cka_of_the_captured_activations(run: RunDirectory) -> None:
    found = {one.site: one for one in look_inside(run).likeness}
    assert list(found) == ["residual.0", "residual.1", "residual.2"]
    probe = load_file(run.path / "captures" / "probes" / "held_out.safetensors")
    captured = [load_file(capture_path(run.path, step) / "held_out.safetensors") for step in CAPTURES]
    length = captured[0]["activation/residual.2"].shape[1]
    real = torch.arange(length) < probe["valid"][:, None]
    rows = [one["activation/residual.2"][real] for one in captured]
    expected = [[float(debiased_cka(a, b)) for b in rows] for a in rows]
    assert found["residual.2"].steps == list(CAPTURES)
    assert np.allclose(np.array(found["residual.2"].values, dtype=float), expected, atol=1e-9)


def test_spectra_are_the_singular_values_of_the_weights(run: RunDirectory) -> None:
    found = {one.site: one for one in look_inside(run).spectra}
    one = found["layers.1.mlp.down_proj"]
    assert one.steps == [0, 4, 6, 8, 12], "each captured step has its checkpoint too"
    for step, values in zip(one.steps, one.values, strict=True):
        weights = load_file(run.checkpoint_path(step) / "model.safetensors")
        matrix = next(tensor for name, tensor in weights.items() if name.endswith("layers.1.mlp.down_proj.weight"))
        assert values == pytest.approx(np.linalg.svd(matrix.double().numpy(), compute_uv=False).tolist(), rel=1e-9)


def test_pictures_are_the_captured_patterns(run: RunDirectory) -> None:
    pictures = look_inside(run).pictures
    assert [(one.layer, one.head) for one in pictures] == [(layer, head) for layer in (0, 1) for head in range(4)]
    captured = load_file(capture_path(run.path, 12) / "held_out.safetensors")
    pattern = captured["activation/layers.1.attention.pattern"][0, 2].double().numpy()
    shown = next(one for one in pictures if (one.layer, one.head) == (1, 2))
    assert shown.step == 12
    assert np.array_equal(np.array(shown.values, dtype=float), pattern[:32, :32])
    assert len(set(shown.keys)) == len(shown.keys), "a token that comes twice has two names"


def twin(run: RunDirectory, name: str, small_run: dict[str, object], **changed: object) -> RunDirectory:
    """A run like another but for some keys."""
    config = {**small_run, **CAPTURED, **changed}
    return picolm.train(picolm.load_config(None, config), name=name, runs_dir=run.path.parent)


def test_kinship_is_the_cka_of_two_runs_at_equal_steps(run: RunDirectory, small_run: dict[str, object]) -> None:
    other = twin(run, "other", small_run, **{"seeds.init": 5, "capture.at": [0, 4, 12]})
    compared = look_inside_each([run, other])
    found = {one.site: one for one in compared.kinships}
    assert list(found) == ["residual.0", "residual.1", "residual.2"]
    probe = load_file(run.path / "captures" / "probes" / "held_out.safetensors")
    for one in found.values():
        assert (one.steps, one.runs) == ([0, 4, 12], (0, 1))
        for step, value in zip(one.steps, one.values, strict=True):
            ours, theirs = (
                load_file(capture_path(each.path, step) / "held_out.safetensors")[f"activation/{one.site}"]
                for each in (run, other)
            )
            real = torch.arange(ours.shape[1]) < probe["valid"][:, None]
            assert value == pytest.approx(float(debiased_cka(ours[real], theirs[real])), abs=1e-9)
    shared = compared.of_runs[0].spectra[0].steps
    assert shared == compared.of_runs[1].spectra[0].steps, "the steps that both have"


def test_a_run_is_its_own_twin(run: RunDirectory) -> None:
    copy = run.path.parent / "copy"
    shutil.copytree(run.path, copy)
    compared = look_inside_each([run, RunDirectory.open(copy)])
    assert [value for one in compared.kinships for value in one.values] == pytest.approx([1.0] * 12)


@pytest.mark.parametrize("changed", [{"capture.probes": {"held_out": {"sequences": 2}}}, {"capture.positions": [1, 2]}])
def test_runs_that_were_shown_other_rows_are_not_compared(
    run: RunDirectory, small_run: dict[str, object], changed: dict[str, object]
) -> None:
    # Attention patterns need all positions.
    other = twin(run, "other", small_run, **{"capture.activations": ["residual.*"], **changed})
    assert look_inside_each([run, other]).kinships == []


def test_what_is_damaged_of_one_run_does_not_harm_the_others(run: RunDirectory) -> None:
    copy = run.path.parent / "copy"
    shutil.copytree(run.path, copy)
    (capture_path(copy, 12) / "held_out.safetensors").unlink()
    compared = look_inside_each([run, RunDirectory.open(copy)])
    whole, harmed = compared.of_runs
    assert whole.likeness[0].steps == [0, 4, 8, 12]
    assert harmed.likeness[0].steps == compared.kinships[0].steps == [0, 4, 8]
    assert any("step-00000012 is left out" in note and "held_out.safetensors" in note for note in harmed.notes)
    assert not any("left out" in note for note in whole.notes)


def test_what_is_too_large_is_left_out_and_named(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "_MOST_WORK", 32 * 32 * 32)
    insides = look_inside(run)
    assert [one.site for one in insides.spectra] == ["layers.0.attention.o_proj", "layers.1.attention.o_proj"]
    assert any("layers.0.mlp.down_proj, layers.1.mlp.down_proj are left out" in note for note in insides.notes)


def test_a_damaged_capture_is_named_and_does_no_further_harm(run: RunDirectory) -> None:
    (capture_path(run.path, 12) / "held_out.safetensors").unlink()
    insides = look_inside(run)
    assert insides.likeness[0].steps == [0, 4, 8] and insides.pictures
    assert insides.spectra[0].steps[-1] == 12
    assert any("step-00000012 is left out" in note and "held_out.safetensors" in note for note in insides.notes)


def test_a_capture_whose_bytes_are_no_tensors_leaves_out_what_needs_it(run: RunDirectory) -> None:
    file = capture_path(run.path, 12) / "held_out.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    insides = look_inside(run)
    assert insides.likeness == insides.pictures == []
    assert insides.spectra
    assert any("held_out.safetensors" in note for note in insides.notes)


def test_run_without_checkpoints_has_nothing_inside(tmp_path: Path) -> None:
    assert look_inside(RunDirectory.create(tmp_path / "fresh", {})) == Insides()


def test_report_writes_page_and_figures_of_one_run_and_of_several(run: RunDirectory, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(*what: Any) -> None:
        told.append(what)

    page = report([run.path], figures=tmp_path / "figures", progress=tell)
    assert page == run.path / "report.html"
    for part in ("CKA of each step with each", "Singular values over time", "Attention"):
        assert part in page.read_text()
    assert {"cka-residual-2.svg", "spectra-layers-0-attention-o_proj.png", "loss-linear-steps.svg"} <= {
        path.name for path in (tmp_path / "figures").iterdir()
    }
    assert {what.partition(", ")[2] for what, done, total in told if done == total} == {
        *("CKA of steps", "spectra", "attention", "PNG and SVG")
    }
    other = RunDirectory.create(tmp_path / "other", {"config": {}})
    both = report([run.path, other.path], out=tmp_path / "both.html")
    assert "Comparison of runs" in both.read_text()


def test_a_run_that_is_not_there_is_named(run: RunDirectory) -> None:
    with pytest.raises(PicoLMError, match=r"there is no run .*sen; did you mean 'seen'"):
        report([run.path.parent / "sen"])
