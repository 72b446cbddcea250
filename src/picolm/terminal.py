"""What the command line prints: tables, JSON, progress. Results go to standard output, messages to standard error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from picolm.training.display import QUIET_SECONDS


def messages() -> Console:
    """The console for everything that is not a result."""
    return Console(stderr=True)


def print_json(value: object) -> None:
    """Print plain data for a program."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print rows of text; every column but the first is right-aligned if all of its cells are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        figures = index > 0 and all(cell[:1].isdigit() or cell in ("", "-") for cell in cells)
        table.add_column(escape(column), justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table, highlight=False)


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
        "time": _duration(summary["seconds"]) + _at(summary["tokens_per_second"]),
        "train loss": "-" if summary["train_loss"] is None else f"{summary['train_loss']:.4f}",
        "skipped steps": str(summary["skipped"]),
        "config hash": summary["config_hash"][:12],
    }
    print_table([summary["path"], ""], [[key, value] for key, value in facts.items()])
    if summary["validation"]:
        _print_validation(summary["validation"])
    if summary["checkpoints"]:
        rows = [[c["path"], _size(c["bytes"])] for c in summary["checkpoints"]]
        print_table(["checkpoint", "size"], rows)
    for sample in summary["samples"]:
        text = f"[bold]{escape(sample['prompt'])}[/bold]{escape(sample['text'])}"
        Console().print(f"[dim]sample[/dim] {text}", highlight=False)


def print_data(summary: Mapping[str, Any]) -> None:
    """Print prepared data as `data.summary.summarise` describes them."""
    for split, figures in summary["splits"].items():
        rows = [
            [
                name,
                f"{d['documents']:,}",
                f"{d['tokens']:,}",
                f"{d['bytes']:,}",
                f"{d['bytes'] / max(d['tokens'], 1):.2f}",
            ]
            for name, d in figures["domains"].items()
        ]
        title = f"{split}: {figures['documents']:,} documents, {figures['tokens']:,} tokens"
        print_table(["domain", "documents", "tokens", "bytes", "bytes per token"], rows, title=title)
        for sample in figures.get("samples", []):
            Console().print(f"[dim]{escape(sample['id'])}[/dim] {escape(sample['text'])}", highlight=False)


class PreparationProgress:
    """Shows how far the preparation of data is: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._last_line = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` bytes of a phase are done."""
        now = time.monotonic()
        share = f"{100 * done / max(total, 1):.0f}%"
        if self._console.is_terminal:
            end = "\n" if done >= total else "\r"
            self._console.print(f"{phase} {share}  ({_size(done)} of {_size(total)})   ", end=end, highlight=False)
        elif phase != self._phase or now - self._last_line >= QUIET_SECONDS:
            self._console.print(
                f"{phase} ({_size(total)})" if phase != self._phase else f"{phase} {share}", highlight=False
            )
            self._last_line = now
        self._phase = phase


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
    print_table(columns, rows)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _at(tokens_per_second: float | None) -> str:
    return "" if tokens_per_second is None else f" at {tokens_per_second:,.0f} tokens/s"


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} GB"
