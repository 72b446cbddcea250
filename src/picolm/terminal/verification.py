"""What `picolm verify` found, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from picolm.terminal.tables import printable


def print_verification(found: Mapping[str, Any]) -> None:
    """Print `runs.verification.Verification` as plain data: a line for each damage, each note, and the sum."""
    console = Console()
    for sentence in found["damage"]:
        console.print(f"damaged: {printable(sentence)}", highlight=False, markup=False, soft_wrap=True)
    for sentence in found["notes"]:
        console.print(f"note: {printable(sentence)}", highlight=False, markup=False, soft_wrap=True)
    count = len(found["damage"])
    verdict = "whole" if not count else f"{count} {'damage' if count == 1 else 'damages'}"
    console.print(f"{found['path']}: {found['files']} files, {verdict}", highlight=False, markup=False, soft_wrap=True)
