"""Measuring: every value equals what plain numpy, or a forward pass of the model, gives for files read by hand."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from picolm.analysis.attention import attention_entropy, sink_mass
from picolm.analysis.cka import debiased_cka
from picolm.analysis.opening import open_source
from picolm.analysis.probe import Probe
from picolm.analysis.subject import look
from picolm.analysis.table import measure
from picolm.errors import PicoLMError

Cell = tuple[int, str, str, int | None, str | None]


def cells(table: Any) -> dict[Cell, float]:
    """Values by step, metric, site, head and probe, each there once."""
    found = {
        (row["step"], row["metric"], row["site"], row["head"], row["probe"]): row["value"] for row in table.to_dicts()
    }
    assert len(found) == table.height
    return found


def effective_rank(matrix: Tensor) -> float:
    """exp of the entropy of singular values, from the matrix itself."""
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    shares = values[values > values[0] * 1e-12] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def weights_of(run: Path, step: int) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def ov(weights: dict[str, Tensor], layer: int, head: int) -> Tensor:
    """D x D, by hand: 4 heads of 8, two for each value head."""
    at = f"model.layers.{layer}.self_attn"
    value = weights[f"{at}.v_proj.weight"][8 * (head // 2) : 8 * (head // 2 + 1)]
    return weights[f"{at}.o_proj.weight"][:, 8 * head : 8 * (head + 1)].double() @ value.double()


def test_weights_circuits_and_updates_equal_numpy(run: Path) -> None:
    sites = ["layers.*.mlp.down_proj", "layers.*.attention.ov.*", "delta(layers.0.attention.o_proj; previous)"]
    found = cells(measure(run, metrics=["effective_rank", "frobenius_norm", "max_abs"], sites=sites, keep=False))
    before: Tensor | None = None
    for step in (0, 4, 8):
        weights = weights_of(run, step)
        for layer in range(2):
            down = weights[f"model.layers.{layer}.mlp.down_proj.weight"]
            expected = {(f"layers.{layer}.mlp.down_proj", None): down}
            expected |= {(f"layers.{layer}.attention.ov.{head}", head): ov(weights, layer, head) for head in range(4)}
            for (site, head), matrix in expected.items():
                own = [
                    found.pop((step, name, site, head, None))
                    for name in ("effective_rank", "frobenius_norm", "max_abs")
                ]
                reference = [effective_rank(matrix), np.linalg.norm(matrix.numpy()), np.abs(matrix.numpy()).max()]
                assert own == pytest.approx(reference, rel=1e-6)
        output = weights["model.layers.0.self_attn.o_proj.weight"]
        if before is not None:
            label = "delta(layers.0.attention.o_proj; previous, t)"
            own = [
                found.pop((step, name, label, None, None)) for name in ("effective_rank", "frobenius_norm", "max_abs")
            ]
            change = output.double() - before.double()
            assert own == pytest.approx(
                [effective_rank(change), change.norm().item(), change.abs().max().item()], rel=1e-4
            )
        before = output
    assert not found


def test_pairs_of_matrices_say_what_they_are_compared_with(run: Path) -> None:
    table = measure(
        run, metrics=["relative_change", "stable_rank"], sites=["embedding"], against="previous", keep=False
    )
    rows = {(row["step"], row["metric"]): row for row in table.to_dicts()}
    assert rows.keys() == {(step, "stable_rank") for step in (0, 4, 8)} | {
        (4, "relative_change"),
        (8, "relative_change"),
    }
    first, second = (weights_of(run, step)["model.embed_tokens.weight"].double() for step in (4, 8))
    assert rows[8, "relative_change"]["value"] == pytest.approx(
        ((second - first).norm() / first.norm()).item(), rel=1e-5
    )
    assert [rows[at, "relative_change"]["against"] for at in (4, 8)] == ["step 0", "step 4"]
    assert rows[8, "stable_rank"]["against"] is None


def test_captured_activations_equal_a_forward(run: Path) -> None:
    metrics = ["cka", "attention_entropy", "sink_mass"]
    table = measure(run, metrics=metrics, sites=["residual.*", "layers.*.attention.pattern"], keep=False)
    found = cells(table)
    source = open_source(run)
    probe = source.probe("held_out")
    assert probe is not None
    sites = ["residual.2", "layers.1.attention.pattern"]
    seen = {step: look(source.snapshot(step).subject(), probe, activations=sites).activations for step in (4, 8)}
    first, last = (seen[step]["residual.2"][probe.real] for step in (4, 8))
    assert found[4, "cka", "residual.2", None, "held_out"] == pytest.approx(debiased_cka(first, last).item(), abs=1e-5)
    assert found[8, "cka", "residual.2", None, "held_out"] == pytest.approx(1.0)
    # The batches of step 4 and 8 hold other texts: nothing to compare.
    assert not any(step == 4 and name == "cka" and shown == "train" for step, name, _, _, shown in found)
    rows = {(row["step"], row["metric"]): row["against"] for row in table.to_dicts() if row["site"] == "residual.2"}
    assert rows[4, "cka"] == "step 8"
    # Rows are of unequal length: each query counts once, wherever it stands.
    pattern, queries = seen[4]["layers.1.attention.pattern"], []
    for row, real in zip(pattern, probe.real, strict=True):
        length = int(real.sum())
        values = row[:, :length, :length]
        entropy = -(values * values.clamp(min=1e-30).log()).sum(-1)
        queries.append((entropy[:, 1:], values[:, 1:, 0]))
    for head in range(4):
        entropies = torch.cat([entropy[head] for entropy, _ in queries])
        sinks = torch.cat([sink[head] for _, sink in queries])
        place = ("layers.1.attention.pattern", head, "held_out")
        assert found[(4, "attention_entropy.raw", *place)] == pytest.approx(entropies.mean().item(), abs=1e-4)
        assert found[(4, "sink_mass", *place)] == pytest.approx(sinks.mean().item(), abs=1e-4)


def test_runs_that_were_shown_other_text_are_not_compared(run: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(run, tmp_path / "twin"))
    asked = {"metrics": ["cka"], "sites": ["residual.2"], "against": str(twin), "keep": False}
    same = {row["probe"]: row["value"] for row in measure(run, steps="last", **asked).to_dicts()}
    assert same == {"held_out": pytest.approx(1.0), "train": pytest.approx(1.0)}
    probe = twin / "captures" / "probes" / "held_out.safetensors"
    rows = load_file(probe)
    save_file({**rows, "tokens": rows["tokens"].flip(0).contiguous()}, probe)
    assert {row["probe"] for row in measure(run, steps="last", **asked).to_dicts()} == {"train"}


def test_gradients_that_are_made_together_are_those_made_alone(run: Path) -> None:
    kinds = {name: f"gradient(layers.*.attention.{name})" for name in ("q_proj", "o_proj", "ov.*")}
    asked = {"probe": "held_out", "steps": "last", "keep": False}
    both = ["frobenius_norm", "noise_scale"]
    together = cells(measure(run, metrics=both, sites=list(kinds.values()), **asked))
    alone: dict[Cell, float] = {}
    for name, site in kinds.items():
        alone |= cells(measure(run, metrics=both[:1] if name == "ov.*" else both, sites=[site], **asked))
    assert together.keys() == alone.keys() and len(together) >= 12
    assert all(value == pytest.approx(alone[place], rel=1e-9) for place, value in together.items())


def test_what_is_computed_on_the_runs_probe_equals_what_was_captured(run: Path) -> None:
    asked = {"metrics": ["rank_me", "frobenius_norm"], "keep": False,
             "sites": ["layers.*.attention.v_proj", "gradient(layers.*.attention.o_proj)"]}  # fmt: skip
    computed, captured = (cells(measure(run, probe=probe, **asked)) for probe in ("held_out", None))
    assert {step for step, *_ in computed} == {0, 4, 8}
    assert {step for step, _, site, _, shown in captured if shown == "held_out" and "gradient" in site} == {4, 8}
    for place, value in captured.items():
        if place[-1] == "held_out":
            assert computed[place] == pytest.approx(value, rel=1e-3)


def test_noise_of_gradients_is_that_of_single_rows(run: Path) -> None:
    asked = {
        "metrics": ["noise_scale"],
        "sites": ["gradient(layers.0.attention.v_proj)"],
        "steps": "last",
        "keep": False,
    }
    found = {row["metric"]: row["value"] for row in measure(run, probe="held_out", **asked).to_dicts()}
    source = open_source(run)
    probe, subject, name = source.probe("held_out"), source.snapshot(8).subject(), "layers.0.attention.v_proj"
    assert probe is not None
    single = [look(subject, probe.rows(slice(at, at + 1)), gradients=[name]).gradients[name] for at in range(3)]
    rows = torch.stack([gradient.flatten().double() for gradient in single])
    trace = ((rows - rows.mean(0)) ** 2).sum() / 2
    assert found["noise_scale.trace"] == pytest.approx(trace.item(), rel=1e-4)
    with pytest.raises(PicoLMError, match=r"no gradients? of|no gradients of single rows"):
        measure(run, **(asked | {"sites": ["gradient(layers.0.attention.o_proj)"]}))


def test_an_original_pico_run(pico_run: tuple[Path, dict[int, dict[str, Tensor]]]) -> None:
    path, steps = pico_run
    sites = ["layers.0.attention.ov.*", "unembedding", "layers.*.attention.o_proj"]
    found = cells(measure(path, metrics=["effective_rank", "rank_me"], sites=sites, keep=False))
    for step, weights in steps.items():
        matrix = weights["de_embedding_proj.weight"]
        assert found[step, "effective_rank", "unembedding", None, None] == pytest.approx(
            effective_rank(matrix), rel=1e-6
        )
        for head in (0, 5):
            value = weights["layers.0.attention.v_proj.weight"][8 * (head // 3) : 8 * (head // 3 + 1)].double()
            circuit = weights["layers.0.attention.o_proj.weight"][:, 8 * head : 8 * (head + 1)].double() @ value
            own = found[step, "effective_rank", f"layers.0.attention.ov.{head}", head, None]
            assert own == pytest.approx(effective_rank(circuit), rel=1e-6)
    assert {shown for _, name, _, _, shown in found if name == "rank_me"} == {"train", "val"}


def test_a_suite_of_another_architecture(neox_suites: dict[str, tuple[Path, dict[int, nn.Module]]]) -> None:
    path, models = neox_suites["small"]
    found = cells(
        measure(path, metrics=["effective_rank", "stable_rank"], sites=["layers.*.attention.ov.*"], keep=False)
    )
    for step, model in models.items():
        state = model.state_dict()
        for layer, head in ((0, 0), (2, 3)):
            at = f"gpt_neox.layers.{layer}.attention"
            # [q | k | v] of 8 rows each, head by head.
            value = state[f"{at}.query_key_value.weight"][24 * head + 16 : 24 * (head + 1)]
            circuit = state[f"{at}.dense.weight"][:, 8 * head : 8 * (head + 1)].double() @ value.double()
            own = found[step, "effective_rank", f"layers.{layer}.attention.ov.{head}", head, None]
            assert own == pytest.approx(effective_rank(circuit), rel=1e-6)
            norms = np.linalg.svd(circuit.numpy(), compute_uv=False) ** 2
            own = found[step, "stable_rank", f"layers.{layer}.attention.ov.{head}", head, None]
            assert own == pytest.approx(norms.sum() / norms[0], rel=1e-6)


def test_another_suite_is_compared_step_by_step(
    neox_suites: dict[str, tuple[Path, dict[int, nn.Module]]], run: Path
) -> None:
    (path, models), (other, others) = neox_suites["small"], neox_suites["large"]
    found = measure(
        path, metrics=["update_cosine"], sites=["embedding"], against=str(other), steps=[0, 512], keep=False
    )
    rows = {row["step"]: row for row in found.to_dicts()}
    assert [rows[step]["against"] for step in (0, 512)] == ["large step 0", "large step 512"]
    for step in (0, 512):
        pair = [suite[step].state_dict()["gpt_neox.embed_in.weight"].flatten().double() for suite in (models, others)]
        assert rows[step]["value"] == pytest.approx(torch.cosine_similarity(*pair, dim=0).item(), abs=1e-6)
    with pytest.raises(PicoLMError, match="model of another shape"):
        measure(path, metrics=["update_cosine"], sites=["embedding"], against=str(run), keep=False)


def test_patterns_without_padding_are_the_metrics_own() -> None:
    from picolm.analysis.measure import _of_pattern
    from picolm.analysis.metric import metric
    from picolm.analysis.sights import Sight

    pattern = torch.rand(3, 2, 5, 5, generator=torch.Generator().manual_seed(0)).tril()
    pattern /= pattern.sum(-1, keepdim=True)
    sight = Sight({}, {}, torch.ones(3, 5, dtype=torch.bool), None, None)
    found = _of_pattern(metric("attention_entropy"), pattern, sight, True)
    assert isinstance(found, dict)
    torch.testing.assert_close(found["raw"], attention_entropy(pattern)["raw"].mean(0))
    assert math.isclose(
        float(_of_pattern(metric("sink_mass"), pattern, sight, True)[0]), float(sink_mass(pattern).mean(0)[0])
    )


def test_probes_of_text_are_cut_into_whole_rows(run: Path, tmp_path: Path) -> None:
    from picolm.analysis.probe_text import probe_of_text
    from picolm.text.tokenizer import Tokenizer

    source, text = open_source(run), tmp_path / "text.txt"
    text.write_text("one two three four five six seven " * 40)
    assert source.tokenizer is not None
    ids = Tokenizer.load(source.tokenizer).encode(text.read_text())
    probe = probe_of_text(text, source, rows=3, length=9)
    assert torch.equal(probe.input_ids.flatten(), torch.from_numpy(ids[:30].reshape(3, 10)[:, :9].flatten()))
    assert isinstance(probe, Probe) and probe.targets is not None
    assert torch.equal(probe.targets[:, -1], torch.from_numpy(ids[:30].reshape(3, 10)[:, 9].copy()))
    (tmp_path / "short.txt").write_text("a")
    with pytest.raises(PicoLMError, match=r"short.txt has \d tokens"):
        probe_of_text(tmp_path / "short.txt", source)
