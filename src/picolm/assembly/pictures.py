"""Attention of a few heads of the newest capture on the first row of a probe, for a page."""

from __future__ import annotations

from collections.abc import Callable

from picolm.analysis.source import Capture, Source
from picolm.errors import PicoLMError
from picolm.report.insides import Insides, Picture
from picolm.report.series import number, spread

_MOST_LAYERS = 3
_MOST_HEADS = 4
_MOST_TOKENS = 32


def pictures(source: Source, insides: Insides, progress: Callable[[str, int, int], None]) -> None:
    """Add the patterns of up to four heads of the first, the middle and the last layer that was captured.

    Args:
        source: of it the newest capture is read.
        insides: gets the pictures, and a note where not all is shown.
        progress: is told (what, done, total).

    Raises:
        PicoLMError: the capture is damaged.
    """
    if not source.capture_steps:
        return
    capture = source.capture(source.capture_steps[-1])
    for probe in (name for name in capture.probes if name.partition(".")[0] != "train"):
        layers = [_layer(name) for name in capture.names("activation", probe) if name.endswith("attention.pattern")]
        if layers:
            _of_probe(source, capture, probe, sorted(layers), insides, progress)
            return


def _of_probe(
    source: Source,
    capture: Capture,
    probe: str,
    layers: list[int],
    insides: Insides,
    progress: Callable[[str, int, int], None],
) -> None:
    shown = spread(layers, _MOST_LAYERS)
    for place, layer in enumerate(shown):
        progress(f"{source.path.name}, attention", place, len(shown))
        site = f"layers.{layer}.attention.pattern"
        row = capture.read("activation", [site], probe)[site][0]  # [heads, queries, keys]
        whole = row.shape[1] == row.shape[2]
        keys = _tokens(source, capture, probe, min(row.shape[2], _MOST_TOKENS))
        n_queries = min(row.shape[1], _MOST_TOKENS)
        # Where positions were chosen, a query is the place in that choice.
        queries = keys if whole else [f"captured {query}" for query in range(n_queries)]
        for head in range(min(row.shape[0], _MOST_HEADS)):
            values = [[number(value) for value in line] for line in row[head, :n_queries, : len(keys)].tolist()]
            insides.pictures.append(Picture(layer, head, probe, capture.step, queries, keys, values))
    progress(f"{source.path.name}, attention", len(shown), len(shown))
    insides.notes.append(
        f"Attention: of layers {', '.join(map(str, shown))} the first {_MOST_HEADS} heads at most, on the first "
        f"{_MOST_TOKENS} tokens of the first row of '{probe}' at most."
    )


def _layer(name: str) -> int:
    return int(name.split(".")[1])


def _tokens(source: Source, capture: Capture, probe: str, n: int) -> list[str]:
    """Names of the first positions: their number, and their text where it is known."""
    try:
        rows = capture.tokens(probe)
        stored = source.probe(probe.partition(".")[0]) if rows is None else None
        ids = rows if stored is None else stored.input_ids
    except PicoLMError:
        ids = None
    if ids is None or source.tokenizer is None:
        return [str(place) for place in range(n)]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source.tokenizer))
    # With its number, since a text says the same word twice.
    return [
        f"{place} {tokenizer.decode([token], skip_special_tokens=False).strip()}"
        for place, token in enumerate(ids[0, :n].tolist())
    ]
