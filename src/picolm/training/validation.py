"""Loss on held-out documents, domain by domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picolm.config import schema
from picolm.data.rows import ValidationRows
from picolm.data.split import Split
from picolm.seams import Formulation, Objective, Sequences, View
from picolm.training.numerics import autocast


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain's held-out rows as views, and how many bytes of text they hold."""

    views: tuple[View, ...]
    n_bytes: int


class Validation:
    """Scores the same documents each time it is asked."""

    def __init__(self, split: Split, formulation: Formulation, config: schema.Config) -> None:
        self.training, self.scores_every_token = config.training, formulation.scores_every_token
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
            self.domains[name] = Domain(formulation.views(sequences, measure=True), rows.n_bytes)

    def __call__(self, objective: Objective, device: torch.device) -> dict[str, Any]:
        """Measure every domain.

        Returns:
            `loss` (mean over all scored tokens, nats) and `domains`: for each its `loss`, `perplexity`, `tokens` scored
            and, where every token is scored, `bits_per_byte` and `bytes`.
        """
        was_training = objective.training
        objective.eval()
        # On the eager twin: the last rows of a domain are fewer, and each new shape would be compiled.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            results = {name: self._measure(objective, domain, device) for name, domain in self.domains.items()}
        objective.train(was_training)
        tokens = sum(result["tokens"] for result in results.values())
        total = math.fsum(result["loss"] * result["tokens"] for result in results.values())
        return {"loss": total / max(tokens, 1), "domains": results}

    def _measure(self, objective: Objective, domain: Domain, device: torch.device) -> dict[str, Any]:
        sums: list[Tensor] = []
        for view in domain.views:
            for part in view.cut(self.batch_size):
                with autocast(self.training, device):
                    terms = objective(part.to(device))
                sums.append(objective.total(terms, units=1))
        nats = math.fsum(torch.stack(sums).tolist())
        return self._figures(nats, sum(view.n_units for view in domain.views), domain.n_bytes)

    def _figures(self, nats: float, tokens: int, n_bytes: int) -> dict[str, Any]:
        loss = nats / max(tokens, 1)
        # Beyond e^700 a double overflows; such a perplexity says no more than "untrained".
        figures: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": tokens}
        if self.scores_every_token:
            figures |= {"bits_per_byte": nats / (math.log(2) * n_bytes), "bytes": n_bytes}
        return figures
