"""What stands in `eval/` stands on the page."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picolm.report.evaluations import evaluation_figures, evaluation_tables
from picolm.report.page import write_run_report
from picolm.report.record import Record
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import FOLDER, Evaluated, Part

MakeRun = Callable[..., RunDirectory]


def add(run: RunDirectory, step: int | None, task: str, values: dict[tuple[str, str], float]) -> None:
    rows = [Evaluated(step, task, subset, metric, value, 1.5, 40) for (subset, metric), value in values.items()]
    Part(run.path / FOLDER, step, task.partition(":")[0], {"label": task}).write(rows, {"model": str(step)})


def pairs(step: int) -> dict[tuple[str, str], float]:
    return {
        ("all", "accuracy"): 50 + step / 100,
        ("all", "accuracy_untrained"): 49.0,
        ("all", "ties_untrained"): 3.0,
        ("term/binding", "accuracy"): 40 + step / 100,
        ("term/island_effects", "accuracy"): 60.0,
        ("paradigm/adjunct_island", "accuracy"): 61.0,
    }


@pytest.fixture
def asked(make_run: MakeRun) -> RunDirectory:
    run = make_run()
    for step in (0, 1, 64, 2000):
        add(run, step, "pairs:blimp", pairs(step))
    add(run, 2000, "perplexity", {("all", "loss"): 3.25, ("domain/news", "loss"): 3.5})
    return run


def test_curves_hold_what_the_tables_say(asked: RunDirectory) -> None:
    (figure,) = evaluation_figures([Record.read(asked)])
    assert figure.title == "pairs:blimp", "one step is no curve"
    assert [view.label for view in figure.views] == ["accuracy", "accuracy by term"]
    everything, by_term = figure.views
    assert [trace.name for trace in everything.traces] == ["all", "untrained"]
    assert everything.traces[0].series.steps == [0, 1, 64, 2000]
    assert everything.traces[0].series.values == [50.0, 50.01, 50.64, 70.0]
    assert [trace.name for trace in by_term.traces] == ["binding", "island_effects"]
    assert everything.xaxis["type"] == "log", "from 1 to 2,000"


def test_tables_show_the_newest_step_without_single_paradigms(asked: RunDirectory) -> None:
    page = evaluation_tables(Record.read(asked))
    assert "pairs:blimp, after step 2,000" in page and "perplexity, after step 2,000" in page
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page)
    assert "70 ± 1.5" in cells and "3.25 ± 1.5" in cells and "term/binding" in cells
    assert not {"adjunct_island", "paradigm/adjunct_island", "ties untrained"} & set(cells)


def test_subsets_of_equal_rank_share_one_view(make_run: MakeRun) -> None:
    run = make_run()
    for step in (10, 20):
        add(run, step, "ner:en", {("en_ewt", "f1"): 30.0 + step, ("tl_trg", "f1"): 20.0, ("en_ewt", "recall"): 1.0})
    (figure,) = evaluation_figures([Record.read(run)])
    assert [(view.label, [trace.name for trace in view.traces]) for view in figure.views] == [
        ("f1", ["en_ewt", "tl_trg"])
    ]


def test_hostile_names_stay_text(make_run: MakeRun, tmp_path: Path) -> None:
    run, evil = make_run(), "</script><script>alert(1)</script>"
    for step in (1, 2):
        add(run, step, f"pairs:{evil}", {(f"term/{evil}", "accuracy"): 1.0, ("all", "accuracy"): 2.0})
    source = write_run_report(run, tmp_path / "page.html").read_text()
    assert evil not in source and "alert(1)" in source


def test_a_run_that_was_asked_nothing_has_no_such_section(make_run: MakeRun, tmp_path: Path) -> None:
    assert "<h2>Evaluation</h2>" not in write_run_report(make_run(), tmp_path / "page.html").read_text()


def test_a_model_of_no_known_step_has_its_table(make_run: MakeRun) -> None:
    run = make_run()
    add(run, None, "pairs:blimp", {("all", "accuracy"): 55.0})
    record = Record.read(run)
    assert evaluation_figures([record]) == []
    assert "<h3>pairs:blimp</h3>" in evaluation_tables(record)


def test_the_page_holds_the_figures(asked: RunDirectory, tmp_path: Path) -> None:
    source = write_run_report(asked, tmp_path / "page.html").read_text()
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', source, re.DOTALL)
    figures: Any = json.loads(found.group(1)) if found else []
    assert "evaluation-0" in [figure["key"] for figure in figures]


def test_groups_of_several_runs_are_dots_at_the_last_step_of_each(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two")]
    for run, steps in zip(runs, ((64, 2000), (64,)), strict=True):
        for step in steps:
            add(run, step, "pairs:blimp", pairs(step))
    (figure,) = evaluation_figures([Record.read(run) for run in runs])
    labels = [view.label for view in figure.views]
    assert labels[:2] == ["accuracy", "accuracy by term, last step of each run"]
    assert "accuracy, term/binding" in labels
    first, second = (trace.as_plotly() for trace in figure.views[1].traces)
    assert [first["name"], second["name"]] == ["one, step 2,000", "two, step 64"]
    assert first["customdata"] == ["binding", "island effects"]
    assert (first["x"], second["x"]) == ([60.0, 60.0], [40.64, 60.0])
    assert first["error_x"]["array"] == [1.5, 1.5]
    assert set(first["y"]).isdisjoint(second["y"]), "equal values do not hide each other"
    assert first["marker"]["symbol"] != second["marker"]["symbol"]


def test_what_one_run_was_asked_once_compares_nothing(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two")]
    add(runs[0], 64, "ner:en", {("en_ewt", "f1"): 30.0})
    assert evaluation_figures([Record.read(run) for run in runs]) == []
