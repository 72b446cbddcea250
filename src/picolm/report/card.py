"""The model card of an exported model: what it is, what it learned from, how well, and how to open it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picolm.config.schema import Model
from picolm.config.yaml12 import to_yaml
from picolm.model.size import count_parameters
from picolm.runs.directory import RunDirectory

_AUTO = {"causal": "AutoModelForCausalLM", "bidirectional": "AutoModelForMaskedLM"}
_TASK = {"causal": "text-generation", "bidirectional": "fill-mask"}


def model_card(model: Model, *, name: str, dtype: str, run: RunDirectory | None, step: int | None) -> str:
    """Write the card as Markdown with the front matter of the Hugging Face Hub.

    Args:
        model: the model's configuration, with its vocabulary size.
        name: heading of the card.
        dtype: precision of the weights.
        run: the run it comes from; None: it comes from elsewhere, and nothing is known of its training.
        step: the step of that run.
    """
    assert model.vocab_size is not None
    count = count_parameters(model, model.vocab_size)
    parts = [
        f"---\nlibrary_name: transformers\npipeline_tag: {_TASK[model.attention]}\ntags: [picolm]\n---\n\n# {name}\n",
        f"A {model.attention} Transformer of {count.total:,} parameters ({count.not_embedding:,} of them not "
        f"embeddings), exported by PicoLM with {dtype} weights.\n",
        _usage(model.attention),
    ]
    if run is not None:
        parts += _training(run, step)
    return "\n".join(parts)


def _usage(attention: str) -> str:
    return (
        "## Use\n\nEvery text begins with the separator, which is `bos` and `eos` at once; the tokenizer does not put "
        "it there.\n\n```python\n"
        f"from transformers import {_AUTO[attention]}, AutoTokenizer\n\n"
        f'model = {_AUTO[attention]}.from_pretrained(".")\ntokenizer = AutoTokenizer.from_pretrained(".")\n'
        'ids = tokenizer(tokenizer.bos_token + "Once upon a time", return_tensors="pt").input_ids\n```\n'
    )


def _training(run: RunDirectory, step: int | None) -> list[str]:
    identity = run.identity
    config = identity["config"]
    until = config["training"]["steps"] if step is None else step
    split = identity["data"]["splits"]["train"]
    seen = until * config["training"]["batch_size"] * config["data"]["sequence_length"]
    rows = [
        f"| run | {run.name}, step {until:,} of {config['training']['steps']:,} |",
        f"| data | {split['tokens']:,} tokens in {split['documents']:,} documents |",
        f"| tokens seen | {seen:,} |",
        f"| data fingerprint | `{identity['data']['fingerprint']}` |",
        f"| config hash | `{identity['config_hash']}` |",
        f"| PicoLM | {identity['picolm']} |",
    ]
    parts = ["## Training\n\n| | |\n| --- | --- |\n" + "\n".join(rows) + "\n", *_results(run.log, until)]
    parts.append(f"## Configuration\n\nOf paths, the last part.\n\n```yaml\n{to_yaml(_without_places(config))}```\n")
    return parts


def _results(log: list[dict[str, Any]], until: int) -> list[str]:
    lines = [line for line in log if line.get("step", until + 1) <= until]
    losses = [line for line in lines if line["event"] == "train"]
    validations = [line for line in lines if line["event"] == "validation"]
    if not losses:
        return []
    text = f"## Results\n\nTraining loss at step {losses[-1]['step']:,}: {losses[-1]['loss']:.4f}.\n"
    if validations:
        last = validations[-1]
        text += f"\nOn held-out text at step {last['step']:,}, loss {last['loss']:.4f}:\n\n"
        text += "| domain | loss | perplexity | bits per byte |\n| --- | --- | --- | --- |\n"
        for domain, figures in last["domains"].items():
            bits = figures.get("bits_per_byte")
            shown = "-" if bits is None else f"{bits:.4f}"
            text += f"| {domain} | {figures['loss']:.4f} | {figures['perplexity']:.2f} | {shown} |\n"
    return [text]


def _without_places(value: Any) -> Any:
    """Cut paths to their last part: a card is published, and folders name people and machines."""
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value
