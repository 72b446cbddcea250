"""What a configuration becomes before the first step: data, tokenizer, rows, views, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picolm.config import schema
from picolm.config.loading import build_config, config_hash
from picolm.data.preparation import Progress, cached
from picolm.data.prepared import TokenData
from picolm.data.rows import Rows
from picolm.errors import PicoLMError
from picolm.interventions.loading import Loaded
from picolm.model.huggingface import architecture
from picolm.model.size import count_parameters
from picolm.objective.causal import CausalFormulation
from picolm.objective.masked import MaskedFormulation
from picolm.runs.directory import RunDirectory
from picolm.seams import Formulation, Plan
from picolm.text.tokenizer import Tokenizer
from picolm.training.mixture import MixturePlan, resolve_shares
from picolm.training.plan import EpochPlan


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


def prepare(config: schema.Config, progress: Progress | None = None) -> Ingredients:
    """Prepare or open the data, and resolve what the configuration leaves to it."""
    if config.data.prepared is not None:
        return combine(config, TokenData.open(Path(config.data.prepared), verify=config.data.verify))
    return combine(config, cached(config.data, config.tokenizer, progress=progress))


def reopen(run: RunDirectory, progress: Progress | None = None, *, verify: bool = False) -> Ingredients:
    """Open the data that a run was trained on, or prepare them again where they are gone.

    Args:
        run: the run.
        progress: who is told while data are prepared.
        verify: whether what is there is checked as the configuration says; else by the sizes of its files.

    Raises:
        PicoLMError: they are other data now.
    """
    return reopen_as(run, build_config(run.identity["config"]), progress, verify=verify)


def reopen_as(
    run: RunDirectory, config: schema.Config, progress: Progress | None = None, *, verify: bool = False
) -> Ingredients:
    """As `reopen`, for another configuration on the same data."""
    recorded = run.identity["data"]
    directory = Path(recorded["directory"])
    is_there = directory.is_dir()
    found = (
        combine(config, TokenData.open(directory, verify=config.data.verify if verify else "sizes"))
        if is_there
        else prepare(config, progress)
    )
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


def identity(
    ingredients: Ingredients, name: str, loaded: Sequence[Loaded] = (), parent: dict[str, Any] | None = None
) -> dict[str, Any]:
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
        "parent": parent,
        "interventions": [item.plain() for item in loaded],
    }


def code_hashes(run: RunDirectory) -> dict[str, str]:
    """SHA-256 of the code that a run was made with, by `use`, of interventions outside of PicoLM."""
    return {item["use"]: item["sha256"] for item in run.identity.get("interventions", []) if "sha256" in item}
