"""Loss on held-out documents, domain by domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picolm.config import schema
from picolm.data.rows import ValidationRows
from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.model.interface import LanguageModel
from picolm.seams import Formulation, Objective, Sequences, View
from picolm.training.eager import eager_twin
from picolm.training.numerics import autocast
from picolm.training.parallel import Ranks


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain's held-out rows as views, and how many bytes of text they hold."""

    views: tuple[View, ...]
    n_bytes: int

    @property
    def n_units(self) -> int:
        """How many tokens are scored."""
        return sum(view.n_units for view in self.views)


class Validation:
    """Scores the same documents each time it is asked."""

    def __init__(
        self, split: Split, formulation: Formulation, config: schema.Config, ranks: Ranks | None = None
    ) -> None:
        self.training, self.scores_every_token = config.training, formulation.scores_every_token
        self.terms, self.ranks = formulation.terms(), ranks or Ranks()
        micro = config.validation.batch_size or config.training.micro_batch_size or config.training.batch_size
        self.batch_size = micro
        self.domains: dict[str, Domain] = {}
        for name in sorted(split.domains):
            rows = ValidationRows(split, name, config.data.sequence_length, config.validation.tokens_per_domain)
            tokens, valid = rows.rows
            ids = np.arange(len(tokens), dtype=np.int64)
            sequences = Sequences(
                tokens=tokens,
                valid=valid,
                ids=ids,
                stream=name,
                step=0,
                documents=rows.row_documents,
                tags=rows.row_tags,
            )
            self.domains[name] = Domain(measured_views(formulation, sequences), rows.n_bytes)

    def __call__(self, model: LanguageModel, device: torch.device) -> dict[str, Any]:
        """Measure every domain by the formulation's own terms, whatever training minimises.

        Several ranks share the rows, and all of them get the figures.

        Returns:
            `loss` (mean over all scored tokens, nats) and `domains`: for each its `loss`, `perplexity`, `tokens` scored
            and, where every token is scored, `bits_per_byte` and `bytes`.
        """
        objective = Objective(model, self.terms)
        was_training = model.training
        objective.eval()
        # On the eager twin: the last rows of a domain are fewer, and each new shape would be compiled.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            nats = [self._share(objective, domain, device) for domain in self.domains.values()]
        model.train(was_training)
        sums = torch.tensor(nats, dtype=torch.float64)
        self.ranks.sum([sums])
        found = zip(self.domains.items(), sums.tolist(), strict=True)
        results = {name: self._figures(total, domain.n_units, domain.n_bytes) for (name, domain), total in found}
        tokens = sum(result["tokens"] for result in results.values())
        total = math.fsum(result["loss"] * result["tokens"] for result in results.values())
        return {"loss": total / max(tokens, 1), "domains": results}

    def _share(self, objective: Objective, domain: Domain, device: torch.device) -> float:
        """The sum over this rank's rows of a domain, in nats."""
        parts = [part for view in domain.views for part in view.cut(self.batch_size)]
        sums: list[Tensor] = []
        for part in parts[self.ranks.rank :: self.ranks.size]:
            with autocast(self.training, device):
                terms = objective(part.to(device))
            sums.append(objective.total(terms, units=1))
        return math.fsum(torch.stack(sums).tolist()) if sums else 0.0

    def _figures(self, nats: float, tokens: int, n_bytes: int) -> dict[str, Any]:
        loss = nats / max(tokens, 1)
        # Beyond e^700 a double overflows; such a perplexity says no more than "untrained".
        figures: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": tokens}
        if self.scores_every_token:
            figures |= {"bits_per_byte": nats / (math.log(2) * n_bytes), "bytes": n_bytes}
        return figures


def measured_views(formulation: Formulation, sequences: Sequences) -> tuple[View, ...]:
    """The views that the formulation's own terms read; what interventions show besides is not measured.

    Raises:
        PicoLMError: an intervention took a view away.
    """
    views, read = formulation.views(sequences, measure=True), {term.view for term in formulation.terms().values()}
    lost = sorted(read - {view.name for view in views})
    if lost:
        raise PicoLMError(f"an intervention took away the view '{lost[0]}', by which the loss is measured: keep it")
    return tuple(view for view in views if view.name in read)


def row_losses(objective: Objective, views: Sequence[View], config: schema.Config, device: torch.device) -> Tensor:
    """The mean loss of each row over what is scored in it, in nats, float64 [R]; as validation measures it."""
    batch_size = config.validation.batch_size or config.training.micro_batch_size or config.training.batch_size
    n_rows = views[0].n_rows
    sums, counts = (torch.zeros(n_rows, dtype=torch.float64) for _ in range(2))
    with torch.no_grad(), eager_twin(objective, device):
        for view in views:
            losses = [_token_losses(objective, part.to(device)) for part in view.cut(batch_size)]
            table = torch.cat(losses).double().cpu()
            sums += table.nansum(dim=1)
            counts += table.isfinite().sum(dim=1)
    return sums / counts.clamp(min=1)


def _token_losses(objective: Objective, view: View) -> Tensor:
    """Of all terms that can say, position by position, side by side [R, terms T]."""
    hidden = objective.hidden(view)
    functions = [term.token_losses for term in objective.terms.values() if term.view == view.name]
    found = [function(objective.model, hidden, view.tensors) for function in functions if function is not None]
    return torch.cat(found, dim=1) if found else hidden.new_full((view.n_rows, 0), torch.nan)
