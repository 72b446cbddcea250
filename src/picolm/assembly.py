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
from picolm.config.loading import Overrides, build_config, config_hash, load_config
from picolm.data.preparation import Progress, cached
from picolm.data.prepared import TokenData
from picolm.data.rows import Rows
from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.model.compilation import compile_blocks
from picolm.model.continuation import Continuation, continue_texts
from picolm.model.exporting import PRECISIONS, export_directory
from picolm.model.generation import Sampling
from picolm.model.huggingface import architecture, load_model
from picolm.model.initialization import build_model
from picolm.model.size import count_parameters, flops_per_token
from picolm.model.transformer import Transformer
from picolm.objective.causal import CausalFormulation
from picolm.objective.masked import MaskedFormulation
from picolm.report.card import model_card
from picolm.report.page import write_run_report
from picolm.runs.attempt import append_attempt, describe_attempt
from picolm.runs.directory import RUN_FILE, RunDirectory, free_name
from picolm.runs.lock import RunLock
from picolm.seams import Formulation, Objective, Observer, Plan
from picolm.text.tokenizer import Tokenizer
from picolm.tracking.tracker import require, trackers
from picolm.training.averaging import WeightAverage
from picolm.training.batches import Batches
from picolm.training.forecast import Forecast, measured_rates
from picolm.training.forecast import forecast as forecast_run
from picolm.training.interruption import Interruption
from picolm.training.mixture import MixturePlan, resolve_shares
from picolm.training.numerics import choose_device, numerics
from picolm.training.plan import EpochPlan
from picolm.training.recorder import Recorder
from picolm.training.saving import save_checkpoint
from picolm.training.trace import Trace
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
        try:
            _train(run, ingredients, device, watching, interruption, expected)
        finally:
            # Also when the run was stopped: then the page is wanted most.
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
    if config.data.prepared is not None:
        return combine(config, TokenData.open(Path(config.data.prepared), verify=config.data.verify))
    return combine(config, cached(config.data, config.tokenizer, progress=progress))


def reopen(run: RunDirectory, progress: Progress | None = None) -> Ingredients:
    """Open the data that a run was trained on, or prepare them again where they are gone.

    Raises:
        PicoLMError: they are other data now.
    """
    config, recorded = build_config(run.identity["config"]), run.identity["data"]
    directory = Path(recorded["directory"])
    is_there = directory.is_dir()
    found = combine(config, TokenData.open(directory, verify="sizes")) if is_there else prepare(config, progress)
    if found.data.fingerprint != recorded["fingerprint"]:
        raise PicoLMError(
            f"{found.data.directory} has the fingerprint {found.data.fingerprint[:12]}, but {run.path} was trained on "
            f"{recorded['fingerprint'][:12]}: restore the data of the run"
        )
    return found


def combine(config: schema.Config, data: TokenData) -> Ingredients:
    """Resolve what a configuration leaves to the data."""
    tokenizer = data.tokenizer()
    vocab_size = config.model.vocab_size or tokenizer.vocab_size
    if vocab_size < tokenizer.vocab_size:
        raise PicoLMError(
            f"model.vocab_size {vocab_size} is smaller than the tokenizer's {tokenizer.vocab_size} entries: "
            f"set model.vocab_size={tokenizer.vocab_size}, or null to follow the tokenizer"
        )
    train_split = data.split("train")
    shares = None if config.data.mixture is None else resolve_shares(config.data.mixture, train_split.domains)
    model = config.model.model_copy(update={"vocab_size": vocab_size})
    sections = {"data": config.data, **_as_prepared(config, data)}
    sections["data"] = sections["data"].model_copy(update={"mixture": shares})
    resolved = config.model_copy(update={"model": model, **sections})
    drawn = None if shares is None else [name for name, share in sorted(shares.items()) if share > 0]
    rows = Rows(train_split, config.data.sequence_length, drawn)
    return Ingredients(resolved, data, tokenizer, rows, formulate(resolved, tokenizer))


