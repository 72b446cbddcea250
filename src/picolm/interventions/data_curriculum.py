"""The data curriculum: rows that are easy first, then harder ones too (Martinez et al. 2023, CLIMB)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from picolm.config import schema
from picolm.config.section import Positive
from picolm.data.permutation import KeyedPermutation
from picolm.errors import PicoLMError, nearest
from picolm.interventions import difficulty
from picolm.interventions.difficulty import Scores
from picolm.interventions.pacing import Pacing
from picolm.interventions.scanning import numbered
from picolm.objective.pseudo import PseudoLikelihood
from picolm.seams import ChangedPlan, IntArray, Intervention, Plan, Run

NAME = "data_curriculum"
BEGINNING = 0
"""The step at which rows are ordered first."""


class DataCurriculum(Intervention):
    """Steps draw from a pool: the first ceil(p N) of all N rows, ordered by difficulty, ties by chance.

    A step draws its rows evenly from the pool, none twice unless the batch is larger than the pool; steps are drawn
    independently of each other. A `window` takes the easiest out of the pool again, so that what is drawn moves along
    the order: with the age of a child as difficulty, rows come in the order of ages.
    """

    class Settings(schema.Section):
        """What makes a row hard, and how the pool grows."""

        by: Literal["field", "ngrams", "model", "random"] = Field(
            "ngrams",
            description="difficulty: a field of the documents, n-gram perplexity, the model's own perplexity, chance",
        )
        pacing: Pacing = Field(default_factory=Pacing, description="the share of rows in the pool, by step")
        window: float = Field(1.0, gt=0.0, le=1.0, description="share of all rows, from the hardest of the pool down")
        descending: bool = Field(False, description="whether the hardest come first")
        field: str = Field("domain", description="(field) of the metadata, or domain, source, characters, ...")
        ranks: dict[str, float] | str | None = Field(
            None, description="(field) a number for each value; or spoken_first, grammatical_first; null: numbers"
        )
        n: int = Field(1, ge=1, le=difficulty.LARGEST_N, description="(ngrams, model) the longest n-grams")
        refresh: Positive = Field(25_000, description="(model) steps from one scoring of all rows to the next")
        first: Literal["ngrams", "random"] = Field("ngrams", description="(model) difficulty before the first scoring")
        masking: Literal["one_by_one", "at_once"] = Field(
            "one_by_one", description="(model, masked) every token by itself, or one corruption at the run's rate"
        )

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.orders: dict[int, Tensor] = {}
        """By the step at which it was found: all rows, the easiest first, int64 [N]."""
        self.said = -1

    def plan(self, plan: Plan, run: Run) -> Plan:
        """Draw from the pool."""
        if run.config.data.mixture is not None:
            raise PicoLMError(f"{NAME} and data.mixture cannot be in one run: both say which rows are drawn how often")
        if BEGINNING not in self.orders:
            self.orders[BEGINNING] = self._ordered(self._first_scores(run), BEGINNING, run)
        return _FromPool(plan, self, run)

    def before_step(self, run: Run) -> None:
        """Score all rows anew where that is due, and say at each tenth how large the pool is."""
        step, settings = run.step, self.settings
        if settings.by == "model" and step % settings.refresh == 0 and step and step not in self.orders:
            scores = self._scored(run)
            self.orders[step] = self._ordered(scores, step, run)
            run.record("scored", rows=len(scores), mean=float(scores.mean()), hardest=float(scores.max()))
        first, stop = self.pool(step, run)
        tenth = int(10 * stop / run.n_rows)
        if tenth != self.said:
            run.record("pool", rows=stop - first, of=run.n_rows)
            self.said = tenth

    def pool(self, step: int, run: Run) -> tuple[int, int]:
        """The pool of a step, as places in the order: from the first to before the second."""
        share, n_rows = self.settings.pacing.at(step, run.config.training.steps), run.n_rows
        # A share such as 0.29 times 100 must not become 30 by its last bit.
        stop = min(max(math.ceil(round(share * n_rows, 6)), 1), n_rows)
        return max(stop - max(math.ceil(round(self.settings.window * n_rows, 6)), 1), 0), stop

    def ordered_at(self, step: int) -> int:
        """The step at which the order that a step draws by is found."""
        return step - step % self.settings.refresh if self.settings.by == "model" else BEGINNING

    def state_dict(self) -> dict[str, Any]:
        """The orders that cannot be found again, and what was said last."""
        found = {f"order-{step}": order for step, order in self.orders.items() if step != BEGINNING}
        return {**found, "said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up."""
        found = {name.removeprefix("order-"): order for name, order in state.items() if name.startswith("order-")}
        self.orders = {int(step): order for step, order in found.items()}
        self.said = int(state["said"])

    def _first_scores(self, run: Run) -> Scores:
        settings = self.settings
        by = settings.first if settings.by == "model" else settings.by
        if by == "random":
            return difficulty.at_random(run)
        if by == "field":
            return difficulty.by_field(run, settings.field, _ranks(settings.ranks))
        return difficulty.by_perplexity_of_ngrams(run, settings.n)

    def _scored(self, run: Run) -> Scores:
        """The model's own perplexity of each row; of a masked model, its pseudo-perplexity."""
        formulation, tokenizer = None, run.tokenizer
        if run.config.objective.kind == "masked" and self.settings.masking == "one_by_one":
            assert tokenizer.mask_id is not None
            formulation = PseudoLikelihood(
                mask_id=tokenizer.mask_id,
                special_ids=tokenizer.special_ids,
                document_borders=run.config.data.document_borders,
            )
        found = [run.score(rows, formulation) for rows in numbered(run, "scoring")]
        return np.exp(np.concatenate(found))

    def _ordered(self, scores: Scores, step: int, run: Run) -> Tensor:
        """All rows, the easiest first; what is not known comes last, and chance decides between equals."""
        known = np.isfinite(scores)
        keys = np.where(known, -scores if self.settings.descending else scores, np.inf)
        ties = run.rng("ties", step).random(len(scores))
        return torch.from_numpy(np.lexsort((ties, keys)).astype(np.int64))


class _FromPool(ChangedPlan):
    def __init__(self, base: Plan, owner: DataCurriculum, run: Run) -> None:
        super().__init__(base)
        self.owner, self.run = owner, run
        self._seed = int(run.rng("draws").integers(2**62))

    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        """The rows that a step draws in the places of sequence numbers."""
        scored = self.owner.ordered_at(step)
        if scored not in self.owner.orders:
            raise PicoLMError(f"which rows step {step} draws is known only when the rows were scored at step {scored}")
        first, stop = self.owner.pool(step, self.run)
        rounds, places = np.divmod(numbers - self.start(step), stop - first)
        drawn = np.empty_like(places)
        for number in np.unique(rounds).tolist():
            here = rounds == number
            order = KeyedPermutation(stop - first, "pool", self._seed, self.run.fingerprint, step, number)
            drawn[here] = order(places[here])
        return np.asarray(self.owner.orders[scored].numpy()[first + drawn], dtype=np.int64)

    def horizon(self, step: int) -> int:
        """As the base has it, and not beyond the next scoring."""
        if self.owner.settings.by != "model":
            return self.base.horizon(step)
        return min(self.base.horizon(step), self.owner.ordered_at(step) + self.owner.settings.refresh)


def _ranks(given: dict[str, float] | str | None) -> Mapping[str, float] | None:
    if not isinstance(given, str):
        return given
    known = difficulty.named_ranks()
    if given not in known:
        raise PicoLMError(f"{NAME}.ranks: there is no order of sources '{given}'{nearest(given, known)}")
    return known[given]
