"""Items of evaluations: the tasks leave what figures are means of, and verdicts rest on items crossed with seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.experiments.synthetic import STEPS, design_of, ending_at, register, write_run

import picolm
from picolm.config.loading import load_config
from picolm.experiments.assessment import assess
from picolm.experiments.evidence import Evidence
from picolm.experiments.findings import RunRecord
from picolm.experiments.items import Items, items_of
from picolm.experiments.observation import Observation
from picolm.experiments.quantity import Number, Quantity
from picolm.experiments.statistics.crossed import crossed_difference
from picolm.runs.evaluations import Evaluated, Part, table_bytes

ACCURACY = Quantity.model_validate({"evaluation": "pairs:x", "score": "accuracy_over_pairs"})


@pytest.fixture(scope="module")
def evaluated(
    small_training: dict[str, object], corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Evaluated]]:
    folder = tmp_path_factory.mktemp("items")
    config = load_config("demo", {**small_training, "training.steps": 3})
    run = picolm.train(config, name="run", runs_dir=folder)
    lines = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()[:30]]
    pairs = [
        {"sentence_good": line["text"][:20], "sentence_bad": line["text"][5:25], "UID": "ab"[n > 20], "pairID": str(n)}
        for n, line in enumerate(lines)
    ]
    labelled = [{"text": line["text"][:30], "label": line["domain"]} for line in lines]
    for name, records in (("pairs", pairs), ("labelled", labelled)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    texts = folder / "labelled.jsonl"
    tasks = [
        f"pairs:{folder / 'pairs.jsonl'} controls=[] name=duels",
        "tokens",
        "words",
        f"classification:{texts} test={texts} seeds=[0,1] mode=head epochs=1 controls=[]",
    ]
    return run.path, picolm.evaluate(run.path, tasks)


@pytest.mark.parametrize(
    ("task", "metric", "subset"),
    [
        ("duels", "accuracy", "all"),
        ("duels", "accuracy", "paradigm/b"),
        ("duels", "accuracy_over_pairs", "all"),
        ("tokens", "surprisal", "all"),
        ("tokens", "right", "domain/up"),
        ("words", "surprisal", "domain/down"),
        ("classification", "accuracy", "all"),
    ],
)
def test_the_mean_of_items_is_the_figure(
    evaluated: tuple[Path, list[Evaluated]], task: str, metric: str, subset: str
) -> None:
    path, rows = evaluated
    row = next(one for one in rows if one.task.startswith(task) and (one.metric, one.subset) == (metric, subset))
    quantity = Quantity.model_validate({"evaluation": row.task, "score": metric, "subset": subset})
    assert row.step is not None
    items = items_of(path, quantity, row.step, row.value)
    assert items is not None and len(items.scores) == row.n
    assert np.mean(list(items.scores.values())) == pytest.approx(row.value, abs=3e-4)
    # Tokens and words of a document are drawn together.
    n_groups = len(set(items.groups))
    assert 1 < n_groups < row.n if task in ("tokens", "words") else n_groups == 0
    # What they are not the mean of is another figure.
    assert items_of(path, quantity, row.step, row.value + 1) is None
    assert items_of(path, quantity, row.step + 1, row.value) is None


def test_figures_without_items_have_none(evaluated: tuple[Path, list[Evaluated]]) -> None:
    path, rows = evaluated
    row = next(one for one in rows if one.task == "tokens" and one.metric.startswith("correlation"))
    quantity = Quantity.model_validate({"evaluation": "tokens", "score": row.metric})
    assert row.step is not None and items_of(path, quantity, row.step, row.value) is None


def write_pairs(run: Path, outcomes: np.ndarray) -> None:
    """An evaluation of pairs: 0, 1 or 2 for each, twice its outcome."""
    names = {name: [""] * len(outcomes) for name in ("paradigm", "term", "field")}
    shared = {"pairs.parquet": table_bytes(pa.table({"id": [str(n) for n in range(len(outcomes))], **names}))}
    rows = [Evaluated(STEPS, "pairs:x", "all", "accuracy_over_pairs", float(50 * outcomes.mean()), None, len(outcomes))]
    own = {"outcomes.u8": outcomes.astype(np.uint8).tobytes()}
    Part(run / "eval", STEPS, "pairs", {"label": "pairs:x"}).write(rows, {"model": "0"}, own, shared)


@pytest.mark.parametrize("lacking", [False, True])
def test_a_verdict_rests_on_items_crossed_with_seeds_where_every_run_has_them(tmp_path: Path, lacking: bool) -> None:
    rng = np.random.default_rng(5)
    outcomes = {(arm, n): rng.integers(0, 3, size=40) for arm in ("cool", "hot") for n in range(3)}
    prediction = {"measure": ACCURACY.model_dump(exclude_none=True), "direction": "higher", "primary": True}
    design = design_of(predictions=[prediction], seeds=3)
    folder = register(tmp_path / "e", design)
    for run in design.comparison():
        path = folder.run_path(run.name)
        write_run(path, run.config.model_dump(mode="json"), ending_at(3.0))
        write_pairs(path, outcomes[run.arm, int(run.repetition.removeprefix("seed"))])
    if lacking:
        (beside,) = (folder.run_path("hot.seed1") / "eval").glob("*.json")
        facts = json.loads(beside.read_text())
        beside.write_text(json.dumps({**facts, "files": {}}))
    judged = assess(folder).judged[0]
    arms = [{f"seed{n}": 50 * outcomes[arm, n] for n in range(3)} for arm in ("hot", "cool")]
    expected = crossed_difference(*arms)
    assert judged.verdict is not None and judged.difference is not None
    assert judged.difference.estimate.value == pytest.approx(expected.estimate.value)
    if lacking:
        assert judged.items is None and judged.verdict.claim.estimate == judged.difference.estimate
    else:
        assert judged.items is not None and judged.items.items == 40
        estimate = judged.verdict.claim.estimate
        assert estimate.item_error == pytest.approx(expected.estimate.item_error) and estimate.item_error > 0
        assert estimate.seed_error == pytest.approx(judged.difference.estimate.seed_error)


def test_items_in_another_order_are_matched_by_name_and_other_items_are_not() -> None:
    def observed(arm: str, scores: dict[str, float]) -> Observation:
        record = RunRecord(arm, arm, "", "seed0", "finished", 1, 1, None, {ACCURACY.words: Number(1.0)})
        return Observation(record, {}, {}, {ACCURACY.words: Items(scores)})

    cool = observed("cool", {"a": 1.0, "b": 2.0})
    found = Evidence([cool, observed("hot", {"b": 4.0, "a": 3.0})]).items(ACCURACY, ["hot", "cool"], "")
    assert found is not None
    (hot_scores, cool_scores), _ = found
    assert (hot_scores["seed0"] - cool_scores["seed0"]).tolist() == [2.0, 2.0]
    assert Evidence([cool, observed("hot", {"a": 3.0, "c": 4.0})]).items(ACCURACY, ["hot", "cool"], "") is None
