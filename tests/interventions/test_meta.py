"""Meta-pretraining in runs: which steps are which, what they cost, what the log says, and that it does something."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import picolm
from picolm.errors import PicoLMError
from picolm.interventions.meta_settings import Settings

ALGORITHMS = ("none", "anil-fo", "anil-exact", "fomaml-all", "maml-exact", "reptile", "protonet")


def use(cases: Any, **changes: object) -> dict[str, object]:
    (plain,) = cases["meta_pretraining"].uses
    return {**plain, **changes}


def test_steps_of_episodes_stand_between_those_of_the_language_model(lab: Any, cases: Any) -> None:
    changes = {"training.steps": 32, "validation.every": 32}
    run = lab.train([use(cases)], "run", **changes)
    kinds = ["episodes" if "episodes" in line["losses"] else "causal" for line in lab.log(run)]
    # Two blocks of 16 with half of each, never both in a step.
    assert all(len(line["losses"]) == 1 for line in lab.log(run))
    assert [kinds[:16].count("episodes"), kinds[16:].count("episodes")] == [8, 8]
    # Tokens are those of the language model alone.
    per_step = 8 * 32
    assert [line["tokens"] for line in lab.log(run)] == [
        per_step * kinds[: step + 1].count("causal") for step in range(32)
    ]
    spent = [fact for fact in lab.trace(run) if fact["event"] == "spent"]
    assert [fact["model_tokens"] for fact in spent] == [line["tokens"] for line in lab.log(run)]
    assert spent[-1]["episode_tokens"] == 16 * 3 * 8 * 4


def test_the_language_model_sees_the_rows_of_a_run_without(lab: Any, cases: Any, monkeypatch: Any) -> None:
    from picolm.training.trainer import Trainer

    seen: dict[str, list[Any]] = {"plain": [], "mixed": []}
    original = Trainer.update
    for name, uses in (("plain", ()), ("mixed", [use(cases)])):

        def update(trainer: Trainer, step: int, views: Any, name: str = name) -> None:
            seen[name] += [view.tensors["input_ids"] for view in views if view.name == "causal" and view.n_rows]
            original(trainer, step, views)

        monkeypatch.setattr(Trainer, "update", update)
        lab.train(uses, name, **{"training.steps": 16})
    assert len(seen["mixed"]) == 8
    for ours, theirs in zip(seen["mixed"], seen["plain"], strict=False):
        np.testing.assert_array_equal(ours, theirs)


def test_losses_begin_at_chance_and_are_never_averaged_together(lab: Any, cases: Any) -> None:
    run = lab.train(
        [use(cases, mixing="joint", ways=3, support=1, query=1, ratio=0.25)], "run", **{"training.steps": 3}
    )
    first = lab.log(run)[0]
    n_tokens = run.identity["config"]["model"]["vocab_size"]
    assert first["losses"]["causal"] == pytest.approx(math.log(n_tokens), rel=0.02)
    assert first["figures"]["episodes.query_loss_before"] == pytest.approx(math.log(3))
    assert first["figures"]["episodes.query_accuracy_before"] == pytest.approx(1 / 3)
    # What is minimised is the weighted sum; each part stands apart.
    total = 0.75 * first["losses"]["causal"] + 0.25 * first["losses"]["episodes"]
    assert first["loss"] == pytest.approx(total, rel=1e-6)
    (facts,) = [fact for fact in lab.trace(run) if fact["event"] == "episodes"]
    assert facts["chance_accuracy"] == pytest.approx(1 / 3) and facts["chance_loss"] == pytest.approx(math.log(3))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains(lab: Any, cases: Any, algorithm: str) -> None:
    run = lab.train([use(cases, algorithm=algorithm)], algorithm, **{"training.steps": 4, "validation.every": 4})
    figures = [line["figures"] for line in lab.log(run) if "figures" in line]
    steps = 0 if algorithm in ("none", "protonet") else 2
    wanted = {"query_accuracy", "query_accuracy_before", "query_loss_before", "redraws"}
    wanted |= {f"support_{kind}_{step}" for kind in ("loss", "accuracy") for step in range(steps + 1)}
    assert figures and all(set(one) == {f"episodes.{name}" for name in wanted} for one in figures)
    assert all(line["skipped"] == 0 and line["gradient_norm"] > 0 for line in lab.log(run))


def test_costs_are_those_of_the_specification() -> None:
    # In forwards of the support, with as many queries: 1 + 3 cached, 3 + 3 exact; a naive loop would be 10 + 3.
    each = {name: Settings(algorithm=name, tasks=1).forwards / 16 for name in ("anil-fo", "anil-exact", "protonet")}  # type: ignore[arg-type]
    assert each == {"anil-fo": 4, "anil-exact": 6, "protonet": 6}


def test_what_cannot_be_is_one_sentence(lab: Any, cases: Any) -> None:
    with pytest.raises(PicoLMError, match=r"window is 64, but a row has 32 tokens"):
        lab.train([use(cases, window=64)], "long")
    with pytest.raises(PicoLMError, match="an episode of 40 classes cannot be drawn"):
        lab.train([use(cases, ways=40, types="words")], "many")
    with pytest.raises(PicoLMError, match="stop 3 is not above start 5"):
        lab.train([use(cases, start=5, stop=3)], "window")
    with pytest.raises(PicoLMError, match="protonet begins with prototypes"):
        lab.train([use(cases, algorithm="protonet", head="zero")], "start")


def test_episodes_are_learned_where_there_is_something_to_learn(tmp_path: Any) -> None:
    """On the embedded world: above chance after adaptation, and above the head before it; the placebo at chance."""
    changes: dict[str, object] = {
        "training.steps": 80,
        "training.device": "cpu",
        "training.batch_size": 16,
        "data.sequence_length": 64,
        "data.cache": str(tmp_path / "cache"),
        "model": {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 128, "tied": True},
        "optimizer.learning_rate": 5e-3,
        "validation.tokens_per_domain": 2000,
        "validation.every": 80,
    }
    found = {}
    for name, more in (("real", ""), ("placebo", " placebo=true")):
        with_episodes = [f"meta_pretraining window=32 readout=mask mixing=joint{more}"]
        run = picolm.train(picolm.load_config("demo", changes, with_episodes), name=name, runs_dir=tmp_path)
        lines = [line for line in run.log if "figures" in line]
        last = [line["figures"] for line in lines[-30:]]
        found[name] = {key: float(np.mean([line[f"episodes.{key}"] for line in last]))
                       for key in ("query_accuracy", "query_accuracy_before")}  # fmt: skip
        assert lines[-1]["losses"]["causal"] < lines[0]["losses"]["causal"] - 1
    n = 30 * 8 * 16
    noise = math.sqrt(0.25 * 0.75 / n)
    assert found["real"]["query_accuracy"] > 0.25 + 8 * noise
    assert found["real"]["query_accuracy"] > found["real"]["query_accuracy_before"] + 8 * noise
    # Answers of an episode share a head, so they are not independent: twice the noise of independent ones.
    assert abs(found["placebo"]["query_accuracy"] - 0.25) < 4 * 2 * noise


def test_captures_see_steps_of_episodes(lab: Any, cases: Any) -> None:
    from safetensors.numpy import load_file

    changes = {
        "training.steps": 4,
        "capture.every": 1,
        "capture.train_batch": True,
        "capture.activations": ["residual.1", "layers.*.attention.pattern"],
        "capture.gradients": ["layers.*.mlp.up_proj"],
    }
    run = lab.train([use(cases, sees="both", readout="mask")], "run", **changes)
    files = sorted((run.path / "captures").rglob("train.episodes.safetensors"))
    assert len(files) == sum("episodes" in line["losses"] for line in lab.log(run)) > 0
    tensors = load_file(files[0])
    assert tensors["batch/types"].any()
    # With a prefix as long as the window every place looks at every other.
    assert (tensors["activation/layers.0.attention.pattern"] > 0).all()
    assert np.abs(tensors["gradient/layers.0.mlp.up_proj.weight"]).max() > 0


def test_episodes_may_begin_and_end_within_a_run(lab: Any, cases: Any) -> None:
    plain = lab.train((), "plain")
    apart = lab.train([use(cases, start=3, stop=8, ratio=1.0)], "apart")
    kinds = [set(line["losses"]) for line in lab.log(apart)]
    assert kinds == [{"causal"}] * 3 + [{"episodes"}] * 5 + [{"causal"}] * 2
    # Until then the run is the plain one.
    assert [line["loss"] for line in lab.log(apart)][:3] == [line["loss"] for line in lab.log(plain)][:3]
    joint = lab.train([use(cases, start=3, stop=8, mixing="joint", ratio=0.25)], "joint")
    lines = lab.log(joint)
    assert [line["loss"] for line in lines][:3] == [line["loss"] for line in lab.log(plain)][:3]
    for step, line in enumerate(lines):
        losses = line["losses"]
        wanted = losses["causal"] if step < 3 or step >= 8 else 0.75 * losses["causal"] + 0.25 * losses["episodes"]
        assert line["loss"] == pytest.approx(wanted, rel=1e-6)


def test_masked_models_have_episodes_too(lab: Any, cases: Any) -> None:
    run = lab.train([use(cases)], "run", **cases["two_views"].overrides)
    assert {tuple(line["losses"]) for line in lab.log(run)} == {("masked",), ("episodes",)}


def test_a_fork_goes_on_with_the_rows_that_its_parent_would_have_drawn(lab: Any, cases: Any) -> None:
    parent = lab.train((), "parent", **{"checkpoints.state.at": [4]})
    (plain,) = cases["meta_pretraining"].uses
    words = " ".join(f"{key}={value}" for key, value in plain.items() if key != "use")
    fork = picolm.fork(parent.path, at=4, name="fork", interventions=[f"meta_pretraining {words} start=4"])
    lines = lab.log(fork)
    assert {tuple(line["losses"]) for line in lines} == {("causal",), ("episodes",)}
    n_episodes = sum("episodes" in line["losses"] for line in lines)
    assert lines[-1]["sequences"] == 8 * (10 - n_episodes)
    first = next(line for line in lines if "causal" in line["losses"])
    assert first["sequences"] == 8 * 5


def test_how_views_are_prepared_changes_nothing(lab: Any, cases: Any) -> None:
    runs = [
        lab.train(
            [use(cases)], f"workers-{workers}", **{"data.loader_workers": workers, "data.prefetch_steps": prefetch}
        )
        for workers, prefetch in ((1, 1), (3, 6))
    ]
    assert [line["loss"] for line in lab.log(runs[0])] == [line["loss"] for line in lab.log(runs[1])]
