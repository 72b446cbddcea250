"""The probe text of a task that looks at every token: documents of any source, or those that a run holds out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from picolm.config.schema import Data
from picolm.config.section import Count, Section
from picolm.errors import PicoLMError
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.located import LocatedText, locate_documents, locate_held_out
from picolm.evaluation.positions import Reading, read_positions
from picolm.evaluation.scoring import FirstToken
from picolm.evaluation.task import Material, Subject
from picolm.evaluation.texts import limited, source_documents
from picolm.evaluation.windows import reach, windows
from picolm.runs.digest import sha256_of_json
from picolm.text.sources import expand


class ProbeSettings(Section):
    """Which texts are read, and how."""

    first_token: FirstToken = Field("bos", description="`bos`: every token is scored; `none`: all but the first")
    window: Count = Field(0, description="positions read at once; 0: the model's own")
    stride: Count = Field(0, description="tokens by which windows of a long text move on; 0: half a window")
    tokens_per_domain: Count = Field(10_000, description="documents are drawn while they fit; 0: all")
    counted_tokens: Count = Field(
        20_000_000, description="training tokens that are counted, spread evenly over the corpus; 0: all"
    )
    text_field: str = Field("text", description="the field or column with the text")
    domain_field: str = Field("domain", description="the field or column with the domain")
    txt_documents: Literal["pieces", "file", "paragraphs", "lines"] = Field(
        "pieces", description="what a document is in a .txt file"
    )


class Probe:
    """Texts of which every token is scored once, given all the text before it or as much of it as a window holds.

    Args:
        settings: which texts, and how they are read.
        material: of the target, which must be causal.
        path: of a source; None: the run's held-out documents.
        words_field: the field that lists a document's words; None: words are what white space parts.

    Attributes:
        texts: in order.
        identity: everything that decides about what is found.

    Raises:
        PicoLMError: there is no text, or the model is no causal one.
    """

    def __init__(
        self, settings: ProbeSettings, material: Material, path: str | None, words_field: str | None = None
    ) -> None:
        if not material.is_causal:
            raise PicoLMError(f"{material.name} is a masked model, which has no surprisal: ask it for pairs instead")
        self._window, self._stride = reach(settings.window, settings.stride, material.window)
        self._prefix = [material.bos] if settings.first_token == "bos" else []
        texts, origin = _read(settings, material, path, words_field)
        self.texts = limited(texts, settings.tokens_per_domain) if settings.tokens_per_domain else texts
        self.identity: dict[str, Any] = {
            **settings.model_dump(mode="json"),
            "window": self._window,
            "stride": self._stride,
            "tokenizer": material.tokenizer.fingerprint,
            "vocab_size": material.tokenizer.vocab_size,
            "bos": material.bos,
            "data_sha256": origin,
        }

    @property
    def skipped(self) -> int:
        """How many tokens at the beginning of each text are not scored: 0 or 1."""
        return 1 - len(self._prefix)

    def read(self, subject: Subject, reading: Reading, columns: int, ending: Sequence[int] = ()) -> list[FloatArray]:
        """Take numbers from each scored token.

        Args:
            subject: the model.
            reading: the numbers.
            columns: how many there are, K.
            ending: tokens that are put behind each text, and scored too.

        Returns:
            For each text float64 [tokens - skipped + len(ending), K].
        """
        whole = [np.array([*self._prefix, *text.tokens, *ending], dtype=np.int64) for text in self.texts]
        parts = [list(windows(tokens, self._window, self._stride)) for tokens in whole]
        passages = [passage for part in parts for passage in part]
        subject.meter.expect(len(passages))
        found = iter(read_positions(subject.engine, passages, reading, subject.meter.advance))
        return [np.concatenate([np.empty((0, columns)), *(next(found) for _ in part)]) for part in parts]


def _read(
    settings: ProbeSettings, material: Material, path: str | None, words_field: str | None
) -> tuple[list[LocatedText], str]:
    if path is not None:
        data = Data(
            sources=(path,),
            text_field=settings.text_field,
            domain_field=settings.domain_field,
            txt_documents=settings.txt_documents,
        )
        texts = locate_documents(source_documents([path], data), material.tokenizer, words_field)
        return texts, sha256_of_json(sorted(source.sha256() for source in expand([path])))
    if words_field is not None:
        raise PicoLMError(f"words_field={words_field} needs a source whose records have it: write words:PATH")
    split = material.held_out()
    if split is None:
        raise PicoLMError(f"{material.name} has no held-out documents: name a source, as in words:corpus.jsonl")
    texts = locate_held_out(split, material.tokenizer, material.name)
    return texts, sha256_of_json([[text.id, text.domain, text.tokens.tolist()] for text in texts])
