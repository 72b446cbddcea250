"""Convergence of whole suites: against a direct computation, at a known step, on suites of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from picolm.analysis.chance import biased_cka_chance
from picolm.analysis.cka import biased_cka, debiased_cka
from picolm.analysis.opening import open_source
from picolm.analysis.probe_text import probe_of_text
from picolm.analysis.rank import proportional_effective_rank
from picolm.analysis.settling_files import refuse_foreign, write
from picolm.analysis.subject import look
from picolm.analysis.tending import converge
from picolm.errors import PicoLMError

Suites = dict[str, tuple[Path, dict[int, nn.Module]]]


@pytest.fixture
def text(corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "probe.txt"
    path.write_text("The cat sat on the mat, and the dog looked at it for a long while. " * 40, encoding="utf-8")
    return path


def direct(run: Path, text: Path, step: int, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """(values through W_O [n, D], W_V head by head through W_O [D, D], its gradient) with no code of the sites."""
    source = open_source(run)
    heads, shared, width = source.geometry.n_heads, source.geometry.n_kv_heads, source.geometry.head_dim
    names = [f"layers.{layer}.attention.{letter}_proj" for letter in "vo"]
    probe = probe_of_text(text, source, rows=4, length=16)
    seen = look(source.snapshot(step).subject(), probe, activations=names[:1], gradients=names)
    weights = source.snapshot(step).read(names)
    values, (v, o) = seen.activations[names[0]].flatten(0, 1).double(), (weights[name].double() for name in names)
    dv, do = (seen.gradients[name].double() for name in names)
    out, circuit, gradient = 0.0, 0.0, 0.0
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        group = slice(head // (heads // shared) * width, (head // (heads // shared) + 1) * width)
        out = out + values[:, group] @ o[:, own].T
        circuit = circuit + o[:, own] @ v[group]
        gradient = gradient + do[:, own] @ v[group] + o[:, own] @ dv[group]
    return torch.as_tensor(out), torch.as_tensor(circuit), torch.as_tensor(gradient)


def per_of(matrix: Tensor, rank: int) -> float:
    singular = torch.linalg.svdvals(matrix)[:rank]
    shares = singular / singular.sum()
    return float(torch.special.entr(shares).sum().exp() / rank)


def test_a_run_equals_a_direct_computation(run: Path, text: Path, tmp_path: Path) -> None:
    found = converge([run], probe=text, probe_rows=4, probe_length=16, output=tmp_path / "out")
    suite = found.suites[0]
    assert suite.facts["tokens"] == 64 and suite.facts["final_step"] == 8
    for layer in range(2):
        final = direct(run, text, 8, layer)[0]
        for step in (0, 4, 8):
            seen, circuit, gradient = direct(run, text, step, layer)
            row = suite.curves.row(by_predicate=_place("ov", layer, step), named=True)
            assert row["cka"] == pytest.approx(float(debiased_cka(seen, final)), abs=1e-5)
            assert row["biased_cka"] == pytest.approx(float(biased_cka(seen, final)), abs=1e-5)
            assert row["biased_cka_chance"] == pytest.approx(float(biased_cka_chance(seen, final)), abs=1e-5)
            # Two value heads of eight: the layer's product has rank 16, its gradient 32.
            assert row["per"] == pytest.approx(per_of(circuit, 16), abs=1e-5)
            assert row["gradient_per"] == pytest.approx(per_of(gradient, 32), abs=1e-4)
    # Untrained, the weights are noise.
    first = suite.layers["weight_rank_first"].to_list()
    assert first == pytest.approx([1.0] * len(first), abs=0.06)


def test_recipes_agree_where_they_measure_the_same(run: Path, text: Path, tmp_path: Path) -> None:
    asked = {"probe": text, "probe_rows": 4, "probe_length": 16, "output": tmp_path / "out"}
    corrected = converge([run], **asked).curves
    published = converge([run], recipe_name="published", **asked)
    for name in ("biased_cka", "biased_cka_chance", "biased_cka_above_chance", "per"):
        assert published.curves[name].to_list() == pytest.approx(corrected[name].to_list(), abs=1e-12)
    assert published.suites[0].facts["rank"] == "per_top_8" and published.suites[0].facts["early_step"] == 0
    # In a matrix of more singular values than a head is wide, the published figure sees the largest only.
    down = open_source(run).snapshot(8).read(["layers.1.mlp.down_proj"])["layers.1.mlp.down_proj"]
    row = published.curves.row(by_predicate=_place("mlp", 1, 8), named=True)
    assert row["per_top_8"] == pytest.approx(float(proportional_effective_rank(down, top=8)), abs=1e-6)
    assert row["per_top_8"] > row["per"]


def test_a_suite_that_is_moved_to_its_end_settles_when_it_is_there(
    neox_suites: Suites, text: Path, run: Path, tmp_path: Path
) -> None:
    # Between two models on a straight line; from step 300 on it is at its end.
    suite = tmp_path / "line"
    begin, end = (neox_suites["small"][0] / step / "model.safetensors" for step in ("step0", "step1000"))
    weights, last = load_file(begin), load_file(end)
    noise = {
        name: torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3)) for name, tensor in last.items()
    }
    for step in (0, 100, 200, 300, 400, 500):
        share = min(step / 300, 1.0)
        mixed = {name: (1 - share) * (weights[name] + noise[name]) + share * last[name] for name in last}
        (suite / f"step{step}").mkdir(parents=True)
        save_file(mixed, suite / f"step{step}" / "model.safetensors", metadata={"format": "pt"})
        (suite / f"step{step}" / "config.json").write_bytes((begin.parent / "config.json").read_bytes())
        _tokenizer(run, suite / f"step{step}")
    found = converge([suite], probe=text, probe_rows=8, probe_length=16, output=tmp_path / "out", level=0.9999)
    layers = found.layers.filter(part="ov")
    assert layers["settled_by"].to_list() == [300.0] * 3 and layers["settled_after"].to_list() == [200.0] * 3
    assert found.suites[0].facts["parameters"] == sum(
        tensor.numel() for name, tensor in last.items() if ".layers." in name and "inv_freq" not in name
    )


def _tokenizer(run: Path, folder: Path) -> None:
    """A tokenizer of as few tokens as the suite's models know."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    letters = {letter: number for number, letter in enumerate("?abcdefghijklmnopqrstuvwxyz ,.T", start=1)}
    tokenizer = Tokenizer(models.WordLevel({"</s>": 0, **letters}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))


