"""`picolm experiment report`: the page of an experiment, and figures of it for papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.experiments.synthetic import ending_at, make

Call = Callable[..., tuple[int, str, str]]


def test_figures_are_written_beside_the_page_and_over_nothing_of_others(call: Call, tmp_path: Path) -> None:
    folder = make(tmp_path / "e", lambda run: ending_at(3.0 + (run.arm == "hot") + 0.1 * int(run.repetition[4:])))
    figures = tmp_path / "figures"
    code, out, _ = call("experiment", "report", str(folder.path), "--figures", str(figures))
    assert code == 0 and f"figures: {figures}" in out
    names = {path.stem for path in figures.iterdir()}
    assert len(list(figures.iterdir())) == 2 * len(names)
    assert any("validation-loss" in name for name in names)
    picture = next(figures.glob("*.svg"))
    picture.write_text("mine")
    code, _, err = call("experiment", "report", str(folder.path), "--figures", str(figures))
    assert code == 2 and f"{picture.name} is there, and PicoLM has not made it" in err
    assert picture.read_text() == "mine"
