"""A forecast of what a run takes, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picolm.terminal.tables import print_table, readable_duration, readable_size


def print_forecast(forecast: Mapping[str, Any]) -> None:
    """Print `training.forecast.Forecast` as plain data, one line for each figure."""
    memory = {name: readable_size(size) for name, size in forecast["memory"].items() if name != "total" and size}
    rows = [
        [
            "parameters",
            f"{forecast['parameters']['total']:,}",
            f"{forecast['parameters']['not_embedding']:,} in blocks",
        ],
        ["tokens", f"{forecast['tokens']:,}", f"{forecast['passes']:,.2f} passes over the data"],
        ["training", f"{forecast['flops']:.2e} FLOP", "matrix products, forward and backward"],
        ["memory", readable_size(forecast["memory"]["total"]), ", ".join(f"{n} {size}" for n, size in memory.items())],
        ["disk", readable_size(forecast["disk_bytes"]), "checkpoints, report, log"],
        ["time", readable_duration(forecast["seconds"]), "rough: from a short measurement of this device"],
    ]
    if forecast["capture_bytes"]:
        rows.insert(-1, ["captures", readable_size(forecast["capture_bytes"]), "on disk besides"])
    print_table(["forecast", "", "of which"], rows)


def forecast_line(forecast: Mapping[str, Any]) -> str:
    """The same in one line, for the beginning of a run."""
    captures = f" and {readable_size(forecast['capture_bytes'])} of captures" if forecast["capture_bytes"] else ""
    return (
        f"forecast: {forecast['flops']:.1e} FLOP, {readable_size(forecast['memory']['total'])} of memory beside the "
        f"program's own, {readable_size(forecast['disk_bytes'])} on disk{captures}, "
        f"very roughly {readable_duration(forecast['seconds'])}"
    )