def test_an_original_run_is_read_from_what_it_captured(
    pico_run: tuple[Path, dict[int, dict[str, Tensor]]], tmp_path: Path
) -> None:
    found = converge([pico_run[0]], output=tmp_path / "out")
    suite = found.suites[0]
    assert suite.facts["tokens"] is None and suite.facts["final_step"] == 200
    assert set(suite.layers["part"]) == {"ov", "mlp"} and len(suite.layers) == 4
    # Activations were drawn anew for each step: nothing is alike, and the biased figure shows its floor.
    before = suite.curves.filter(step=100, part="mlp")
    assert before["cka"].abs().max() < 0.6
    assert (before["biased_cka_chance"] > 0.7).all()
    assert not suite.layers["settled_step"].is_not_null().any()
    assert suite.layers["gradient_rank_last"].is_not_null().all()


def test_suites_are_set_side_by_side_by_size(
    run: Path, pico_run: tuple[Path, dict[int, dict[str, Tensor]]], tmp_path: Path
) -> None:
    sizes = converge([pico_run[0], run], output=tmp_path / "out").sizes
    assert sizes["parameters"].is_sorted() and set(sizes["suite"]) == {"looked-at", "demo"}
    # What could not be had of the run's captures is said, and the probe that was shown at both steps is taken.
    suite = converge([run], output=tmp_path / "out").suites[0]
    ov, mlp, probe = suite.notes
    assert "no gradients of ov" in ov and "layers.*.mlp.down_proj were captured" in mlp and "held_out is taken" in probe
    assert set(suite.layers["part"]) == {"ov"} and suite.layers["gradient_rank_last"].null_count() == 2


def test_files_of_others_are_not_overwritten(run: Path, tmp_path: Path) -> None:
    found = converge([run], output=tmp_path / "out")
    folder = tmp_path / "tables"
    summary, layers, curves = write(found, folder)
    assert json.loads(summary.read_text())["suites"][0]["name"] == "looked-at"
    assert layers.read_text().splitlines()[0].startswith("suite,part,layer,") and curves.is_file()
    write(found, folder)
    with pytest.raises(PicoLMError, match=r"is of other targets .*looked-at.*choose another --output"):
        refuse_foreign(folder, "corrected", [tmp_path / "another"])
    refuse_foreign(folder, "published", [tmp_path / "another"])
    (folder / "published-layers.csv").write_text("mine")
    with pytest.raises(PicoLMError, match="was not written by picolm converge"):
        refuse_foreign(folder, "published", [run])


def test_mistakes_are_named_before_anything_is_measured(neox_suites: Suites, run: Path, tmp_path: Path) -> None:
    asked: dict[str, Callable[[], object]] = {
        "there is no recipe 'publishd'; did you mean 'published'": lambda: converge([run], recipe_name="publishd"),
        "level of similarity must be above 0": lambda: converge([run], level=1.5),
        "have the same name 'looked-at'": lambda: converge([run, run], output=tmp_path),
        "name a text to compute them on, --probe FILE": lambda: converge([neox_suites["small"][0]], output=tmp_path),
    }
    for message, call in asked.items():
        with pytest.raises(PicoLMError, match=message):
            call()
    assert not list(tmp_path.iterdir())


def _place(part: str, layer: int, step: int) -> pl.Expr:
    return (pl.col("part") == part) & (pl.col("layer") == layer) & (pl.col("step") == step)
