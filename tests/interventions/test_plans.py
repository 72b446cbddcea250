"""Which rows a step draws, and what is trained, under interventions that change that."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from picolm.assembly.ingredients import order, prepare
from picolm.model.huggingface import load_model
from picolm.runs.manifest import read_manifest
from picolm.seams import ChangedPlan, Plan
from picolm.training.batches import Batches
from picolm.training.plan import EpochPlan
from picolm.training.trainer import Trainer

SAVING = {"checkpoints.state.every": 1, "checkpoints.keep_states": None}


def base_plan() -> Plan:
    return EpochPlan(n_rows=31, batch_size=8, fingerprint="f", seed=1)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Batches]:
    """The batches of each run that is made, with their plans."""
    found: list[Batches] = []
    original = Trainer.run

    def run(trainer: Trainer, interruption: Any) -> int:
        found.append(trainer.batches)
        return original(trainer, interruption)

    monkeypatch.setattr(Trainer, "run", run)
    return found


def test_another_batch_size_groups_the_same_rows_anew(lab: Any, cases: Any, plans: list[Batches]) -> None:
    run = lab.train(cases["batch_size"].uses, "run")
    plan, sizes = plans[0].plan, [8, 8, 6, 6, 6, 12, 12, 12, 12, 12]
    assert [len(plan.rows(step)) for step in range(10)] == sizes == [plan.size(step) for step in range(10)]
    assert [plan.start(step) for step in range(11)] == np.cumsum([0, *sizes]).tolist()
    plain = order(prepare(lab.config([])))
    drawn, wanted = (np.concatenate([one.rows(step) for step in range(n)]) for one, n in ((plan, 10), (plain, 20)))
    np.testing.assert_array_equal(drawn, wanted[: sum(sizes)])
    assert [line["sequences"] for line in lab.log(run)] == np.cumsum(sizes).tolist()
    assert plan.draws(drawn[:1], 10)[0] == (0, 0, drawn[0])


def test_the_pool_holds_the_hardest_rows_as_the_live_model_finds_them(
    lab: Any, cases: Any, plans: list[Batches]
) -> None:
    run = lab.train(cases["pool"].uses, "run", **SAVING)
    tables = {int(name.split("/")[1]): table for name, table in remembered(run, 10).items()}
    assert sorted(tables) == [0, 3, 6, 9]
    for scored in (3, 6):
        # The model that scored is the one after `scored` updates.
        model = load_model(run.checkpoint_path(scored))
        candidates = run_rng(run, scored, plans[0].rows.n_rows)
        tokens = torch.from_numpy(plans[0].rows.read(candidates))
        with torch.no_grad():
            logits = model.logits(model(tokens[:, :-1]))
        losses = torch.nn.functional.cross_entropy(logits.mT, tokens[:, 1:], reduction="none").mean(dim=1).numpy()
        hardest = set(candidates[np.argsort(-losses)[:8]].tolist())
        assert set(tables[scored].tolist()) == hardest
    for step in range(10):
        assert set(plans[0].plan.rows(step).tolist()) <= set(tables[step - step % 3].tolist())
    facts = lab.trace(run)
    assert [fact["step"] for fact in facts] == [1, 4, 7, 10]
    assert all(fact["mean_of_pool"] > fact["mean"] for fact in facts)


def remembered(run: Any, step: int) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoint_path(step) / "state" / "interventions.safetensors")


def run_rng(run: Any, step: int, n_rows: int) -> Any:
    from picolm.randomness import generator

    seed = run.identity["seeds"]["interventions"]
    return generator(seed, "intervention", "Pool", "candidates", step).permutation(n_rows)[:16]


def test_nothing_is_drawn_ahead_of_a_horizon_whatever_plan_is_around_it(lab: Any, cases: Any) -> None:
    """With the longest prefetch and many threads the run is the one that prepares nothing ahead."""
    uses = [*cases["pool"].uses, *cases["batch_size"].uses]
    ahead = {"data.prefetch_steps": 9, "data.loader_workers": 3}
    one = lab.train(uses, "one", **{"data.prefetch_steps": 1})
    other = lab.train(uses, "other", **ahead)
    assert lab.log(one) == lab.log(other)
    around = ChangedPlan(ChangedPlan(base_plan()))
    assert around.horizon(3) == base_plan().horizon(3)
    np.testing.assert_array_equal(around.rows(3), base_plan().rows(3))


def test_a_frozen_layer_rests_and_then_moves(lab: Any, cases: Any) -> None:
    run = lab.train(cases["freeze"].uses, "run", **SAVING)
    frozen = "layers.0.mlp.up_proj.weight"
    weights = [lab.weights(run, step)[f"model.{frozen}"] for step in range(1, 11)]
    assert all(np.array_equal(weight, weights[0]) for weight in weights[:4])
    assert not any(np.array_equal(one, other) for one, other in pairwise(weights[3:]))
    for step in range(1, 11):
        state = lab.weights(run, step, "state/optimizer.safetensors")
        assert (f"{frozen}/exp_avg" in state) == (step > 4)
        if step > 4:
            assert float(state[f"{frozen}/step"]) == step - 4
    assert [(fact["step"], fact["event"]) for fact in lab.trace(run)] == [(1, "frozen"), (5, "thawed")]


def test_identity_leaves_every_byte_as_it_was(lab: Any, cases: Any) -> None:
    changes = {**SAVING, "training.ema.start": 1, "model.dropout": 0.1}
    ours, plain = (
        lab.contents(lab.train(cases["identity"].uses, "ours", **changes)),
        lab.contents(lab.train([], "plain", **changes)),
    )
    assert ours.keys() == plain.keys()
    # These two name the interventions that there are, or hold the hash of what does.
    named = {name for name in ours if name.endswith(("state/state.json", "/manifest.json"))}
    assert {name for name in ours if ours[name] != plain[name]} <= named
    assert (
        ours["checkpoints/step-00000010/state/state.json"].replace(b'{\n    "Identity": {}\n  }', b"{}")
        == plain["checkpoints/step-00000010/state/state.json"]
    )


def test_metadata_reach_every_block_in_training_validation_and_probes(lab: Any, cases: Any) -> None:
    changes = {
        **SAVING,
        "validation.every": 5,
        "capture.every": 5,
        "capture.activations": ["residual.2"],
        "capture.gradients": ["layers.*.bins"],
        "capture.probes": {"held": {"sequences": 2}, "own": {"sequences": 2, "sources": lab.overrides["data.sources"]}},
    }
    run = lab.train(cases["metadata"].uses, "run", **changes)
    assert read_manifest(run.checkpoint_path(10))["transformers"] == "none"
    first, last = (lab.weights(run, step) for step in (5, 10))
    for layer in range(2):
        moved = np.abs(last[f"layers.{layer}.bins.weight"] - first[f"layers.{layer}.bins.weight"]).max(axis=1)
        # Bin 0 is for documents of which nothing is known: in training there are none.
        assert (moved[1:] > 0).all() and set(first) == set(last)
    plain = lab.train([], "plain", **{**changes, "capture.gradients": []})
    assert set(lab.weights(plain)) != set(last)
    ours, theirs = (lab.log(one, "validation")[-1]["loss"] for one in (run, plain))
    assert ours != theirs
    captures = run.path / "captures" / "step-00000010"
    gradients = {name: load_file(captures / f"{name}.safetensors") for name in ("held", "own")}
    for layer in range(2):
        held, own = (gradients[name][f"gradient/layers.{layer}.bins.weight"].abs().sum(1) for name in ("held", "own"))
        assert (held[1:] > 0).any() and held[0] == 0
        assert own[0] > 0 and (own[1:] == 0).all()


def test_two_runs_that_differ_in_a_seed_draw_otherwise(lab: Any, cases: Any) -> None:
    ours, theirs = (lab.train(cases["gradient_noise"].uses, f"seed-{seed}", **{"seeds.interventions": seed})
                    for seed in (0, 1))  # fmt: skip
    assert lab.log(ours)[:2] == lab.log(theirs)[:2] and lab.log(ours)[3] != lab.log(theirs)[3]


def test_a_step_may_draw_no_row_and_show_others(lab: Any, cases: Any, plans: list[Batches]) -> None:
    capture = {"capture.every": 3, "capture.train_batch": True, "capture.activations": ["residual.0"]}
    run = lab.train(cases["hybrid"].uses, "run", **capture)
    # Step 5, the update before the second capture, drew nothing.
    batches = [{file.stem for file in run.path.glob(f"captures/step-{step:08d}/*.safetensors")} for step in (3, 6)]
    assert batches == [{"held_out", "train.causal"}, {"held_out", "train.ordered"}]
    assert [len(plans[0].plan.rows(step)) for step in range(4)] == [8, 0, 8, 0]
    lines = lab.log(run)
    assert [line["losses"].keys() for line in lines] == [{"causal"}, {"ordered"}] * 5
    assert [line["sequences"] for line in lines] == [8, 8, 16, 16, 24, 24, 32, 32, 40, 40]
    plain = order(prepare(lab.config([])))
    np.testing.assert_array_equal(plans[0].plan.rows(4), plain.rows(2))