def _as_prepared(config: schema.Config, data: TokenData) -> dict[str, schema.Section]:
    """The sections that prepared data decide about, so that the record does not name sources that were not read."""
    if config.data.prepared is None:
        return {}
    made = dict(data.manifest.settings["tokenizer"])  # type: ignore[arg-type]
    if made["kind"] == "file":
        made = {"kind": "file", "path": str(data.directory / "tokenizer.json"), "separator": made["separator"]}
    return {
        "data": config.data.model_copy(update={"sources": ()}),
        "tokenizer": schema.Tokenizer.model_validate(made),
    }


def order(ingredients: Ingredients) -> Plan:
    """Which rows each step draws."""
    config, rows, fingerprint = ingredients.config, ingredients.rows, ingredients.data.fingerprint
    batch_size, seed = config.training.batch_size, config.seeds.data
    if config.data.mixture is None:
        return EpochPlan(n_rows=rows.n_rows, batch_size=batch_size, fingerprint=fingerprint, seed=seed)
    return MixturePlan(
        parts=rows.parts, shares=config.data.mixture, batch_size=batch_size, fingerprint=fingerprint, seed=seed
    )


def trace(target: Path | str, overrides: Overrides = (), progress: Progress | None = None) -> Trace:
    """What a run, or a configuration if it were run, draws and when.

    Args:
        target: a run, a preset or a YAML file.
        overrides: of a preset or file; a run has none.
        progress: who is told while data are prepared.
    """
    if (Path(target) / "run.json").is_file():
        if overrides:
            raise PicoLMError(f"{target} is a run, whose configuration is fixed: leave out the key=value changes")
        found = reopen(RunDirectory.open(Path(target)), progress)
    else:
        found = prepare(load_config(target, overrides), progress)
    return Trace(order(found), found.rows, found.data.split("train"), found.tokenizer, found.config.training.steps)


def formulate(config: schema.Config, tokenizer: Tokenizer) -> Formulation:
    """What is minimised, ready to make views."""
    if config.objective.kind == "causal":
        return CausalFormulation(document_borders=config.data.document_borders)
    if tokenizer.mask_id is None:
        raise PicoLMError("objective.kind=masked needs a tokenizer with a mask token such as '<mask>'")
    return MaskedFormulation(
        config.objective,
        mask_id=tokenizer.mask_id,
        special_ids=tokenizer.special_ids,
        vocab_size=tokenizer.vocab_size,
        seed=config.seeds.data,
        document_borders=config.data.document_borders,
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
    if config.training.compile:
        compile_blocks(model.layers)
    objective = Objective(model, ingredients.formulation.terms()).to(device)
    plan = order(ingredients)
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
        device=device,
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
    continuations = continue_texts(
        model,
        tokenizer,
        config.samples.prompts,
        max_tokens=config.samples.max_tokens,
        sampling=Sampling.of(config.samples),
        seed=config.seeds.sampling,
        keys=range(len(config.samples.prompts)),
    )
    for made in continuations:
        recorder.write({"event": "sample", "step": config.training.steps, "prompt": made.prompt, "text": made.text})


def model_directory(target: Path) -> Path:
    """The directory of a model: a run's newest whole checkpoint, a checkpoint, or any directory with a `config.json`.

    Raises:
        PicoLMError: there is nothing of the kind, or a checkpoint is damaged.
    """
    if (target / "config.json").is_file():
        return target
    if target.is_dir() and not (target / "run.json").exists():
        raise PicoLMError(f"{target} is neither a run (it has no run.json) nor a model (it has no config.json)")
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
    stop: Sequence[str] = (),
    on_text: Callable[[str], None] | None = None,
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

    Returns:
        What was added, without the prompt.
    """
    model, tokenizer = open_model(target)
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

    Returns:
        The continuations, prompt by prompt.
    """
    model, tokenizer = open_model(target)
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
    home = directory.resolve().parent.parent
    run = RunDirectory.open(home) if (home / RUN_FILE).is_file() else None
    step = next((c.step for c in run.checkpoints if c.path.name == directory.resolve().name), None) if run else None
    card = partial(model_card, name=out.name, dtype=dtype, run=run, step=step)
    export_directory(directory, out, dtype=PRECISIONS[dtype], card=card)
    return out
