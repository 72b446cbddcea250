"""The notebook: what is written is read again, what a hand may break is said, and nothing of the author's is lost."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from picolm.errors import PicoLMError
from picolm.experiments.notebook import Notebook, read_record
from picolm.experiments.record import Record
from picolm.experiments.recording import Provenance, record_of

from .found import DIGEST, findings, sweep_findings

PLAIN: dict[str, Any] = {
    "record": 1,
    "name": "warmth",
    "date": "2026-02-28",
    "claim": "Hotter is better.",
    "numbers": [
        {
            "measure": "final validation loss",
            "arm": "hot",
            "against": "cool",
            "direction": "lower",
            "smallest": 0.01,
            "primary": True,
            "verdict": "refuted",
            "estimate": 0.3,
            "interval": [0.1, 0.5],
            "p": 0.01,
            "n": 5,
        }
    ],
    "seeds": 5,
    "finished": 10,
    "runs": 10,
    "plan": "0f" * 32,
}


def written(folder: Path, name: str = "warmth", **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, "name": name, **changes}, sort_keys=False))
    return path


def recorded(**words: Any) -> Record:
    made = Provenance("0.1.0", "abc", "a processor")
    return record_of(findings(), made, date=date(2026, 2, 3), command="picolm experiment run it.yaml", **words)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "docs" / "lab")
    made = Provenance("0.1.0", "abc", "a processor")
    for record in (recorded(), record_of(sweep_findings(), made, date=date(2026, 3, 1), command="again")):
        assert notebook.keep(record) == record == notebook.record(record.name)
    assert [record.name for record in notebook.records()] == ["widths", "smoothing"]
    # A value that is empty is a value.
    (best,) = notebook.record("widths").best
    assert best.as_good == ({"model.qk_norm": None},)


def test_a_record_can_be_written_by_hand(tmp_path: Path) -> None:
    record = read_record(written(tmp_path))
    assert record.primary is not None and record.primary.interval == (0.1, 0.5) and record.lesson == ""
    assert record.seeds.numbers == (0, 1, 2, 3, 4)


def test_the_words_of_the_author_stay_when_a_record_is_brought_up_to_date(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    notebook.keep(recorded())
    path = notebook.path_of("smoothing")
    assert "\nlesson: ''\n" in path.read_text() and "\nquestion: ''\n" in path.read_text()
    path.write_text(path.read_text().replace("lesson: ''", "lesson: |\n  Two lines,\n  by hand: kept."))
    kept = notebook.keep(recorded(question="Is it so?"))
    assert kept.lesson == "Two lines,\nby hand: kept.\n" and kept.question == "Is it so?"
    assert notebook.record("smoothing") == kept
    assert notebook.keep(recorded(lesson="Another.")).lesson == "Another."


def test_a_record_of_another_plan_is_not_touched(tmp_path: Path) -> None:
    notebook, path = Notebook(tmp_path), written(tmp_path, "smoothing")
    before = path.read_bytes()
    with pytest.raises(
        PicoLMError, match=r"is the record of another plan \(its hash is 0f0f0f0f0f0f, not abababababab"
    ):
        notebook.keep(recorded())
    assert path.read_bytes() == before
    # Of an earlier version of the same plan: what was changed since is a deviation, which the new record shows.
    assert notebook.keep(recorded(), [PLAIN["plan"]]).plan == DIGEST
    path.write_text("not: a record")
    with pytest.raises(PicoLMError, match="is no record of an experiment"):
        notebook.keep(recorded())
    assert path.read_text() == "not: a record"


def test_records_are_listed_newest_first(tmp_path: Path) -> None:
    for name, day in (("b", "2026-01-01"), ("c", "2026-03-01"), ("a", "2026-01-01")):
        written(tmp_path, name, date=day)
    (tmp_path / "README.md").write_text("prose")
    assert [record.name for record in Notebook(tmp_path).records()] == ["c", "a", "b"]
    with pytest.raises(PicoLMError, match="there is no record 'cc'"):
        Notebook(tmp_path).record("cc")
    with pytest.raises(PicoLMError, match=r"there is no lab notebook .*nowhere: `picolm experiment record"):
        Notebook(tmp_path / "nowhere").records()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"record": 2}, "record must be"),
        ({"lessons": "x"}, "unknown key 'lessons'; did you mean 'lesson'"),
        ({"date": "yesterday"}, "date must"),
        ({"plan": "abc"}, "plan must"),
        ({"finished": "ten"}, "finished must be a whole number, not 'ten'"),
        ({"numbers": [{**PLAIN["numbers"][0], "verdict": "true"}]}, "numbers.0.verdict must be one of 'supported'"),
        ({"numbers": [{**PLAIN["numbers"][0], "primary": False}]}, "must have one primary prediction, not 0"),
        ({"numbers": [{**PLAIN["numbers"][0], "interval": [1]}]}, "numbers.0.interval"),
        ({"numbers": [{**PLAIN["numbers"][0], "estimat": 1}]}, "unknown key 'numbers.0.estimat'"),
        ({"change": {"hot": {"optimizer.learning_rate": 3}}}, "change.hot.optimizer.learning_rate"),
    ],
)
def test_what_a_hand_may_break_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(PicoLMError) as caught:
        read_record(path)
    assert sentence in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_record_is_called_as_its_file(tmp_path: Path) -> None:
    path = written(tmp_path).rename(tmp_path / "cold.yaml")
    with pytest.raises(PicoLMError, match="name must be that of the file, 'cold', not 'warmth'"):
        read_record(path)


def test_every_record_of_this_project_can_be_read() -> None:
    Notebook(Path(__file__).resolve().parents[2] / "docs" / "lab").records()
