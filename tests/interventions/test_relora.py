"""ReLoRA in runs: what an event does to function, ranks, moments and rate; exact resume; what is saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import picolm
import picolm.training.trainer
from picolm.errors import PicoLMError
from picolm.model.adapters import adapted_layers, is_adapter
from picolm.model.huggingface import load_model
from picolm.training.trainer import Trainer

SAVING = {"checkpoints.state.every": 1, "checkpoints.keep_states": None}
USE = {"use": "relora", "rank": 2, "alpha": 6.0, "merge_every": 3, "rewarmup_steps": 2, "probe_rows": 2}
PROJECTION = "layers.0.attention.q_proj"
SAVED = "model.layers.0.self_attn.q_proj.weight"


def use(**settings: object) -> dict[str, object]:
    return {**USE, **settings}


class Seen:
    """What stands after each update: trained parameters, gradients before clipping, moments, rates."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.gradients: dict[int, dict[str, Tensor]] = {}
        self.moments: dict[int, dict[str, dict[str, Tensor]]] = {}
        self.rates: dict[int, list[float]] = {}
        self.trainer: Trainer | None = None
        original, clip = Trainer.update, picolm.training.trainer.gradient_norm

        def update(trainer: Trainer, step: int, views: Any) -> None:
            self.trainer, self.step = trainer, step
            original(trainer, step, views)
            structure = trainer.structure
            self.weights[step + 1] = {
                name: value.clone() for name, value in structure.objective.model.state_dict().items()
            }
            self.moments[step + 1] = {
                name: {key: value.clone() for key, value in structure.optimizer.state.get(parameter, {}).items()}
                for name, parameter in structure.parameters.items()
            }
            self.rates[step + 1] = [group["lr"] for group in structure.optimizer.param_groups]

        def norm(parameters: Any, limit: Any) -> Tensor:
            assert self.trainer is not None
            named = self.trainer.structure.parameters
            self.gradients[self.step + 1] = {n: p.grad.clone() for n, p in named.items() if p.grad is not None}
            return clip(parameters, limit)

        monkeypatch.setattr(picolm.training.trainer, "gradient_norm", norm)
        monkeypatch.setattr(Trainer, "update", update)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


WAYS = {
    "plain": use(),
    "learned": use(scaling="learned", dropout=0.1, init="orthogonal"),
    "phases": use(start=1, stop=7, merge_every=2, dense_every=3, init="weight", rewarmup_steps=1),
    "adaptive": use(adapt=True, merge_every=2, rewarmup_steps=1, init="complement", a_rate=2.0, b_rate=4.0),
    "pruned": use(reset="magnitude", reset_ratio=0.8, restart_every=4, merge_every=3),
    "sham": use(reinitialise=False, reset="random", reset_count=False),
    "published": use(compat="published", dropout=0.1, merge_every=3),
    "reset only": use(merge=False),
    "lora": use(merge_every=0, start=2, stop=7, rewarmup_steps=2),
}
QUICK = ("plain", "phases", "adaptive", "published")


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow) for way in WAYS])
def test_a_run_that_is_killed_around_merges_ends_as_one_that_is_not(lab: Any, way: str) -> None:
    changes = {**SAVING, "model.dropout": 0.1, "schedule.final_fraction": 0.1}
    whole = lab.contents(lab.train([WAYS[way]], "whole", **changes))
    cuts = range(10) if way == "plain" else [1, 2, 3, 4, 5, 7, 8]
    assert lab.contents(lab.stopped([WAYS[way]], "stopped", cuts, **changes)) == whole


