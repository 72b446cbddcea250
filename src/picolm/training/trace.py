"""What a run sees, and when: the documents of a step's batch, and the steps at which a document is drawn."""

from __future__ import annotations

import difflib
from itertools import groupby

import pyarrow.compute as pc

from picolm.data.rows import Rows
from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.seams import Plan
from picolm.text.document import JSON
from picolm.text.tokenizer import Tokenizer

_SHOWN_TOKENS = 12
_COMPARED_IDS = 20_000


class Trace:
    """Looks up what a plan draws, without training.

    Args:
        plan: which rows each step draws.
        rows: the rows.
        split: where they come from.
        tokenizer: to show the first words of a passage.
        steps: of the whole run.
    """

    def __init__(self, plan: Plan, rows: Rows, split: Split, tokenizer: Tokenizer, steps: int) -> None:
        self.plan, self.rows, self.split, self.tokenizer, self.steps = plan, rows, split, tokenizer, steps

    def step(self, step: int) -> dict[str, JSON]:
        """Say which documents a step's batch holds.

        Returns:
            `step`, and `sequences`: for each its `place` in the batch, its `row` and its `documents`: `id`, `domain`,
            `source`, `number` (index in the split), `start` and `stop` (tokens of the row), `text` (the first words).

        Raises:
            PicoLMError: the run has no such step.
        """
        if not 0 <= step < self.steps:
            raise PicoLMError(f"the run has the steps 0 to {self.steps - 1}, not {step}")
        sequences: list[JSON] = [
            {"place": place, "row": row, "documents": self._documents_of(row)}
            for place, row in enumerate(self.plan.rows(step).tolist())
        ]
        return {"step": step, "sequences": sequences}

    def document(self, id: str) -> dict[str, JSON]:
        """Say at which steps a document is seen.

        Returns:
            `id`, `steps` (of the run), and `documents`, one for each that has this id: `number`, `domain`, `source`,
            `tokens`, `rows` (those that hold a part of it) and `draws`: `step`, `place` in the batch, `row`, in order.

        Raises:
            PicoLMError: no training document has this id.
        """
        ids = self.split.documents()["id"]
        numbers = pc.indices_nonzero(pc.equal(ids, id)).to_pylist()
        if not numbers:
            close = difflib.get_close_matches(id, ids.slice(0, _COMPARED_IDS).to_pylist(), n=1)
            example = f"did you mean '{close[0]}'?" if close else f"they look like '{ids[0].as_py()}'"
            raise PicoLMError(f"no training document has the id '{id}' (held-out documents are not drawn); {example}")
        return {"id": id, "steps": self.steps, "documents": [self._seen(number) for number in numbers]}

    def _seen(self, number: int) -> JSON:
        rows = self.rows.of_document(number)
        start, stop = self.split.document_span(number)
        return {
            **self._facts(number),
            "tokens": stop - start,
            "rows": rows.tolist(),
            "draws": [dict(draw._asdict()) for draw in self.plan.draws(rows, self.steps)],
        }

    def _documents_of(self, row: int) -> list[JSON]:
        found: list[JSON] = []
        for number, group in groupby(self.rows.passages(row), key=lambda passage: passage.document):
            passages = list(group)
            # A domain's first row begins with a separator that lies elsewhere: the last part is the document's own.
            own = passages[-1]
            shown = self.split.tokens(own.start, min(own.stop, own.start + _SHOWN_TOKENS))
            found.append(
                {
                    **self._facts(number),
                    "start": passages[0].place,
                    "stop": own.place + own.stop - own.start,
                    "text": self.tokenizer.decode(shown),
                }
            )
        return found

    def _facts(self, number: int) -> dict[str, JSON]:
        table = self.split.documents()
        return {name: table[name][number].as_py() for name in ("id", "domain", "source")} | {"number": number}
