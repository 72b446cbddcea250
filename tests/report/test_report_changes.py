"""The table of interventions on the page."""

from typing import Any

from picolm.report.changes import interventions
from picolm.report.record import Record
from picolm.report.sections import summary


def record(identity: dict[str, Any], train: list[dict[str, Any]]) -> Record:
    return Record("run", identity, [], train, [], [], [], [], [], [], [], None)


def line(step: int, *events: Any) -> dict[str, Any]:
    return {"event": "train", "step": step, "interventions": list(events)}


LISTED = [
    {"use": "freeze", "name": "freeze", "until": 5, "parameters": ["layers.0"]},
    {"use": "<b>x</b>.py:X", "name": "x", "sha256": "0" * 64, "rank": 4},
]


def test_each_intervention_has_its_settings_and_what_it_did() -> None:
    noise = {"intervention": "x", "event": "noise", "norm": 1.0}
    thawed = {"intervention": "freeze", "event": "thawed"}
    page = str(
        interventions(record({"interventions": LISTED}, [line(1, noise), line(2, noise, thawed), line(1234, noise)]))
    )
    assert "parameters = [&#x27;layers.0&#x27;]" in page and "until = 5" in page and "rank = 4" in page
    assert "thawed at step 2" in page and "noise 3 times, steps 1 to" in page
    assert "<b>" not in page and "0000" not in page.replace("00000000", "")


def test_a_run_without_any_has_no_table_and_odd_records_do_no_harm() -> None:
    assert not interventions(record({}, []))
    assert not interventions(record({"interventions": []}, []))
    page = str(
        interventions(record({"interventions": [*LISTED, 3]}, [line(1, 7, None), {"step": 2, "interventions": 5}]))
    )
    assert "freeze" in page


def test_the_summary_says_what_a_run_was_forked_from() -> None:
    text = summary(record({"parent": {"name": "old", "step": 40}}, [line(50)]))
    assert text.startswith("A language model, forked from old at step 40, trained for 50 steps")
