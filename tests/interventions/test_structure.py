"""Structure that changes: optimizers, compilation, precision, captures, forks, and what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import picolm
from picolm.config import schema
from picolm.interventions.loading import Trust, load_interventions
from picolm.model.cache import KeyValueCache
from picolm.model.initialization import build_model
from picolm.seams import Measurement, View
from picolm.training.optimizer import parameter_groups

STUBS = Path(__file__).parent / "stubs"
SAVING = {"checkpoints.state.every": 1, "checkpoints.keep_states": None}
MUON = {"optimizer": {"kind": "muon", "learning_rate": 0.02}}
RETURNING = {"use": f"{STUBS}/returning.py:Returning"}


@pytest.mark.parametrize(
    "changes",
    [
        {**MUON, "training.precision": "bf16"},
        pytest.param({"training.log_every": 3, "data.prefetch_steps": 1, "model.dropout": 0.2}, marks=pytest.mark.slow),
    ],
    ids=["muon in bf16", "seldom logged"],
)
def test_many_at_once_resume_exactly_in_other_ways_to_train(lab: Any, cases: Any, changes: dict[str, Any]) -> None:
    uses = cases["together"].uses
    changes = {"checkpoints.state.every": 2, "training.ema.start": 1, **changes}
    whole = lab.contents(lab.train(uses, "whole", **changes))
    assert lab.contents(lab.stopped(uses, "stopped", [3, 8], **changes)) == whole


def test_what_is_gone_comes_back_anew(lab: Any) -> None:
    """Stopped just before, at and after the stages; its moments do not outlive its value."""
    run = lab.train([RETURNING], "whole", **SAVING)
    assert lab.contents(lab.stopped([RETURNING], "stopped", [3, 5, 6, 9], **SAVING)) == lab.contents(run)
    states = {done: lab.weights(run, done, "state/optimizer.safetensors") for done in range(1, 11)}
    steps = [
        float(state["embedding.shift/step"]) if "embedding.shift/step" in state else 0 for state in states.values()
    ]
    # The state of step 3 is saved before the stage.
    assert steps == [1, 2, 3, 0, 0, 0, 1, 2, 3, 4]
    assert float(states[10]["embedding.weight/step"]) == 10
    built = [(fact["step"], fact["has_shift"]) for fact in lab.trace(run) if fact["event"] == "built"]
    assert built == [(1, True), (4, False), (7, True)]


def test_a_recorded_tensor_is_what_it_was_when_it_was_recorded(lab: Any) -> None:
    run = lab.train([RETURNING], "run", **{**SAVING, "training.log_every": 4})
    seen = [(fact["step"], fact["first"]) for fact in lab.trace(run) if fact["event"] == "seen"]
    # With a trace a step is logged whatever the schedule says.
    assert [step for step, _ in seen] == list(range(1, 11))
    live = []
    for step in range(1, 11):
        plain, apart = lab.weights(run, step), run.checkpoint_path(step) / "state" / "live.safetensors"
        # While there is a shift, the matrix that is saved has it in it.
        kept = load_file(apart)["model.embedding.weight"] if apart.exists() else plain["model.embed_tokens.weight"]
        live.append(float(kept[0, 0]))
    assert [value for _, value in seen] == live


def test_captures_follow_structure(lab: Any, cases: Any) -> None:
    """Where everything that a pattern names is frozen, weights are measured on, and gradients when there are some."""
    changes = {
        "capture.every": 2,
        "capture.probes": {"held": {"sequences": 2}},
        "capture.gradients": ["layers.*.attention.q_proj"],
        "capture.updates": ["layers.*.attention.q_proj"],
        "capture.activations": ["layers.*.attention.q_proj"],
    }
    config = lab.config(cases["adapters"].uses, **changes)
    norms = Measurement("norm", ("weight",), ("layers.*.attention.q_proj",), lambda weight: float(weight.norm()))
    slopes = Measurement("slope", ("gradient",), ("layers.*.attention.q_proj",), lambda slope: float(slope.norm()))
    trusted = [use["use"] for use in cases["adapters"].uses]
    run = picolm.train(config, name="run", runs_dir=lab.directory, trusted=trusted, measurements=[norms, slopes])
    measured = {}
    for step in (2, 4, 8, 10):
        table = picolm_table(run.path, step)
        measured[step] = {name: sum(row == name for row in table["metric"]) for name in ("norm", "slope")}
        held = load_file(run.path / "captures" / f"step-{step:08d}" / "held.safetensors")
        assert ("gradient/layers.0.attention.q_proj.weight" in held) == (step in (2, 10))
        assert "activation/layers.0.attention.q_proj" in held
    assert measured == {2: {"norm": 2, "slope": 2}, 4: {"norm": 2, "slope": 0}, 8: {"norm": 2, "slope": 0},
                        10: {"norm": 2, "slope": 2}}  # fmt: skip


def picolm_table(path: Path, step: int) -> dict[str, list[Any]]:
    import pyarrow.parquet as pq

    (file,) = [one for one in (path / "metrics").glob("*.parquet") if f"{step:08d}" in one.name]
    found: dict[str, list[Any]] = pq.read_table(file).to_pydict()
    return found


def test_a_fork_records_what_it_builds_and_a_resumed_one_does_not_record_it_again(lab: Any, cases: Any) -> None:
    changes = {**cases["two_views"].overrides, "checkpoints.state.at": [4]}
    parent = lab.train(cases["two_views"].uses, "parent", **changes)
    fork = picolm.fork(parent.path, at=4, name="fork", trust=True, overrides={"training.steps": 8})
    assert [(fact["step"], fact["event"]) for fact in lab.trace(fork)] == [(5, "head")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", ["together", "metadata", "adapters", "freeze", "two_views", "meta_joint"])
def test_compiled_runs_are_the_eager_ones_and_resume_exactly(lab: Any, cases: Any, name: str) -> None:
    changes = {**cases[name].overrides, "checkpoints.state.every": 2, "optimizer.eps": 1e-4}
    eager = lab.train(cases[name].uses, "eager", **changes)
    whole = lab.train(cases[name].uses, "whole", **{**changes, "training.compile": True})
    for ours, theirs in zip(lab.log(eager), lab.log(whole), strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-4)
    stopped = lab.stopped(cases[name].uses, "stopped", [3, 9], **{**changes, "training.compile": True})
    assert lab.contents(stopped) == lab.contents(whole)


CONFIG = schema.Model(vocab_size=20, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=12, max_length=16)


def numbered_model() -> Any:
    use = {"use": f"{STUBS}/metadata.py:Metadata"}
    (one,) = load_interventions([schema.Use.model_validate(use)], Trust([use["use"]]))

    class Alone:
        def torch_rng(self, *key: object) -> torch.Generator:
            return torch.Generator().manual_seed(1)

        def record(self, event: str, **facts: object) -> None:
            pass

    return one.intervention.model(build_model(CONFIG, 0), 0, Alone()).eval()  # type: ignore[arg-type]


def test_features_go_with_their_positions_where_padding_is_moved() -> None:
    model = numbered_model()
    ids, bins = torch.randint(0, 20, (2, 6)), torch.randint(0, 5, (2, 6))
    whole = model(ids, features={"bin": bins})
    assert not torch.equal(whole, model(ids))
    padding = torch.zeros(2, 3, dtype=torch.long)
    mask = torch.cat((padding, torch.ones_like(ids)), dim=1).bool()
    padded = model(
        torch.cat((padding, ids), dim=1), attention_mask=mask, features={"bin": torch.cat((padding, bins), dim=1)}
    )
    torch.testing.assert_close(padded[:, 3:], whole, rtol=1e-5, atol=1e-5)


def test_features_go_through_a_cache() -> None:
    model = numbered_model()
    ids, bins = torch.randint(0, 20, (1, 6)), torch.randint(0, 5, (1, 6))
    whole = model(ids, features={"bin": bins})
    cache = KeyValueCache(2, torch.tensor([4]), 6)
    parts = [model(ids[:, :4], cache=cache, features={"bin": bins[:, :4]})]
    parts += [model(ids[:, n : n + 1], cache=cache, features={"bin": bins[:, n : n + 1]}) for n in (4, 5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_what_interventions_add_to_the_model_has_a_group(cases: Any) -> None:
    model = numbered_model()
    model.layers[0].gate = torch.nn.Parameter(torch.zeros(()))
    model.extra = torch.nn.Parameter(torch.zeros(3, 4))
    heads = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 2)})
    heads["a"].bias.requires_grad_(False)
    optimizer = schema.Config.model_validate({"optimizer": {"kind": "muon"}}).optimizer
    groups = parameter_groups(model, heads, optimizer)
    by_name = {name: (group["muon"], group["weight_decay"] > 0) for group in groups for name in group["names"]}
    assert by_name["layers.0.gate"] == (False, False)
    assert by_name["layers.0.bins.weight"][0] and by_name["extra"][0]
    assert by_name["heads.a.weight"][0] is False and "heads.a.bias" not in by_name


def test_a_view_without_rows_is_shared_and_cut_into_nothing() -> None:
    empty = View("a", {"input_ids": torch.zeros(0, 4)}, np.zeros(0, dtype=np.int64))
    assert [empty.share(rank, 2)[0].n_rows for rank in range(2)] == [0, 0]
    assert list(empty.cut(3)) == []


def test_a_model_without_twin_is_opened_by_the_interventions_of_its_run(lab: Any, cases: Any) -> None:
    run = lab.train(cases["metadata"].uses, "run")
    model, _ = picolm.open_model(run.path, trust=True)
    stored = lab.weights(run)
    assert stored.keys() == model.state_dict().keys()
    np.testing.assert_array_equal(model.state_dict()["layers.1.bins.weight"], stored["layers.1.bins.weight"])
