"""What a search chooses: by hand, with ties, runs that are not finite, and none that is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.synthetic import design_of, ending_at, register, write_run

from picolm.errors import PicoLMError
from picolm.experiments.choosing import choose, edges
from picolm.experiments.design import Choice, Design
from picolm.experiments.folder import ExperimentFolder

KEY = "optimizer.weight_decay"
SEEDS = [90, 91]


def searched(path: Path, losses: dict[str, dict[float, list[float]]], **tune: Any) -> tuple[ExperimentFolder, Design]:
    """An experiment whose search is made: losses by arm and value, one of each seed."""
    grid = {KEY: list(next(iter(losses.values())))}
    design = design_of(tune={"grid": grid, "seeds": SEEDS, **tune})
    folder = register(path, design)
    for run in design.search():
        loss = losses[run.arm][run.choice[KEY]][SEEDS.index(int(run.repetition.removeprefix("seed")))]
        write_run(folder.run_path(run.name), run.config.model_dump(mode="json"), ending_at(loss))
    return folder, design


def chosen(path: Path, losses: dict[str, dict[float, list[float]]], **tune: Any) -> dict[str, Choice]:
    return {arm: choice for (arm, _), choice in choose(*searched(path, losses, **tune)).items()}


def test_the_mean_over_the_seeds_of_the_search_decides_arm_by_arm(tmp_path: Path) -> None:
    losses = {
        "cool": {0.0: [3.0, 3.4], 0.1: [2.0, 4.2], 0.2: [3.3, 3.3]},
        "hot": {0.0: [3.0] * 2, 0.1: [2.0] * 2, 0.2: [4.0] * 2},
    }
    assert chosen(tmp_path / "low", losses) == {"cool": {KEY: 0.1}, "hot": {KEY: 0.1}}
    assert chosen(tmp_path / "high", losses, choose="highest") == {"cool": {KEY: 0.2}, "hot": {KEY: 0.2}}


@pytest.mark.parametrize("choose", ["lowest", "highest"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_loses_and_the_first_of_equals_wins(tmp_path: Path, choose: str, bad: float) -> None:
    losses = {
        "cool": {0.0: [bad, 3.0], 0.1: [3.0, 3.0], 0.2: [3.0, 3.0]},
        "hot": {0.0: [3.0] * 2, 0.1: [3.0] * 2, 0.2: [3.0, bad]},
    }
    assert chosen(tmp_path / "e", losses, choose=choose) == {"cool": {KEY: 0.1}, "hot": {KEY: 0.0}}


def test_a_choice_at_the_edge_of_its_grid_is_told(tmp_path: Path) -> None:
    losses = {
        "cool": {0.0: [3.0, 3.0], 0.1: [2.0, 2.0], 0.2: [3.0, 3.0]},
        "hot": {0.0: [3.0] * 2, 0.1: [2.0] * 2, 0.2: [1.0] * 2},
    }
    folder, design = searched(tmp_path / "e", losses)
    tune = design.plan.tune
    assert tune is not None
    assert list(edges(tune, choose(folder, design))) == [
        f"for arm 'hot' the search chose the highest {KEY} that it tried, 0.2: a better one may lie beyond"
    ]
    # Two numbers are both ends, and switches and names have no order.
    for grid in ((0.1, 0.2), ("a", "b", "c"), (False, True)):
        other = tune.model_copy(update={"grid": {KEY: grid}})
        assert not list(edges(other, {("hot", ""): {KEY: grid[-1]}}))


def test_a_search_without_a_finite_value_chooses_nothing(tmp_path: Path) -> None:
    losses = {"cool": {0.0: [3.0, 3.0]}, "hot": {0.0: [3.0, math.nan]}}
    with pytest.raises(
        PicoLMError, match=r"chooses nothing for arm 'hot': no combination has a finite final validation"
    ):
        choose(*searched(tmp_path / "e", losses))


def test_a_run_that_is_not_there_loses_too(tmp_path: Path) -> None:
    losses = {arm: {0.0: [2.0, 2.0], 0.1: [3.0, 3.0]} for arm in ("cool", "hot")}
    folder, design = searched(tmp_path / "e", losses)
    gone = next(run for run in design.search() if run.arm == "hot" and run.choice[KEY] == 0.0)
    folder.run_path(gone.name).rename(tmp_path / "gone")
    found = choose(folder, design)
    assert found["cool", ""] == {KEY: 0.0} and found["hot", ""] == {KEY: 0.1}
