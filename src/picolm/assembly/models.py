"""From a run or a directory to its model: opening, generating, exporting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from picolm.assembly.attempt import active_of
from picolm.assembly.ingredients import code_hashes, reopen
from picolm.config import schema
from picolm.errors import PicoLMError, to_standard_error
from picolm.interventions.loading import Trust, load_interventions
from picolm.model.continuation import Continuation, continue_texts
from picolm.model.exporting import PRECISIONS, export_directory
from picolm.model.generation import Sampling
from picolm.model.huggingface import LIVE, load_model, read_parameters
from picolm.model.interface import LanguageModel
from picolm.report.card import model_card
from picolm.runs.directory import RUN_FILE, RunDirectory
from picolm.runs.manifest import read_manifest
from picolm.text.tokenizer import Tokenizer
from picolm.training.state import MODEL
from picolm.training.structure import Structure


def model_directory(target: Path) -> Path:
    """The directory of a model: a run's newest whole checkpoint, a checkpoint, or any directory with a `config.json`.

    Damage of newer checkpoints is told on standard error.

    Raises:
        PicoLMError: there is nothing of the kind, or a checkpoint is damaged.
    """
    if (target / "config.json").is_file() or (target / LIVE).is_file():
        return target
    if target.is_dir() and not (target / "run.json").exists():
        raise PicoLMError(f"{target} is neither a run (it has no run.json) nor a model (it has no config.json)")
    run = RunDirectory.open(target)
    checkpoint, damage = run.latest_checkpoint()
    if checkpoint is None:
        raise PicoLMError(damage[0] if damage else f"run {target} has no checkpoint yet")
    for sentence in damage:
        to_standard_error(f"{sentence}; step {checkpoint.step} is taken")
    return checkpoint.path


def open_model(
    target: Path | str, *, trusted: Sequence[str] = (), trust: bool = False
) -> tuple[LanguageModel, Tokenizer]:
    """Open a run's newest model, or a directory with `config.json`, `model.safetensors` and `tokenizer.json`.

    A checkpoint that no class of transformers opens is built as its run builds it, by the run's interventions.

    Args:
        target: a run, a checkpoint or a model directory.
        trusted: interventions outside of PicoLM whose code may run, as in `picolm.train`.
        trust: as in `picolm.resume`.
    """
    directory = model_directory(Path(target))
    tokenizer = Tokenizer.load(directory / "tokenizer.json")
    if (directory / LIVE).is_file():
        return _open_live(directory, trusted, trust), tokenizer
    return load_model(directory), tokenizer


def _open_live(directory: Path, trusted: Sequence[str], trust: bool) -> LanguageModel:
    home = directory.resolve().parent.parent
    if not (home / RUN_FILE).is_file():
        raise PicoLMError(f"{directory} has no twin in transformers and is opened within its run only, as a checkpoint")
    run = RunDirectory.open(home)
    ingredients = reopen(run)
    loaded = load_interventions(ingredients.config.interventions, Trust(trusted, code_hashes(run) if trust else {}))
    active, _ = active_of(ingredients, loaded, None)
    structure = Structure(ingredients.config, ingredients.formulation, active, torch.device("cpu"))
    parameters = {f"{MODEL}{name}": tensor for name, tensor in read_parameters(directory).items()}
    structure.build(int(read_manifest(directory)["step"]), parameters)
    return structure.objective.model.eval()


def generate(
    target: Path | str,
    prompt: str = "",
    *,
    max_tokens: int = 100,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: Sequence[str] = (),
    on_text: Callable[[str], None] | None = None,
    trusted: Sequence[str] = (),
    trust: bool = False,
) -> str:
    """Continue a prompt with a trained model.

    Args:
        target: a run (its newest checkpoint), a checkpoint or a model directory.
        prompt: the beginning; empty: a new document.
        max_tokens: tokens to add at most.
        sampling: how each is drawn; None: as the samples of a run by default.
        seed: the same seed gives the same text.
        stop: texts that end the text where they first appear.
        on_text: told after each token what has been added so far and will stay.
        trusted: as in `open_model`.
        trust: as in `open_model`.

    Returns:
        What was added, without the prompt.
    """
    model, tokenizer = open_model(target, trusted=trusted, trust=trust)
    (made,) = continue_texts(
        model,
        tokenizer,
        [prompt],
        max_tokens=max_tokens,
        sampling=sampling or Sampling.of(schema.Samples()),
        seed=seed,
        stop=stop,
        on_text=None if on_text is None else lambda _, text: on_text(text),
    )
    return made.text


def generate_texts(
    target: Path | str,
    prompts: Sequence[str],
    *,
    count: int = 1,
    max_tokens: int = 100,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 16,
    trusted: Sequence[str] = (),
    trust: bool = False,
) -> list[Continuation]:
    """Continue several prompts, each as often as wanted, in batches.

    A text depends on its prompt, the seed and its number among the texts of that prompt (`Continuation.key`) alone:
    more prompts, or batches of another size, change none of the others. Number 0 is what `generate` gives.

    Args:
        target: a run (its newest checkpoint), a checkpoint or a model directory.
        prompts: the beginnings; an empty one begins a new document.
        count: texts for each prompt.
        max_tokens: tokens to add to each at most.
        sampling: how each is drawn; None: as the samples of a run by default.
        seed: the same seed gives the same texts.
        stop: texts that end a text where they first appear.
        batch_size: texts that are made at once.
        trusted: as in `open_model`.
        trust: as in `open_model`.

    Returns:
        The continuations, prompt by prompt.
    """
    model, tokenizer = open_model(target, trusted=trusted, trust=trust)
    return continue_texts(
        model,
        tokenizer,
        [prompt for prompt in prompts for _ in range(count)],
        max_tokens=max_tokens,
        sampling=sampling or Sampling.of(schema.Samples()),
        seed=seed,
        keys=[number for _ in prompts for number in range(count)],
        stop=stop,
        batch_size=batch_size,
    )


def export_model(target: Path | str, out: Path | str, *, dtype: str = "fp32") -> Path:
    """Copy a model out of its run: a Hugging Face directory with a card and a manifest, read back before it appears.

    Args:
        target: a run (its newest checkpoint), a checkpoint or a model directory.
        out: the directory to make.
        dtype: precision of the weights, `fp32` or `bf16`.

    Returns:
        The directory.

    Raises:
        PicoLMError: there is no such model, `out` is taken, or `dtype` is another one.
    """
    if dtype not in PRECISIONS:
        raise PicoLMError(f"a model is exported as {' or '.join(PRECISIONS)}, not as '{dtype}'")
    directory, out = model_directory(Path(target)), Path(out)
    if (directory / LIVE).is_file():
        raise PicoLMError(f"the model in {directory} has no twin in transformers, so there is nothing to export to")
    home = directory.resolve().parent.parent
    run = RunDirectory.open(home) if (home / RUN_FILE).is_file() else None
    step = next((c.step for c in run.checkpoints if c.path.name == directory.resolve().name), None) if run else None
    card = partial(model_card, name=out.name, dtype=dtype, run=run, step=step)
    export_directory(directory, out, dtype=PRECISIONS[dtype], card=card)
    return out
