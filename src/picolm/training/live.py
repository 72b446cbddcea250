"""The run as an intervention sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.data.prepared import TokenData
from picolm.data.rows import Rows
from picolm.errors import PicoLMError
from picolm.model.interface import LanguageModel
from picolm.randomness import derive_seed, generator
from picolm.seams import Formulation, IntArray, Objective, Reset, Run, Sequences
from picolm.text.tokenizer import Tokenizer
from picolm.training.batches import Batches, sequences_of
from picolm.training.parallel import Ranks
from picolm.training.probes import PROBE
from picolm.training.structure import Structure
from picolm.training.validation import measured_views, row_losses

Event = dict[str, Any]


class Live:
    """What all interventions of a run have in common, and what is known of it by now."""

    def __init__(
        self, config: schema.Config, *, data: TokenData, rows: Rows, tokenizer: Tokenizer, ranks: Ranks
    ) -> None:
        """Begin with what is known before anything is built.

        Args:
            config: the whole configuration.
            data: the prepared data.
            rows: of the training split.
            tokenizer: of the run.
            ranks: the processes of the run.
        """
        self.config, self.data, self.rows, self.tokenizer, self.ranks = config, data, rows, tokenizer, ranks
        self.step = 0
        self.structure: Structure | None = None
        self.batches: Batches | None = None
        self.trace: list[Event] = []
        """What interventions recorded since the last line of the log."""
        self._metadata: dict[tuple[str, str], list[Any]] = {}

    def take_trace(self) -> list[Event]:
        """What was recorded, once."""
        trace, self.trace = self.trace, []
        return trace

    def metadata(self, stream: str, field: str) -> Sequence[Any]:
        """A field of the metadata of every document that a stream may hold."""
        probe = self.config.capture.probes.get(stream.removeprefix(PROBE)) if stream.startswith(PROBE) else None
        if probe is not None and probe.sources:
            return Unknown()
        split = "train" if stream == "train" else "validation"
        if (split, field) not in self._metadata:
            table = self.data.split(split).documents()  # type: ignore[arg-type]
            found = [json.loads(text or "{}").get(field) for text in table["metadata"].to_pylist()]
            is_column = field in table.column_names and field != "metadata"
            if is_column and all(value is None for value in found):
                found = table[field].to_pylist()
            self._metadata[split, field] = found
        return self._metadata[split, field]


class Unknown(Sequence[Any]):
    """What is known of documents that come from nowhere: None for each."""

    def __getitem__(self, number: Any) -> Any:
        return None

    def __len__(self) -> int:
        return 0


class LiveRun(Run):
    """A run, as the intervention of a name sees it."""

    def __init__(self, live: Live, name: str) -> None:
        self._live, self._name = live, name
        self.config, self.tokenizer = live.config, live.tokenizer
        self.fingerprint, self.n_rows = live.data.fingerprint, live.rows.n_rows
        self.tag_names = live.data.manifest.tag_names

    @property
    def step(self) -> int:  # type: ignore[override]
        """Updates made."""
        return self._live.step

    @property
    def model(self) -> LanguageModel:  # type: ignore[override]
        """The model as it is now."""
        return self._structure.objective.model

    def rng(self, *key: str | int) -> np.random.Generator:
        """A keyed generator."""
        return generator(self.config.seeds.interventions, "intervention", self._name, *key)

    def torch_rng(self, *key: str | int) -> torch.Generator:
        """A keyed generator of PyTorch, on the CPU."""
        seed = derive_seed(self.config.seeds.interventions, "intervention", self._name, *key)
        return torch.Generator().manual_seed(seed)

    def metadata(self, stream: str, field: str) -> Sequence[Any]:
        """A field of the documents' metadata, by the number of the document in its split."""
        return self._live.metadata(stream, field)

    def sequences(self, rows: IntArray, step: int = 0) -> Sequences:
        """Rows of the training split as they lie in the data."""
        return sequences_of(self._live.rows, rows, step)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What is trained now, by name."""
        return self._structure.parameters

    def optimizer_state(self, name: str) -> dict[str, Tensor]:
        """What the optimizer keeps of a parameter."""
        return dict(self._structure.optimizer.state.get(self._parameter(name), {}))

    def reset_state(self, names: Sequence[str], policy: Reset = lambda name, state: {}) -> None:
        """Change what the optimizer keeps of parameters."""
        state = self._structure.optimizer.state
        for name in names:
            parameter = self._parameter(name)
            if parameter in state:
                kept = policy(name, dict(state.pop(parameter)))
                if kept:
                    state[parameter] = kept

    def score(self, rows: IntArray, formulation: Formulation | None = None) -> npt.NDArray[np.float64]:
        """The mean loss of each row, each rank computing its share."""
        assert self._live.batches is not None, "there is a model to score with from the first `before_step` on"
        ranks, batches = self._live.ranks, self._live.batches
        scores = torch.zeros(len(rows), dtype=torch.float64)
        first, last = len(rows) * ranks.rank // ranks.size, len(rows) * (ranks.rank + 1) // ranks.size
        if last > first:
            # What is measured is the formulation's own loss, also where training minimises another.
            asked = formulation or batches.formulation
            objective = Objective(self.model, asked.terms())
            views = measured_views(asked, batches.sequences(rows[first:last], self.step))
            scores[first:last] = row_losses(objective, views, self.config, self._structure.device)
        ranks.sum([scores])
        return scores.numpy()

    def record(self, event: str, **facts: Any) -> None:
        """Leave a trace in the log."""
        self._live.trace.append({"intervention": self._name, "event": event, **_kept(facts)})

    @property
    def _structure(self) -> Structure:
        assert self._live.structure is not None, "there is a model from the first `before_step` on"
        return self._live.structure

    def _parameter(self, name: str) -> nn.Parameter:
        parameters = self.parameters
        if name not in parameters:
            raise PicoLMError(f"the intervention {self._name} asks for '{name}', which is not trained at this step")
        return parameters[name]


def _kept(facts: Mapping[str, Any]) -> Event:
    """The facts as they are now: a tensor may be a part of the model, which moves on before the log is written."""
    return {
        key: fact.detach().clone()
        if isinstance(fact, Tensor)
        else fact.item()
        if isinstance(fact, np.generic)
        else fact
        for key, fact in facts.items()
    }
