"""Where the rooms are put together: from a configuration to a trained, validated, generating model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from picolm.config import schema
from picolm.config.loading import config_hash
from picolm.data.preparation import Progress, cached
from picolm.data.prepared import TokenData
from picolm.data.rows import Rows
from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.model.generation import Sampling
from picolm.model.generation import generate as generate_ids
from picolm.model.huggingface import architecture, load_model
from picolm.model.initialization import build_model
from picolm.model.size import count_parameters, flops_per_token
from picolm.model.transformer import Transformer
from picolm.objective.causal import CausalFormulation
from picolm.objective.masked import MaskedFormulation
from picolm.report.page import write_run_report
from picolm.runs.attempt import append_attempt, describe_attempt
from picolm.runs.directory import RunDirectory, free_name
from picolm.runs.lock import RunLock
from picolm.seams import Formulation, Objective, Observer
from picolm.text.tokenizer import Tokenizer
from picolm.tracking.tracker import require, trackers
from picolm.training.averaging import WeightAverage
from picolm.training.batches import Batches
from picolm.training.forecast import Forecast, measured_rates
from picolm.training.forecast import forecast as forecast_run
from picolm.training.interruption import Interruption
from picolm.training.numerics import choose_device, numerics
from picolm.training.plan import EpochPlan
from picolm.training.recorder import Recorder
from picolm.training.saving import save_checkpoint
from picolm.training.trainer import Trainer
from picolm.training.validation import Validation


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a configuration becomes before the first step; in `config` nothing is left to be found out."""

    config: schema.Config
    data: TokenData
    tokenizer: Tokenizer
    rows: Rows
    formulation: Formulation

    @property
    def vocab_size(self) -> int:
        """Rows of the model's output matrix."""
        assert self.config.model.vocab_size is not None
        return self.config.model.vocab_size


def train(
    config: schema.Config,
    *,
    name: str | None = None,
    stem: str = "run",
    runs_dir: Path | str = "runs",
    observers: Sequence[Observer] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
) -> RunDirectory:
    """Train one model, from text to a saved, sampled and reported run.

    Args:
        config: the whole run.
        name: the run's name, which must be free; None: `stem`, or `stem-2`, ... where that is taken.
        stem: the beginning of the default name.
        runs_dir: where runs stand.
        observers: who is told of the record while it is made.
        progress: who is told while the data are prepared.
        interruption: holds back Ctrl-C and SIGTERM while the model trains; tells afterwards whether one came.

    Returns:
        The run. It holds `log.jsonl`, a checkpoint of the last step, samples and `report.html`.

    Raises:
        PicoLMError: something in the configuration, the data or on the disk is wrong; or the loss was not finite too
            often.
    """
    device = choose_device(config.training.device)
    require(config.tracking)
    if name is not None and (not name or "/" in name or name in (".", "..")):
        raise PicoLMError(f"'{name}' cannot name a run: give a plain name without '/'")
    path = Path(runs_dir) / (name or free_name(Path(runs_dir), stem))
    if name is not None and path.exists():
        raise PicoLMError(f"run {path} exists; choose another --name")
    ingredients = prepare(config, progress)
    run = RunDirectory.create(path, identity(ingredients, path.name))
    with ExitStack() as stack:
        stack.enter_context(RunLock(run.path))
        stack.enter_context(numerics(config.training))
        interruption = stack.enter_context(interruption or Interruption())
        expected = _forecast(ingredients, device).plain()
        append_attempt(run.path, {**describe_attempt(None), "device": str(device), "ranks": 1, "forecast": expected})
        watching = [*observers, *trackers(config.tracking, run.path)]
        _train(run, ingredients, device, watching, interruption, expected)
    write_run_report(run)
    return run


def forecast(config: schema.Config, progress: Progress | None = None) -> Forecast:
    """Say what a run would take; the data are prepared or opened for it, nothing else is written.

    Raises:
        PicoLMError: as `train`, as far as it shows before the first step.
    """
    device = choose_device(config.training.device)
    require(config.tracking)
    ingredients = prepare(config, progress)
    with numerics(config.training):
        return _forecast(ingredients, device)


