"""Suites on disk to read: made with transformers, laid out as pico-train lays them out, or trained here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import picolm

VOCABULARY, LENGTH, ROWS = 61, 11, 5
NARROW = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA = {**NARROW, "num_key_value_heads": 2, "intermediate_size": 40, "max_position_embeddings": 64}
# Class, configuration. Widths differ from each other wherever they can, so that no transposition goes unseen.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": ("GPTNeoXForCausalLM", {**NARROW, "intermediate_size": 56, "max_position_embeddings": 64}),
    "gpt_neox_sequential": (
        "GPTNeoXForCausalLM",
        {**NARROW, "intermediate_size": 56, "use_parallel_residual": False, "rotary_pct": 0.5},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 56, "n_positions": 64},
    ),
    "bert": ("BertForMaskedLM", {**NARROW, "intermediate_size": 56, "max_position_embeddings": 64}),
    "bert_decoder": (
        "BertLMHeadModel",
        {**NARROW, "intermediate_size": 56, "max_position_embeddings": 64, "is_decoder": True},
    ),
    "roberta": ("RobertaForMaskedLM", {**NARROW, "intermediate_size": 56, "max_position_embeddings": 64}),
    "llama": ("LlamaForCausalLM", LLAMA),
    "llama_biased": ("LlamaForCausalLM", {**LLAMA, "attention_bias": True, "tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", {**LLAMA, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", {**LLAMA, "head_dim": 16}),
    "qwen3_square": ("Qwen3ForCausalLM", {**LLAMA, "head_dim": 8}),
    "eurobert": ("EuroBertForMaskedLM", LLAMA),
}


def build(name: str, seed: int = 0) -> nn.Module:
    """A model of transformers whose biases and norms differ from what they begin with."""
    import transformers

    class_name, values = ARCHITECTURES[name]
    kind = getattr(transformers, class_name)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = kind._from_config(kind.config_class(**values, **special), attn_implementation="eager")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
    return model.eval()


def perturbed(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="session")
def tokens() -> Tensor:
    """Rows of tokens [R, T + 1], none of them a padding token."""
    return torch.randint(2, VOCABULARY, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, nn.Module]]:
    """A model directory that transformers wrote, and the model that it holds, by the name of an architecture."""
    made: dict[str, tuple[Path, nn.Module]] = {}

    def get(name: str) -> tuple[Path, nn.Module]:
        if name not in made:
            path, model = tmp_path_factory.mktemp("models") / name, build(name)
            model.save_pretrained(path)  # type: ignore[operator]
            made[name] = path, model
        return made[name]

    return get


@pytest.fixture(scope="session")
def neox_suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[int, nn.Module]]]:
    """Two sizes of GPT-NeoX, four step folders each, the weights of each step other ones; the larger one in shards."""
    import copy

    suites: dict[str, tuple[Path, dict[int, nn.Module]]] = {}
    for size, name, shard in (("small", "gpt_neox", "10GB"), ("large", "gpt_neox_sequential", "30KB")):
        root, model, models = tmp_path_factory.mktemp("suites") / size, build(name), dict[int, nn.Module]()
        for step in (0, 1, 512, 1000):
            perturbed(model, step)
            model.save_pretrained(root / f"step{step}", max_shard_size=shard)  # type: ignore[operator]
            models[step] = copy.deepcopy(model)
        suites[size] = root, models
    return suites


PICO = {
    "model_type": "pico_decoder",
    "d_model": 48,
    "n_layers": 2,
    "vocab_size": VOCABULARY,
    "batch_size": 1024,
    "max_seq_len": 64,
    "attention_n_heads": 6,
    "attention_n_kv_heads": 2,
    "activation_hidden_dim": 96,
    "norm_eps": 1e-6,
    "position_emb_theta": 500.0,
}


def pico_weights(seed: int) -> dict[str, Tensor]:
    """Parameters of an original Pico model by its own names, without a prefix."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    weights = {"embedding_proj.weight": drawn(VOCABULARY, 48), "output_norm.weight": 1 + drawn(48)}
    for layer in range(2):
        at = f"layers.{layer}"
        weights |= {f"{at}.attention.{letter}_proj.weight": drawn(48, 48) for letter in "qo"}
        weights |= {f"{at}.attention.{letter}_proj.weight": drawn(16, 48) for letter in "kv"}
        weights |= {f"{at}.swiglu.w_0.weight": drawn(96, 48), f"{at}.swiglu.w_1.weight": drawn(96, 48)}
        weights |= {f"{at}.swiglu.w_2.weight": drawn(48, 96)}
        weights |= {f"{at}.{norm}_norm.weight": 1 + drawn(48) for norm in ("attention", "swiglu")}
    return weights | {"de_embedding_proj.weight": drawn(VOCABULARY, 48)}


