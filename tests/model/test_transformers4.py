"""What PicoLM saves opens in transformers 4.57 as well. That version lives in an interpreter of its own:

make transformers4        or        PICOLM_TRANSFORMERS4_PYTHON=/some/python make test
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from picolm.config import schema
from picolm.model.huggingface import SpecialTokens, save_model
from picolm.model.initialization import build_model
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("PICOLM_TRANSFORMERS4_PYTHON") or PROJECT / ".venv-transformers4" / "bin" / "python")

# Runs there: opens each directory, writes the logits of ids.safetensors and what the tokenizer makes of a text.
SCRIPT = """
import json, sys
from pathlib import Path
import torch, transformers
from safetensors.torch import load_file, save_file
root = Path(sys.argv[1])
transformers.utils.logging.disable_progress_bar()
ids, told = load_file(root / "ids.safetensors")["ids"], {"version": transformers.__version__}
for directory in sorted(path for path in root.iterdir() if path.is_dir()):
    try:
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    except Exception as error:
        told[directory.name] = {"error": f"{type(error).__name__}: {error}"}
        continue
    with torch.no_grad():
        save_file({"logits": model.eval()(ids).logits}, root / f"{directory.name}.safetensors")
    greedy = model.generate(ids[:1, :3], max_new_tokens=5, do_sample=False)
    told[directory.name] = {
        "class": type(model).__name__, "missing": loading["missing_keys"], "unexpected": loading["unexpected_keys"],
        "ids": tokenizer("one two").input_ids, "bos": tokenizer.bos_token_id, "pad": tokenizer.pad_token_id,
        "text": tokenizer.decode(tokenizer("one two").input_ids), "generated": greedy.shape[1],
    }
print(json.dumps(told, default=list))
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {"tied": True},
    "qwen3": {"qk_norm": True},
    "eurobert": {"attention": "bidirectional"},
}
IDS = torch.randint(3, 280, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe(["one two three", "two three four"] * 4, 290)


def model(variant: str) -> Transformer:
    # A rotary base of its own: a reader that falls back to 10000 is found out.
    config = {"vocab_size": 300, "d_model": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 64}
    config |= {"max_length": 64, "rope_theta": 77.0, "init": {"std": 0.2}, **VARIANTS[variant]}
    return build_model(schema.Model.model_validate(config), seed=1).eval()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> tuple[Path, dict[str, Any]]:
    """The folder of logits, and what transformers 4.57 told."""
    if not PYTHON.is_file():
        pytest.skip(f"needs an interpreter with transformers 4.57: {PYTHON} is not there (`make transformers4`)")
    root = tmp_path_factory.mktemp("transformers4")
    save_file({"ids": IDS}, root / "ids.safetensors")
    for variant in VARIANTS:
        (root / variant).mkdir()
        save_model(model(variant), root / variant, SpecialTokens(tokenizer.separator_id, tokenizer.pad_id))
        tokenizer.save(root / variant, 64)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, root], capture_output=True, text=True, check=False, env=environment, cwd=root
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["version"].startswith("4.57."), f"{PYTHON} has transformers {told['version']}"
    return root, told


@pytest.mark.parametrize(
    ("variant", "class_name"),
    [("llama", "LlamaForCausalLM"), ("llama-tied", "LlamaForCausalLM"), ("qwen3", "Qwen3ForCausalLM")],
)
def test_transformers_4_gives_the_same_logits(
    variant: str, class_name: str, opened: tuple[Path, dict[str, Any]], tokenizer: Tokenizer
) -> None:
    root, told = opened
    ours = model(variant)
    with torch.no_grad():
        expected = ours.logits(ours(IDS))
    torch.testing.assert_close(load_file(root / f"{variant}.safetensors")["logits"], expected, rtol=0, atol=1e-5)
    facts = told[variant]
    assert facts["class"] == class_name and facts["generated"] > 3
    assert not facts["missing"] and not facts["unexpected"]
    assert facts["ids"] == tokenizer.encode("one two").tolist() and facts["text"] == "one two"
    assert (facts["bos"], facts["pad"]) == (tokenizer.separator_id, tokenizer.pad_id)


def test_transformers_4_has_no_eurobert_and_says_so(opened: tuple[Path, dict[str, Any]]) -> None:
    # As docs/interchange.md has it: native in version 5 only.
    assert "eurobert" in opened[1]["eurobert"]["error"] and "does not recognize" in opened[1]["eurobert"]["error"]
