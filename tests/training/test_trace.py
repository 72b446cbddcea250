"""The trace says what the trainer is given: compared with the rows that are read, and with a look at every step."""

import json
from pathlib import Path
from typing import Any

import pytest

import picolm
from picolm.assembly.ingredients import order, prepare, reopen
from picolm.assembly.tracing import trace
from picolm.errors import PicoLMError


@pytest.fixture(params=[None, {"up": 1.0, "down": 3.0}], ids=["whole", "mixture"])
def overrides(request: pytest.FixtureRequest, small_run: dict[str, Any]) -> dict[str, Any]:
    return {**small_run, "data.mixture": request.param, "training.steps": 20}


def test_a_step_is_traced_to_the_documents_of_its_rows(overrides: dict[str, Any]) -> None:
    ingredients = prepare(picolm.load_config(None, overrides))
    split, plan = ingredients.data.split("train"), order(ingredients)
    traced = trace("demo", {"tokenizer": {"kind": "bpe"}, **overrides})
    table = split.documents().to_pylist()
    for step in (0, 7, 19):
        found: Any = traced.step(step)
        ids = plan.rows(step)
        assert [sequence["row"] for sequence in found["sequences"]] == ids.tolist()
        for sequence, numbers, tokens in zip(
            found["sequences"], ingredients.rows.read_documents(ids), ingredients.rows.read(ids), strict=True
        ):
            rebuilt: list[int] = []
            for document in sequence["documents"]:
                assert document["start"] == len(rebuilt)
                rebuilt += [document["number"]] * (document["stop"] - document["start"])
                facts = table[document["number"]]
                assert {name: document[name] for name in ("id", "domain", "source")}.items() <= facts.items()
                shown = tokens[document["start"] : min(document["stop"], document["start"] + 12)]
                assert ingredients.tokenizer.decode(shown).startswith(document["text"][:8])
            assert rebuilt == numbers.tolist()


def test_a_document_is_seen_where_its_steps_hold_it(overrides: dict[str, Any]) -> None:
    traced = trace("demo", overrides)
    seen: dict[str, set[tuple[int, int, int]]] = {}
    for step in range(20):
        found: Any = traced.step(step)
        for sequence in found["sequences"]:
            for document in sequence["documents"]:
                seen.setdefault(document["id"], set()).add((step, sequence["place"], sequence["row"]))
    for id in traced.split.documents()["id"].to_pylist():
        of_document: Any = traced.document(id)
        (document,) = of_document["documents"]
        draws = [(draw["step"], draw["place"], draw["row"]) for draw in document["draws"]]
        assert draws == sorted(seen.get(id, set()))


def test_what_is_not_there_is_named(overrides: dict[str, Any]) -> None:
    traced = trace("demo", overrides)
    with pytest.raises(PicoLMError, match="the run has the steps 0 to 19, not 20"):
        traced.step(20)
    id = traced.split.documents()["id"][0].as_py()
    with pytest.raises(PicoLMError, match=f"no training document has the id '{id}x' .*; did you mean"):
        traced.document(f"{id}x")


def test_a_run_is_traced_on_the_data_that_it_was_trained_on(
    small_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = picolm.train(picolm.load_config(None, {**small_run, "training.steps": 4}), name="one", runs_dir=tmp_path)
    fresh = trace("demo", {**small_run, "training.steps": 4})
    assert trace(run.path).step(3) == fresh.step(3)
    with pytest.raises(PicoLMError, match="is a run, whose configuration is fixed"):
        trace(run.path, ["training.steps=5"])
    identity = json.loads((run.path / "run.json").read_text())
    assert identity["data"]["fingerprint"] == reopen(run).data.fingerprint
    identity["data"]["directory"] = str(tmp_path / "gone")
    (run.path / "run.json").write_text(json.dumps(identity))
    assert trace(run.path).step(3) == fresh.step(3)
    identity["data"]["fingerprint"] = "0" * 64
    (run.path / "run.json").write_text(json.dumps(identity))
    with pytest.raises(PicoLMError, match=r"but .*one was trained on 000000000000: restore the data of the run"):
        trace(run.path)
