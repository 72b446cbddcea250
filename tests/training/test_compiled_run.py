"""Compiled runs, each compared with itself: they repeat bit for bit and are eager runs up to rounding."""

from pathlib import Path

import pytest
import torch

import picolm
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.compilation import compile_blocks
from picolm.model.initialization import build_model


@pytest.mark.slow
# Dynamo looks at tensors in ways that PyTorch warns about.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("changes", [{}, {"training.precision": "bf16"}, {"model.dropout": 0.1}])
def test_compiled_runs_repeat_bit_for_bit_and_equal_eager_ones_up_to_rounding(
    small_run: dict[str, object], tmp_path: Path, changes: dict[str, object]
) -> None:
    runs = {}
    for name, compiled in (("first", True), ("second", True), ("eager", False)):
        torch._dynamo.reset()
        config = picolm.load_config(None, {**small_run, **changes, "training.compile": compiled})
        run = picolm.train(config, name=name, runs_dir=tmp_path)
        losses = [line["loss"] for line in run.log if line["event"] == "train"]
        runs[name] = ((run.checkpoints[-1].path / "model.safetensors").read_bytes(), run.log_path.read_bytes(), losses)
    assert runs["first"][:2] == runs["second"][:2]
    if "model.dropout" not in changes:
        tolerance = 2e-2 if changes else 1e-4
        assert runs["first"][2] == pytest.approx(runs["eager"][2], rel=tolerance)


def test_compiling_keeps_the_names_and_the_eager_twin() -> None:
    config = schema.Model(vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=12)
    model, plain = build_model(config, 0), build_model(config, 0)
    compile_blocks(model.layers)
    assert list(model.state_dict()) == list(plain.state_dict())
    tokens = torch.arange(12).view(1, 12)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        assert torch.equal(model(tokens), plain(tokens))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PicoLMError, match="needs a C\\+\\+ compiler"):
        compile_blocks(torch.nn.ModuleList())
