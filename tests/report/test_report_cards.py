"""Cards of an experiment: the card of the model, its numbers and curves; runs and files of others stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.experiments.found import LOSS, findings

import picolm
from picolm.errors import PicoLMError
from picolm.experiments.findings import CurvePanel, RunRecord
from picolm.experiments.quantity import Number, Quantity
from picolm.experiments.statistics.curve import Curve
from picolm.report.cards import write_cards


@pytest.fixture(scope="module")
def runs(small_training: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = {**small_training, "schedule.warmup_steps": 1, "training.steps": 2, "training.batch_size": 4}
    folder = tmp_path_factory.mktemp("runs")
    picolm.train(picolm.load_config(None, values), name="plain.seed0", runs_dir=folder)
    return folder


def test_each_finished_run_has_a_card_with_numbers_and_curves_and_is_left_as_it_is(runs: Path, tmp_path: Path) -> None:
    curve = Curve.of(np.array([0.0, 1.0, 2.0]), np.array([5.0, 4.0, 3.25]))
    panels = [
        CurvePanel(quantity, quantity.curve, "", "steps", {"plain": {"seed0": curve}}, {}, {}, {})
        for quantity in (Quantity(validation="loss"), Quantity(metric="per", site="layers.0"))
    ]
    made = (
        RunRecord("plain.seed0", "plain", "", "seed0", "finished", 2, 2, None, {LOSS: Number(3.25)}),
        RunRecord("smoothed.seed0", "smoothed", "", "seed0", "stopped", 1, 2, None, {}),
    )
    found = replace(findings(), runs=made, panels=tuple(panels))
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    (card,) = write_cards(found, tmp_path / "cards", runs)
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before
    text = card.read_text()
    assert card.name == "plain.seed0.md" and "# smoothing: plain.seed0" in text and "## Training" in text
    assert f"| {LOSS} | 3.25" in text
    assert text.count("![") == 1, "of the loss; what is inside stands on the page of the experiment"
    picture = text.partition("](")[2].partition(")")[0]
    assert "validation loss" in (tmp_path / "cards" / picture).read_text()
    # Again they are replaced; what somebody else put there is not.
    assert write_cards(found, tmp_path / "cards", runs) == [card]
    card.write_text("mine")
    with pytest.raises(PicoLMError, match="no card that PicoLM wrote"):
        write_cards(found, tmp_path / "cards", runs)
    assert card.read_text() == "mine"