@pytest.mark.parametrize("scaling", ["rank", "learned"])
def test_at_first_and_after_each_merge_b_has_a_gradient_and_a_has_none(lab: Any, seen: Seen, scaling: str) -> None:
    lab.train([use(scaling=scaling)], "run")
    for step in (1, 4, 7):
        parts = {kind: [g for n, g in seen.gradients[step].items() if f".adapter_{kind}" in n] for kind in "ab"}
        assert len(parts["a"]) == len(parts["b"]) == 14
        assert all(not gradient.any() for gradient in parts["a"])
        assert all(gradient.any() for gradient in parts["b"])
    # The update right after a merge has rate 0, so A has a gradient one update later.
    for step in (2, 6, 9):
        assert all(g.any() for n, g in seen.gradients[step].items() if ".adapter_a" in n)


def test_a_merge_begins_anew_and_leaves_all_else_alone(lab: Any, seen: Seen) -> None:
    run = lab.train([use()], "run", **SAVING)
    before, after = seen.weights[5], seen.weights[6]
    a, b, weight = (f"{PROJECTION}.{part}" for part in ("adapter_a2", "adapter_b2", "weight"))
    assert not after[b].any() and float(after[a].abs().max()) <= 1 / np.sqrt(32)
    cosine = torch.cosine_similarity(before[a].flatten(), after[a].flatten(), dim=0)
    assert abs(float(cosine)) < 0.5
    # The weight rests within a cycle, and takes up alpha / rank B A at its end: alpha is not the rank.
    assert torch.equal(seen.weights[3][weight], before[weight])
    state = load_file(run.checkpoint_path(5) / "state" / "live.safetensors")
    torch.testing.assert_close(state[f"model.{weight}"], before[weight], rtol=0, atol=0)
    exported = load_file(run.checkpoint_path(6) / "model.safetensors")[SAVED]
    torch.testing.assert_close(exported, after[weight], rtol=0, atol=0)
    # After the rate-0 update nothing has moved; after the next one B is as large as a step, and A near where it began.
    assert torch.equal(seen.weights[7][a], after[a]) and not seen.weights[7][b].any()
    assert float(seen.weights[8][b].abs().max()) <= 1.5 * max(seen.rates[8])
    moved = torch.cosine_similarity(seen.weights[8][a].flatten(), after[a].flatten(), dim=0)
    assert float(moved) > 0.99


def test_only_the_moments_of_adapters_begin_anew(lab: Any, seen: Seen) -> None:
    lab.train([use()], "run")
    for done in (3, 6, 9):
        for name, state in seen.moments[done].items():
            assert (state == {}) if is_adapter(name) else float(state["step"]) == done
    lab.train([use(reset="random", reset_ratio=0.5, reset_count=False)], "pruned")
    state = seen.moments[3][f"{PROJECTION}.adapter_b2"]
    assert torch.equal(state["exp_avg"] == 0, state["exp_avg_sq"] == 0) and float(state["step"]) == 3.0
    assert 0 < float((state["exp_avg"] == 0).float().mean()) < 1


@pytest.mark.parametrize("scaling", ["rank", "root", "learned"])
def test_a_merge_does_not_move_the_function_and_the_saved_model_is_it(lab: Any, seen: Seen, scaling: str) -> None:
    run = lab.train([use(scaling=scaling)], "run", **SAVING)
    merged = [fact for fact in lab.trace(run) if fact["event"] == "merged"]
    assert [(fact["step"], fact["number"], fact["next"]) for fact in merged] == [(3, 1, 6), (6, 2, 9), (9, 3, 12)]
    for fact in merged:
        assert fact["loss_after"] == pytest.approx(fact["loss_before"], rel=1e-5)
        assert fact["zeroed"] == 1.0
    text, live = torch.arange(32)[None], seen.trainer.structure.objective.model.eval()  # type: ignore[union-attr]
    for done in (2, 3, 5):
        live.load_state_dict(seen.weights[done])
        exported = load_model(run.checkpoint_path(done))
        assert exported.state_dict().keys() == {n for n in live.state_dict() if not is_adapter(n)}
        with torch.no_grad():
            torch.testing.assert_close(exported.logits(exported(text)), live.logits(live(text)), rtol=1e-5, atol=1e-5)