def _forecast(ingredients: Ingredients, device: torch.device) -> Forecast:
    config = ingredients.config
    return forecast_run(
        config,
        train_tokens=ingredients.data.split("train").n_tokens,
        rates=measured_rates(config, device),
    )


def prepare(config: schema.Config, progress: Progress | None = None) -> Ingredients:
    """Prepare or open the data, and resolve what the configuration leaves to it."""
    verify = config.data.verify
    if config.data.prepared is not None:
        data = TokenData.open(Path(config.data.prepared), verify=verify)
    else:
        data = cached(config.data, config.tokenizer, progress=progress)
    tokenizer = data.tokenizer()
    vocab_size = config.model.vocab_size or tokenizer.vocab_size
    if vocab_size < tokenizer.vocab_size:
        raise PicoLMError(
            f"model.vocab_size {vocab_size} is smaller than the tokenizer's {tokenizer.vocab_size} entries: "
            f"set model.vocab_size={tokenizer.vocab_size}, or null to follow the tokenizer"
        )
    model = config.model.model_copy(update={"vocab_size": vocab_size})
    resolved = config.model_copy(update={"model": model})
    rows = Rows(data.split("train"), config.data.sequence_length)
    return Ingredients(resolved, data, tokenizer, rows, formulate(resolved, tokenizer))


def formulate(config: schema.Config, tokenizer: Tokenizer) -> Formulation:
    """What is minimised, ready to make views."""
    if config.objective.kind == "causal":
        return CausalFormulation()
    if tokenizer.mask_id is None:
        raise PicoLMError("objective.kind=masked needs a tokenizer with a mask token such as '<mask>'")
    return MaskedFormulation(
        config.objective,
        mask_id=tokenizer.mask_id,
        pad_id=tokenizer.pad_id,
        special_ids=tokenizer.special_ids,
        vocab_size=tokenizer.vocab_size,
        seed=config.seeds.data,
    )


def identity(ingredients: Ingredients, name: str) -> dict[str, Any]:
    """What `run.json` says: everything that makes two runs the same or different."""
    config, data = ingredients.config, ingredients.data
    count = count_parameters(config.model, ingredients.vocab_size)
    splits = {
        name: {"tokens": split.tokens, "documents": split.documents} for name, split in data.manifest.splits.items()
    }
    return {
        "name": name,
        "config": config.model_dump(mode="json"),
        "config_hash": config_hash(config),
        "seeds": config.seeds.model_dump(),
        "data": {
            "fingerprint": data.fingerprint,
            "directory": str(data.directory),
            "splits": splits,
            "tokenizer": {
                "fingerprint": ingredients.tokenizer.fingerprint,
                "vocab_size": ingredients.tokenizer.vocab_size,
            },
        },
        "parameters": {"total": count.total, "not_embedding": count.not_embedding},
        "transformers": architecture(config.model),
        "parent": None,
        "interventions": [],
    }


def _train(
    run: RunDirectory,
    ingredients: Ingredients,
    device: torch.device,
    observers: Sequence[Observer],
    interruption: Interruption,
    expected: dict[str, Any],
) -> None:
    config = ingredients.config
    model = build_model(config.model, config.seeds.init)
    objective = Objective(model, ingredients.formulation.terms()).to(device)
    plan = EpochPlan(
        n_rows=ingredients.rows.n_rows,
        batch_size=config.training.batch_size,
        fingerprint=ingredients.data.fingerprint,
        seed=config.seeds.data,
    )
    batches = Batches(
        plan,
        ingredients.rows,
        ingredients.formulation,
        first=0,
        last=config.training.steps,
        prefetch=config.data.prefetch_steps,
        workers=config.data.loader_workers,
        pin=device.type == "cuda",
    )
    recorder = Recorder(
        run,
        observers,
        nonfinite_limit=config.training.nonfinite_limit,
        flops_per_token=flops_per_token(config.model, ingredients.vocab_size, config.data.sequence_length),
    )
    held_out = _held_out(ingredients.data)
    average = WeightAverage(objective, config.training.ema) if config.training.ema else None
    with batches, recorder:
        trainer = Trainer(
            config,
            objective=objective,
            plan=plan,
            batches=batches,
            validation=Validation(held_out, ingredients.formulation, config) if held_out else None,
            recorder=recorder,
            device=device,
            save=partial(save_checkpoint, run, model=model, tokenizer=ingredients.tokenizer, average=average),
            average=average,
        )
        facts = {**run.identity, "steps": config.training.steps, "forecast": expected}
        _observed(trainer, facts, interruption, observers)
        if interruption.signal is None and config.objective.kind == "causal":
            _sample(recorder, model, ingredients.tokenizer, config)


