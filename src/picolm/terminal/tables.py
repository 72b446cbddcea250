"""Results on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_CURVE_POINTS = 5
_WIDEST_NAME = 13
_UNLIMITED = 10_000
# C0, DEL and C1, and the marks that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def print_json(value: object) -> None:
    """Print plain data for a program."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print rows of text; every column but the first is right-aligned if all of its cells are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        figures = index > 0 and all(cell[:1].isdigit() or cell in ("", "-") for cell in cells)
        # Where it is tight the first column, of names, breaks between words only.
        longest = 0 if index else max((len(word) for cell in cells for word in cell.split()), default=0)
        width = min(longest, _WIDEST_NAME) or None
        table.add_column(escape(column), justify="right" if figures else "left", overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console = Console()
    table.collapse_padding = (
        console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum > console.width
    )
    console.print(table, highlight=False)


def printable(text: str) -> str:
    """Text in which control characters other than newline and tab are shown, not obeyed.

    A model (or the corpus that it learnt from) may write escape sequences that move the cursor or set the title.
    """
    return "".join(c if c in "\n\t" or not _CONTROL.match(c) else repr(c)[1:-1] for c in text)


def inline(value: object) -> str:
    """A value in one line, as one would write it in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def print_run(summary: Mapping[str, Any]) -> None:
    """Print a run as `runs.summary.summarize` describes it."""
    parameters, data = summary["parameters"], summary["data"]
    facts = {
        "parameters": f"{parameters['total']:,} ({parameters['not_embedding']:,} not embeddings)",
        "data": f"{data['splits']['train']['tokens']:,} tokens in {data['splits']['train']['documents']:,} documents, "
        f"vocabulary {data['tokenizer']['vocab_size']:,}",
        "steps": f"{summary['step']:,} of {summary['steps']:,}",
        "tokens seen": f"{summary['tokens']:,}",
        "time": readable_duration(summary["seconds"]) + _at(summary["tokens_per_second"]),
        "train loss": "-" if summary["train_loss"] is None else f"{summary['train_loss']:.4f}",
        "skipped steps": str(summary["skipped"]),
        "config hash": summary["config_hash"][:12],
        **_origin(summary),
    }
    console = Console()
    console.print(f"[bold]{escape(summary['path'])}[/bold]", highlight=False)
    grid = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        grid.add_row(key, escape(value))
    console.print(grid, highlight=False)
    if summary["validation"]:
        _print_validation(summary["validation"])
        if summary["parent"]:
            _print_curve(summary["curve"], summary["parent"]["step"])
    if summary["checkpoints"]:
        _print_checkpoints(summary["checkpoints"])
    for sample in summary["samples"]:
        text = f"[bold]{escape(printable(sample['prompt']))}[/bold]{escape(printable(sample['text']))}"
        console.print(f"[dim]sample[/dim] {text}", highlight=False)


def _origin(summary: Mapping[str, Any]) -> dict[str, str]:
    """Lines about what was changed, where something was."""
    origin = {}
    if parent := summary["parent"]:
        origin["forked from"] = printable(f"{parent['name']} at step {parent['step']:,}")
    if listed := summary["interventions"]:
        origin["interventions"] = printable("; ".join(_intervention(item) for item in listed))
    return origin


def _intervention(item: Mapping[str, Any]) -> str:
    settings = (f"{key}={inline(value)}" for key, value in item.items() if key not in ("use", "name", "sha256"))
    return " ".join((item["name"], *settings))


def _print_curve(curve: Sequence[Mapping[str, Any]], forked_at: int) -> None:
    """The validation losses around a fork: what both runs share, and what came after."""
    before = [point for point in curve if point["step"] <= forked_at][-_CURVE_POINTS:]
    after = [point for point in curve if point["step"] > forked_at][:_CURVE_POINTS]
    rows = [[f"{p['step']:,}", f"{p['loss']:.4f}", "shared"] for p in before]
    rows += [[f"{p['step']:,}", f"{p['loss']:.4f}", "its own"] for p in after]
    print_table(["step", "validation loss", ""], rows)


def _print_checkpoints(checkpoints: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        [c["path"], f"{c['step']:,}", " + ".join(c["holds"]), readable_size(c["bytes"]), "; ".join(c["damage"])]
        for c in checkpoints
    ]
    # Nearly always there is none, and then the column would only be narrow.
    shown = 5 if any(row[4] for row in rows) else 4
    columns = ["checkpoint", "step", "holds", "size", "damage"]
    print_table(columns[:shown], [row[:shown] for row in rows])


def print_data(summary: Mapping[str, Any]) -> None:
    """Print prepared data as `data.summary.summarise` describes them."""
    for split, figures in summary["splits"].items():
        counts = figures["domains"] | {"all": figures}
        rows = [
            [name, f"{c['documents']:,}", f"{c['tokens']:,}", f"{c['bytes']:,}", f"{c['bytes_per_token']:.2f}"]
            for name, c in counts.items()
        ]
        used = f"{figures['vocabulary_used']:,} of {summary['vocab_size']:,} tokens of the vocabulary occur"
        print_table(["domain", "documents", "tokens", "bytes", "bytes per token"], rows, title=f"{split}: {used}")
    for sample in summary["samples"]:
        heading = f"[bold]{escape(printable(sample['id']))}[/bold] [dim]{escape(printable(sample['domain']))}[/dim]"
        Console().print(f"{heading} {escape(printable(sample['text']))}", highlight=False)


def print_step_trace(found: Mapping[str, Any]) -> None:
    """Print the documents of a batch as `training.trace.Trace.step` describes them."""
    columns = ["place", "row", "document", "domain", "source", "tokens", "begins"]
    rows = [
        [
            f"{sequence['place']}",
            f"{sequence['row']}",
            document["id"],
            document["domain"],
            document["source"],
            f"{document['start']}-{document['stop']}",
            " ".join(document["text"].split()),
        ]
        for sequence in found["sequences"]
        for document in sequence["documents"]
    ]
    print_table(columns, rows, title=f"step {found['step']}: {len(found['sequences'])} sequences")


def print_document_trace(found: Mapping[str, Any]) -> None:
    """Print when documents are seen as `training.trace.Trace.document` describes it."""
    for document in found["documents"]:
        drawn = f"{len(document['rows'])} rows, drawn {len(document['draws'])} times in {found['steps']} steps"
        facts = f"{document['domain']}, {document['source']}: {document['tokens']} tokens in {drawn}"
        Console().print(f"[bold]{escape(found['id'])}[/bold] {escape(facts)}", highlight=False, soft_wrap=True)
        print_table(
            ["step", "place", "row"],
            [[str(draw["step"]), str(draw["place"]), str(draw["row"])] for draw in document["draws"]],
        )


def _print_validation(validation: Mapping[str, Any]) -> None:
    first, last = validation["first"], validation["last"]
    columns = ["validation", f"loss, step {first['step']}", f"loss, step {last['step']}", "perplexity", "bits per byte"]
    rows = [["all", f"{first['loss']:.4f}", f"{last['loss']:.4f}", "", ""]]
    for name, figures in last["domains"].items():
        bits = figures.get("bits_per_byte")
        before = first["domains"].get(name, {}).get("loss")
        rows.append(
            [
                name,
                "-" if before is None else f"{before:.4f}",
                f"{figures['loss']:.4f}",
                f"{figures['perplexity']:.2f}",
                "-" if bits is None else f"{bits:.3f}",
            ]
        )
    if first["step"] == last["step"]:
        columns, rows = columns[:1] + columns[2:], [row[:1] + row[2:] for row in rows]
    print_table(columns, rows)


def readable_duration(seconds: float | None) -> str:
    """Seconds, with minutes, hours and days where there are any."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24:,} days {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _at(tokens_per_second: float | None) -> str:
    return "" if tokens_per_second is None else f" at {tokens_per_second:,.0f} tokens/s"


def readable_size(n_bytes: float) -> str:
    """Bytes in the unit that leaves few digits."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} GB"