def test_a_saved_model_opens_in_transformers_with_the_same_logits(lab: Any) -> None:
    transformers = pytest.importorskip("transformers")
    run = lab.train([use()], "run", **SAVING)
    text = torch.arange(32)[None]
    for done in (5, 10):
        ours = load_model(run.checkpoint_path(done))
        theirs = transformers.AutoModelForCausalLM.from_pretrained(run.checkpoint_path(done))
        with torch.no_grad():
            torch.testing.assert_close(theirs(text).logits, ours.logits(ours(text)), rtol=1e-5, atol=1e-5)


def rank_of(change: Any) -> int:
    return int(np.linalg.matrix_rank(change, tol=1e-5))


def test_ranks_add_up_and_do_not_where_nothing_begins_anew(lab: Any) -> None:
    run = lab.train([use(modules=[PROJECTION])], "run", **SAVING)
    # Before the second merge the first cycle's rank and the second's lie side by side; the first step has no rate.
    at = {done: lab.weights(run, done)[SAVED] for done in (1, 2, 3, 5, 6, 9)}
    start = load_file(run.checkpoint_path(1) / "state" / "live.safetensors")[f"model.{PROJECTION}.weight"].numpy()
    assert [rank_of(at[done] - start) for done in (1, 3, 6, 9)] == [2, 2, 4, 6]
    logged = [fact["change_rank"] for fact in lab.trace(run) if fact["event"] == "layer"]
    assert logged == [2, 4, 6]
    sham = lab.train([use(modules=[PROJECTION], reinitialise=False)], "sham", **SAVING)
    grown = [fact["change_effective_rank"] for fact in lab.trace(sham) if fact["event"] == "layer"]
    full = [fact["change_effective_rank"] for fact in lab.trace(run) if fact["event"] == "layer"]
    assert grown[2] < full[2] and full[2] > full[0] + 1


def test_the_rate_falls_to_zero_at_merges_and_rises_to_the_schedule(lab: Any, seen: Seen) -> None:
    changes = {"schedule.warmup_steps": 1}
    lab.train((), "dense", **changes)
    plain = {step: rates[0] for step, rates in seen.rates.items()}
    lab.train([use()], "run", **changes)
    ours = {step: rates[0] for step, rates in seen.rates.items()}
    # Update number s + 1 is made at step s: those of steps 3 and 6 have no rate, those of 4 and 7 half of what comes.
    expected = {step: plain[step] for step in (1, 2, 3, 6, 9)} | {4: 0, 5: plain[6] / 2, 7: 0, 8: plain[9] / 2, 10: 0}
    assert ours == pytest.approx(expected)
    lab.train([{"use": "jagged_rate", "period": 3, "rewarmup_steps": 2}], "jagged", **changes)
    assert {step: rates[0] for step, rates in seen.rates.items()} == pytest.approx(expected)


def test_phases_come_and_go(lab: Any, seen: Seen) -> None:
    run = lab.train([use(start=2, stop=8, merge_every=2, dense_every=3, rewarmup_steps=1)], "run", **SAVING)
    trained = {done: f"{PROJECTION}.weight" in moments for done, moments in seen.moments.items()}
    assert [done for done, is_trained in trained.items() if is_trained] == [1, 2, 7, 8, 9, 10]
    # The moments of what is whole again begin anew; none are kept while it rests.
    resting = load_file(run.checkpoint_path(4) / "state" / "optimizer.safetensors")
    assert not any("_proj.weight" in name for name in resting) and "embedding.weight/step" in resting
    steps = [float(seen.moments[done][f"{PROJECTION}.weight"].get("step", 0)) for done in (1, 2, 7, 8, 9, 10)]
    assert steps == [1, 0, 1, 2, 3, 4]
    events = [(fact["step"], fact["event"]) for fact in lab.trace(run) if fact["event"] != "layer"]
    assert events == [(3, "adapters"), (4, "merged"), (6, "merged"), (7, "full_rank")]
    for done in range(1, 11):
        assert rank_of(lab.weights(run, done)[SAVED]) == 32