def _held_out(data: TokenData) -> Split | None:
    split = data.split("validation")
    return split if split.n_documents else None


def _observed(
    trainer: Trainer, facts: Mapping[str, Any], interruption: Interruption, observers: Sequence[Observer]
) -> None:
    for observer in observers:
        observer.started(facts)
    done = trainer.batches.first
    try:
        done = trainer.run(interruption)
    finally:
        for observer in observers:
            observer.ended(done)


def _sample(recorder: Recorder, model: Transformer, tokenizer: Tokenizer, config: schema.Config) -> None:
    for number, prompt in enumerate(config.samples.prompts):
        text = continue_text(
            model,
            tokenizer,
            prompt,
            max_tokens=config.samples.max_tokens,
            sampling=Sampling.of(config.samples),
            seed=config.seeds.sampling,
            key=number,
        )
        recorder.write({"event": "sample", "step": config.training.steps, "prompt": prompt, "text": text})


def continue_text(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    key: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """Continue a text; a document separator is put in front of the prompt, as in training.

    Returns:
        What was added, without the prompt.
    """
    beginning = [tokenizer.separator_id, *tokenizer.encode(prompt).tolist()]
    added: list[int] = []
    for token in generate_ids(
        model,
        beginning,
        max_tokens=max_tokens,
        sampling=sampling,
        seed=seed,
        stop=tokenizer.separator_id,
        key=key,
        vocab_size=tokenizer.vocab_size,
    ):
        added.append(token)
        if on_text is not None:
            on_text(tokenizer.decode(added))
    return tokenizer.decode(added)


def model_directory(target: Path) -> Path:
    """The directory of a model: a run's newest whole checkpoint, a checkpoint, or any directory with a `config.json`.

    Raises:
        PicoLMError: there is nothing of the kind, or a checkpoint is damaged.
    """
    if (target / "config.json").is_file():
        return target
    run = RunDirectory.open(target)
    checkpoint, damage = run.latest_checkpoint()
    if checkpoint is None:
        raise PicoLMError(damage[0] if damage else f"run {target} has no checkpoint yet")
    return checkpoint.path


def open_model(target: Path | str) -> tuple[Transformer, Tokenizer]:
    """Open a run's newest model, or a directory with `config.json`, `model.safetensors` and `tokenizer.json`."""
    directory = model_directory(Path(target))
    return load_model(directory), Tokenizer.load(directory / "tokenizer.json")


def generate(
    target: Path | str,
    prompt: str = "",
    *,
    max_tokens: int = 100,
    sampling: Sampling | None = None,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """Continue a prompt with a trained model.

    Args:
        target: a run (its newest checkpoint), a checkpoint or a model directory.
        prompt: the beginning; empty: a new document.
        max_tokens: tokens to add at most.
        sampling: how each is drawn; None: as the samples of a run by default.
        seed: the same seed gives the same text.
        on_text: told after each token what has been added so far.

    Returns:
        What was added, without the prompt.
    """
    model, tokenizer = open_model(target)
    return continue_text(
        model,
        tokenizer,
        prompt,
        max_tokens=max_tokens,
        sampling=sampling or Sampling.of(schema.Samples()),
        seed=seed,
        on_text=on_text,
    )