def pico_dynamics(seed: int, n_rows: int) -> dict[str, dict[str, Tensor]]:
    """What learning dynamics hold, before pico-train's way of joining: by file, by module without a prefix."""
    generator = torch.Generator().manual_seed(100 + seed)
    widths = {"attention.v_proj": (16, 48), "attention.o_proj": (48, 48), "swiglu.w_2": (48, 96)}
    modules = {f"layers.{layer}.{name}": shape for layer in range(2) for name, shape in widths.items()}
    return {
        "activations": {name: torch.randn(n_rows, shape[0], generator=generator) for name, shape in modules.items()},
        "gradients": {name: torch.randn(shape, generator=generator) for name, shape in modules.items()},
    }


def as_one_device_stores(activations: Tensor, batch: int) -> Tensor:
    """How pico-train joins the activations of its forwards on one device: each is transposed, then read row by row."""
    return torch.cat([part.transpose(0, 1).reshape(-1, part.shape[1]) for part in activations.split(batch)])


def write_pico_run(root: Path, *, devices: int, batch: int = 4, n_rows: int = 10) -> dict[int, dict[str, Tensor]]:
    """Lay out a run as pico-train does; return the weights by step.

    Step 0 has safetensors, step 100 `pytorch_model.bin`, step 200 the state of Fabric only.
    """
    import random

    import numpy as np
    import pyarrow as pa
    from safetensors.torch import save_file

    (root / "eval_results").mkdir(parents=True)
    settings = f"checkpointing:\n  learning_dynamics:\n    batch_size: {batch}\nmodel:\n"
    settings += "".join(f"  {key}: {value}\n" for key, value in PICO.items())
    (root / "training_config.yaml").write_text(settings)
    wrapper = "_forward_module." if devices == 1 else "_forward_module.module."
    steps = {step: pico_weights(step) for step in (0, 100, 200)}
    for step, weights in steps.items():
        folder = root / "checkpoints" / f"step_{step}"
        (folder / "fabric_state").mkdir(parents=True)
        (folder / "learning_dynamics").mkdir()
        prefixed = {f"pico_decoder.{name}": tensor for name, tensor in weights.items()}
        if step < 200:
            (folder / "config.json").write_text(json.dumps(PICO))
        if step == 0:
            save_file(prefixed, folder / "model.safetensors", metadata={"format": "pt"})
        if step == 100:
            torch.save(prefixed, folder / "pytorch_model.bin")
        optimizer = torch.optim.AdamW([nn.Parameter(tensor.clone()) for tensor in weights.values()])
        rng = {
            "torch": torch.get_rng_state(),
            "python": random.Random(0).getstate(),
            "numpy": np.random.RandomState(0).get_state(),
        }
        state = {"_model": weights, "_optimizer": optimizer.state_dict(), "_checkpoint_step": step, "_rng_states": rng}
        torch.save(state, folder / "fabric_state" / "checkpoint.pt")
        for split in ("train", "val"):
            for kind, tensors in pico_dynamics(step + (split == "val"), n_rows).items():
                stored = {
                    f"{wrapper}{name}": as_one_device_stores(tensor, batch)
                    if devices == 1 and kind == "activations"
                    else tensor
                    for name, tensor in tensors.items()
                }
                torch.save(stored, folder / "learning_dynamics" / f"{split}_{kind}.pt")
        rows = torch.randint(VOCABULARY, (n_rows, LENGTH + 1), generator=torch.Generator().manual_seed(step))
        table = pa.table({"input_ids": pa.array(rows.tolist(), pa.list_(pa.int32())), "text": ["..."] * n_rows})
        (folder / "learning_dynamics" / "train_data").mkdir()
        arrow = folder / "learning_dynamics" / "train_data" / "data-00000-of-00001.arrow"
        with pa.OSFile(str(arrow), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    (root / "checkpoints" / "latest").symlink_to("step_200")
    return steps


@pytest.fixture(scope="session")
def pico_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, Tensor]]]:
    root = tmp_path_factory.mktemp("pico") / "demo"
    return root, write_pico_run(root, devices=16)


@pytest.fixture(scope="session")
def run(small_training: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PicoLM run of three checkpoints, two of them with captures."""
    base = tmp_path_factory.mktemp("runs")
    config = picolm.load_config(
        None,
        {
            **small_training,
            "checkpoints.model.at": [0, 4, 8],
            "capture.at": [4, 8],
            "capture.activations": ["residual.*", "layers.*.attention.v_proj", "layers.*.attention.pattern"],
            "capture.gradients": ["layers.*.attention.o_proj"],
            "capture.updates": ["layers.*.attention.o_proj"],
            "capture.probes": {"held_out": {"sequences": 3}},
            "capture.train_batch": True,
        },
    )
    picolm.train(config, name="looked-at", runs_dir=base)
    yield base / "looked-at"