def test_adapted_ranks_keep_the_budget_and_the_function(lab: Any) -> None:
    run = lab.train([use(adapt=True, merge_every=2, rewarmup_steps=1)], "run", **SAVING)
    layers = [fact for fact in lab.trace(run) if fact["event"] == "layer"]
    costs = {fact["layer"]: 0 for fact in layers}
    config = lab.config([USE]).model
    model = picolm.model.initialization.build_model(config.model_copy(update={"vocab_size": 300}), 0)
    for name in costs:
        costs[name] = sum(model.get_submodule(name).weight.shape)
    by_step: dict[int, dict[str, int]] = {}
    for fact in layers:
        by_step.setdefault(fact["step"], {})[fact["layer"]] = fact["rank"]
    budget = 2 * sum(costs.values())
    assert sum(costs[name] * rank for name, rank in by_step[2].items()) == budget
    for step, ranks in by_step.items():
        total = sum(costs[name] * rank for name, rank in ranks.items())
        assert total <= budget and total > budget - max(costs.values()), step
    losses = [(f["loss_before"], f["loss_after"]) for f in lab.trace(run) if f["event"] == "merged"]
    assert all(after == pytest.approx(before, rel=1e-5) for before, after in losses)


def test_a_rank_schedule_changes_the_ranks_cycle_by_cycle(lab: Any, seen: Seen) -> None:
    lab.train([use(rank_schedule=[1.0, 2.0, 0.5], rank_map={"layers.1.*": 3})], "run")
    shapes = [seen.weights[done] for done in (3, 4, 7, 10)]
    found = [next(int(name[-1]) for name in one if name.startswith(f"{PROJECTION}.adapter_a")) for one in shapes]
    assert found == [2, 4, 1, 1]
    other = "layers.1.mlp.up_proj.adapter_a"
    assert [next(int(name[-1]) for name in one if name.startswith(other)) for one in shapes] == [3, 6, 2, 2]


def test_the_published_code_is_reproduced_defect_by_defect(lab: Any, seen: Seen) -> None:
    run = lab.train([use(compat="published", merge_every=3)], "run", **{"schedule.final_fraction": 0.1, **SAVING})
    a, b, weight = (f"{PROJECTION}.{part}" for part in ("adapter_a2", "adapter_b2", "weight"))
    # Zero and zero: no gradient until the first merge, which comes one update late.
    for step in (1, 2, 3, 4):
        assert not seen.gradients[step][a].any() and not seen.gradients[step][b].any()
    merged = [fact for fact in lab.trace(run) if fact["event"] == "merged"]
    assert [fact["step"] for fact in merged] == [4, 7, 10]
    assert merged[0]["loss_after"] == merged[0]["loss_before"]
    # W takes up B A without its scale, and is rounded to bfloat16.
    before, after = seen.weights[6], seen.weights[7]
    assert before[b].any()
    wanted = (before[weight] + seen_delta(seen, 7)).bfloat16().float()
    torch.testing.assert_close(after[weight], wanted, rtol=0.01, atol=1e-3)
    assert torch.equal(after[weight], after[weight].bfloat16().float())
    assert abs(merged[1]["loss_after"] - merged[1]["loss_before"]) > 1e-6
    # The engine's hidden copies come back with the next update.
    assert not after[b].any() and seen.weights[8][b].any()
    cosine = torch.cosine_similarity(seen.weights[8][b].flatten(), before[b].flatten(), dim=0)
    assert float(cosine) > 0.9


def seen_delta(seen: Seen, done: int) -> Tensor:
    """B A just before the merge after update `done`: as after the one before, for that update had no rate."""
    weights = seen.weights[done - 1]
    return weights[f"{PROJECTION}.adapter_b2"] @ weights[f"{PROJECTION}.adapter_a2"]


def test_an_engine_with_hidden_copies_of_weights_is_refused(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DeepSpeed's ZeRO has them: an update is made on copies, which then overwrite what training changed."""
    original = picolm.training.trainer.apply_update
    masters: dict[int, Tensor] = {}

    def update(optimizer: Any, *, skip: Tensor) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with torch.no_grad():
            for p in parameters:
                p.copy_(masters.get(id(p), p))
            original(optimizer, skip=skip)
            masters.update({id(p): p.detach().clone() for p in parameters})

    monkeypatch.setattr(picolm.training.trainer, "apply_update", update)
    with pytest.raises(PicoLMError, match=r"back to before its merge: an engine that keeps copies of the weights"):
        lab.train([use()], "run")


def test_a_fork_without_it_is_the_merged_model(lab: Any) -> None:
    parent = lab.train([use()], "parent", **SAVING)
    fork = picolm.fork(parent.path, at=5, name="fork", without=["relora"], overrides={"training.steps": 6})
    state = load_file(fork.checkpoint_path(5) / "state" / "live.safetensors")
    np.testing.assert_array_equal(state[f"model.{PROJECTION}.weight"].numpy(), lab.weights(parent, 5)[SAVED])
    with pytest.raises(PicoLMError, match=r"adapters at step 5 are not merged, and those of the settings are others"):
        picolm.fork(parent.path, at=5, name="other", overrides={"interventions.0.rank": 3})
    picolm.fork(parent.path, at=6, name="merged", overrides={"interventions.0.alpha": 3.0, "training.steps": 8})


def test_it_begins_in_a_fork(lab: Any) -> None:
    parent = lab.train((), "parent", **SAVING)
    fork = picolm.fork(parent.path, at=4, name="fork", interventions=["relora rank=2 start=4 merge_every=3 alpha=6"])
    assert [fact["step"] for fact in lab.trace(fork) if fact["event"] in ("adapters", "merged")] == [5, 7, 10]
    with pytest.raises(PicoLMError, match=r"begins at step 0, and the run is at 4: set relora\.start=4"):
        picolm.fork(parent.path, at=4, name="late", interventions=["relora rank=2 merge_every=3"])


def test_what_was_merged_takes_adapters_again(lab: Any) -> None:
    """Out and in again at one step: the new one begins with nothing of the old one, so not under its name."""
    parent = lab.train([use()], "parent", **SAVING)
    again = "relora rank=3 start=5 merge_every=2 alpha=6 rewarmup_steps=0"
    with pytest.raises(PicoLMError, match="leaves out 'relora' and adds one of the same name"):
        picolm.fork(parent.path, at=5, name="other", without=["relora"], interventions=[again])
    fork = picolm.fork(parent.path, at=5, name="fork", without=["relora"], interventions=[f"{again} name=second"])
    assert [fact["step"] for fact in lab.trace(fork) if fact["event"] in ("adapters", "merged")] == [6, 7, 9]
    layers = [fact for fact in lab.trace(fork) if fact["event"] == "layer" and fact["layer"] == PROJECTION]
    assert [(fact["rank"], fact["change_rank"]) for fact in layers] == [(3, 3), (3, 6)]


@pytest.mark.parametrize("changes", [{"training.micro_batch_size": 3}, {"training.precision": "bf16"}])
def test_other_ways_to_train_merge_at_the_same_steps(lab: Any, seen: Seen, changes: dict[str, Any]) -> None:
    """Accumulated over micro-batches, or under autocast: merges, rates and moments stand where they stood."""
    smooth = {"optimizer.eps": 1e-4}
    lab.train([use()], "plain", **smooth)
    plain = (
        seen.weights[10],
        dict(seen.rates),
        {done: sorted(n for n, s in m.items() if s) for done, m in seen.moments.items()},
    )
    run = lab.train([use()], "run", **smooth, **changes, **SAVING)
    rates, kept = dict(seen.rates), {done: sorted(n for n, s in m.items() if s) for done, m in seen.moments.items()}
    assert (rates, kept) == plain[1:]
    for fact in lab.trace(run):
        if fact["event"] == "merged":
            assert fact["loss_after"] == pytest.approx(fact["loss_before"], rel=1e-5)
    within = 1e-5 if "training.micro_batch_size" in changes else 0.02
    for name, weight in plain[0].items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(seen.weights[10][name], weight, rtol=within, atol=within)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_run_is_the_eager_one_and_resumes_exactly(lab: Any) -> None:
    changes = {"checkpoints.state.every": 2, "optimizer.eps": 1e-4}
    way = use(start=1, stop=7, scaling="learned")
    eager = lab.train([way], "eager", **changes)
    whole = lab.train([way], "whole", **changes, **{"training.compile": True})
    for ours, theirs in zip(lab.log(eager), lab.log(whole), strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-4)
    stopped = lab.stopped([way], "stopped", [3, 9], **changes, **{"training.compile": True})
    assert lab.contents(stopped) == lab.contents(whole)


REFUSED = [
    ({"merge_every": 11}, {}, "merge_every 11 leaves no merge in 10 steps"),
    ({"start": 10}, {}, "start 10 is beyond the 10 steps"),
    ({"stop": 5}, {}, "stop 5 is not the end of a cycle"),
    ({"full_rank": ["layers.*.*.*"]}, {}, "leaves no layer for an adapter"),
    ({"modules": ["layers.*.attention.qproj"]}, {}, r"no linear layer .*did you mean 'layers\.\*\.attention\.q_proj'"),
    ({}, {"optimizer": {"kind": "muon"}}, "use optimizer.kind=adamw"),
    ({}, {"training.ema.start": 1}, "leave training.ema out"),
    ({"merge": False, "adapt": True}, {}, "merge=false keeps the adapters"),
    ({"compat": "published", "dense_every": 2}, {}, "undone_reinit is about adapters that stay"),
    ({"merge_every": 0, "adapt": True}, {}, "need cycles: set merge_every"),
    ({"rewarmup_steps": 3}, {}, "rewarmup_steps 3 leave nothing of a period of 3 updates"),
]


@pytest.mark.parametrize(("settings", "changes", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(
    lab: Any, settings: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PicoLMError, match=sentence):
        lab.train([use(**settings)], "run", **changes)


def test_adapters_count_as_published() -> None:
    """The sizes of the published tiny and small models, at rank 16."""
    for width, totals in ((96, (11_282_784, 11_682_144, 10_060_128)), (384, (64_595_328, 66_192_768, 40_240_512))):
        overrides = {"model.d_model": width, "model.d_ffn": 4 * width, "model.n_layers": 12, "model.n_heads": 12,
                     "model.n_kv_heads": 4, "model.vocab_size": 50304, "model.tied": False}  # fmt: skip
        config = picolm.load_config("tiny", overrides)
        with torch.device("meta"):
            model: Any = picolm.model.transformer.Transformer(config.model)
            assert sum(p.numel() for p in model.parameters()) == totals[0]
            layers = {
                name: picolm.model.adapters.AdaptedLinear(layer, 16, scale=2.0)
                for name, layer in picolm.model.adapters.linear_layers(model).items()
            }
            picolm.model.adapters.replace_layers(model, layers)
        assert len(adapted_layers(model)) == 84
        assert sum(p.numel() for p in model.parameters()) == totals[1]
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == totals[2]


@pytest.mark.parametrize(("fraction", "ranks"), [(0.01, (1, 1)), (0.25, (8, 4)), (1.0, (32, 16))])
def test_a_share_of_the_smaller_side_is_a_rank(lab: Any, fraction: float, ranks: tuple[int, int]) -> None:
    """Of at least one direction; k_proj is [16, 32], for two heads share a key."""
    run = lab.train([use(rank=None, rank_fraction=fraction)], "run", **{"training.steps": 3})
    found = {fact["layer"]: fact["rank"] for fact in lab.trace(run) if fact["event"] == "layer"}
    assert (found[PROJECTION], found["layers.0.attention.k_proj"]) == ranks
