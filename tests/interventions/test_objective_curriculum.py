"""Units of word classes: when they are active, what they choose, what they move, and that they learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from picolm.errors import PicoLMError
from picolm.interventions.head_schedule import rise_and_fall
from picolm.interventions.stages import Stage, StageTable, stage_table, table_names
from picolm.model.class_head import ClassHead
from picolm.seams import IGNORE
from picolm.text.tagging import UPOS
from picolm.text.tagsets import COARSE

USE = "objective_curriculum"
SAVING = {"checkpoints.state.every": 1, "checkpoints.keep_states": None}
TABLE = """
tagset: coarse
main: [{main}, 1.0]
stages:
  any:
    - {{name: first, span: [0.0, 0.4], tags: [NOUN, VERB]}}
    - {{name: second, span: [0.4, {end}], tags: [NOUN, VERB, DET, ADJ]}}
"""


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def write(main: float = 0.0, end: float = 0.8) -> str:
        path = tmp_path / f"stages-{main}-{end}.yaml"
        path.write_text(TABLE.format(main=main, end=end))
        return str(path)

    return write


def active(name: str, step: int, steps: int = 400_000) -> tuple[list[str], bool]:
    table = stage_table(name)
    names = [stage.name for stage in table.of(None) if step in stage.steps(steps)]
    return names, step in table.main_steps(steps)


@pytest.mark.parametrize(
    ("steps", "place"), [((0, 50_000, 99_999), 0), ((100_000, 219_999), 1), ((220_000, 299_999), 2),
                         ((300_000, 399_999), 3)]
)  # fmt: skip
def test_the_stages_of_acquisition(steps: tuple[int, ...], place: int) -> None:
    for name in ("growing", "inwards", "mmm"):
        stages = stage_table(name).of("ja")
        for step in steps:
            assert active(name, step) == ([stages[place].name], True)


def test_the_classes_of_acquisition() -> None:
    everything = set(UPOS) | set(COARSE)
    firsts = {"growing": {"NOUN", "VERB"}, "inwards": {"INTJ", "SYM", "X"}, "mmm": {"NOUN", "VERB"}}
    seconds = {
        "growing": {"DET", "ADJ", "PRON", "PROPN", "NUM", "PRT"},
        "inwards": {"CONJ", "CCONJ", "SCONJ", "PROPN"},
        "mmm": {"DET", "CONJ", "INTJ"},
    }
    thirds = {
        "growing": {"AUX", "PART", "ADP", "ADV"},
        "inwards": {"NUM", "PRT", "AUX", "PART", "ADP", "ADV"},
        "mmm": {"ADJ", "ADV", "PRON", "PROPN", "NUM", "PRT"},
    }
    for name in firsts:
        lists = [set(stage.tags) for stage in stage_table(name).of(None)]
        assert all(len(stage.tags) == len(set(stage.tags)) for stage in stage_table(name).of(None))
        assert lists[0] == firsts[name] and lists[1] - lists[0] == seconds[name] and lists[2] - lists[1] == thirds[name]
        assert lists[0] < lists[1] < lists[2] < lists[3] == everything and len(lists[3]) == 20


def test_the_units_of_climb() -> None:
    eighth = {0: True, 49_999: True, 50_000: False, 399_999: False}
    for name, unit in (("pos_all_mlm", "all"), ("pos_nv_mlm", "noun_verb")):
        for step, is_first in eighth.items():
            assert active(name, step) == (([unit], False) if is_first else ([], True))
    for step in (0, 24_999, 25_000, 49_999, 50_000, 399_999):
        unit = ["noun_verb"] if step < 25_000 else ["all"]
        assert active("multitask_pos_nv_all_mlm", step) == (unit, step >= 50_000)
        assert active("multitask_pos_nv_all_mlm_0", step) == (unit, True)
        assert active("multitask_pos_all_mlm", step) == (["all"], step >= 50_000)
        assert active("multitask_pos_all_mlm_0", step) == (["all"], True)
        assert active("multitask_pos_nv_mlm_0", step) == (["noun_verb"], True)
    assert set(stage_table("pos_all_mlm").of(None)[0].tags) == set(COARSE) - {"X"}
    assert len(table_names()) == 10


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    stage = {"name": "a", "span": [0.2, 0.5], "tags": ["NOUN"]}
    for table, message in (
        ({"main": [0.3, 1.0], "stages": {"any": [stage]}}, r"leave the run between 0.0 and 0.2 empty"),
        ({"main": [0.0, 0.4], "stages": {"any": [stage]}}, r"leave the run after 0.5 empty"),
        ({"stages": {"any": [stage, stage]}}, "have the name a twice"),
        ({"stages": {"any": [{**stage, "tags": ["X", "X"]}]}}, "a has X twice"),
        ({"stages": {"any": [{**stage, "span": [0.5, 0.5]}]}}, "ends at 0.5, not after 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            StageTable.model_validate(table)
    with pytest.raises(PicoLMError, match="there is no table of stages 'growin'; did you mean 'growing'"):
        stage_table("growin")
    with pytest.raises(PicoLMError, match="cannot read the table of stages"):
        stage_table(str(tmp_path / "none.yaml"))
    with pytest.raises(PicoLMError, match="the table has no stages for 'fi'"):
        StageTable.model_validate({"stages": {"fr": [stage]}}).of("fi")


def test_rates_and_shares_are_those_that_are_set(lab: Any, table: Any) -> None:
    seen = lab.seen({"use": USE, "table": table()}, **lab.TAGGED, **lab.MASKED)
    special = sorted(seen.run.tokenizer.special_ids)
    mask_id = seen.run.tokenizer.mask_id
    noun_verb = np.array([False, *(name in ("NOUN", "VERB", "AUX", "PROPN") for name in seen.run.tag_names)])
    counts = np.zeros((2, 2))
    fates = np.zeros(3)
    rows = np.arange(seen.run.n_rows)
    for step in range(4):
        views, sequences = seen.views(rows, step)
        assert [view.name for view in views] == ["masked", "first"]
        view, tokens, tags = views[1], sequences.tokens[:, :-1], sequences.tags[:, :-1]
        positions, classes = view.tensors["positions"].numpy(), view.tensors["first_classes"].numpy()
        chosen = np.zeros(tokens.shape, dtype=bool)
        real = classes != IGNORE
        np.put_along_axis(chosen, np.where(real, positions, positions[:, :1]), True, axis=1)
        chosen[~real.any(1)] = False
        np.testing.assert_array_equal(chosen.sum(1), view.units)
        ordinary = ~np.isin(tokens, special)
        assert not (chosen & ~ordinary).any()
        for inside in (0, 1):
            where = ordinary & (noun_verb[tags] == bool(inside))
            counts[inside] += (chosen & where).sum(), where.sum()
        at = np.take_along_axis(tags, positions, axis=1)[real]
        coarse = {"NOUN": 1, "PROPN": 1, "VERB": 2, "AUX": 2}
        np.testing.assert_array_equal(
            classes[real], [0 if tag == 0 else coarse.get(seen.run.tag_names[tag - 1], 0) for tag in at]
        )
        shown = view.tensors["input_ids"].numpy()
        np.testing.assert_array_equal(shown[~chosen], tokens[~chosen])
        fates += (shown == mask_id)[chosen].sum(), ((shown != mask_id) & (shown != tokens))[chosen].sum(), chosen.sum()
    for (n_chosen, n), rate in zip(counts, (0.15, 0.40), strict=True):
        assert n > 4000 and abs(n_chosen - rate * n) < 4 * (rate * (1 - rate) * n) ** 0.5
    masked, randomised, n = fates
    assert abs(masked - 0.8 * n) < 4 * (0.16 * n) ** 0.5
    # A random token is, now and then, the one that stood there.
    assert abs(randomised - 0.1 * n) < 4 * (0.09 * n) ** 0.5 + 0.1 * n / 300


def test_validation_is_shown_no_unit(lab: Any, table: Any) -> None:
    seen = lab.seen({"use": USE, "table": table(main=0.4)}, **lab.TAGGED, **lab.MASKED)
    assert [view.name for view in seen.views([0, 1], 0, measure=True)[0]] == ["masked"]
    assert [[view.name for view in seen.views([0, 1], step)[0]] for step in (0, 3, 4, 7, 8, 9)] == [
        ["first"], ["first"], ["masked", "second"], ["masked", "second"], ["masked"], ["masked"]]  # fmt: skip


def test_in_front_of_their_span_tokens_leave_their_matrix_alone(lab: Any, table: Any) -> None:
    use = {"use": USE, "table": table(main=0.4)}
    changes = {**lab.TAGGED, **lab.MASKED, **SAVING}
    run = lab.train([use], "run", **changes)
    first, before, after = (lab.weights(run, step)["lm_head.weight"] for step in (1, 4, 5))
    np.testing.assert_array_equal(first, before)
    assert not np.array_equal(before, after)
    assert [set(line["losses"]) for line in lab.log(run)] == [
        *[{"first"}] * 4, *[{"masked", "second"}] * 4, *[{"masked"}] * 2]  # fmt: skip
    moments = [lab.weights(run, step, "state/optimizer.safetensors") for step in (4, 8, 10)]
    key = "heads.{}.head.out.weight/step"
    assert [[float(state.get(key.format(unit), 0.0)) for unit in ("first", "second")] for state in moments] == [
        [4.0, 0.0], [4.0, 4.0], [4.0, 4.0]]  # fmt: skip
    live = [lab.weights(run, step, "state/live.safetensors") for step in (4, 10)]
    for name in live[0]:
        if name.startswith("heads.first."):
            np.testing.assert_array_equal(live[0][name], live[1][name])


@pytest.mark.parametrize("corruption", ["own", "shared", "causal"])
def test_without_weight_the_run_is_the_plain_one_bit_for_bit(lab: Any, table: Any, corruption: str) -> None:
    changes = {**lab.TAGGED, **(lab.MASKED if corruption != "causal" else {})}
    # The norm that is clipped by adds up other tensors too, and so rounds in another order.
    changes["training.gradient_clip"] = None
    use = {"use": USE, "table": table(), "weight": 0.0}
    run = lab.train([{**use, "corruption": corruption} if corruption != "causal" else use], "run", **changes)
    plain = lab.train([], "plain", **changes)
    ours, theirs = lab.weights(run), lab.weights(plain)
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_beside_the_tokens_the_loss_is_a_mean_over_the_units_places(lab: Any, table: Any, kind: str) -> None:
    """However the view is cut: against cross-entropy written out."""
    changes = {**lab.TAGGED, **(lab.MASKED if kind == "masked" else {})}
    seen = lab.seen({"use": USE, "table": table(), "corruption": "shared"}, **changes)
    (view,), sequences = seen.views(list(range(12)), 0)
    classes = view.tensors["first_classes"]
    at = (
        np.take_along_axis(sequences.tags[:, :-1], view.tensors["positions"].numpy(), axis=1)
        if kind == "masked"
        else sequences.tags[:, 1:]
    )
    coarse = {"NOUN": 1, "PROPN": 1, "VERB": 2, "AUX": 2}
    wanted = np.vectorize(lambda tag: coarse.get(seen.run.tag_names[tag - 1], 0) if tag else 0)(at)
    places = classes.numpy() != IGNORE
    np.testing.assert_array_equal(classes.numpy()[places], wanted[places])
    if kind == "masked":
        np.testing.assert_array_equal(places, view.tensors["targets"].numpy() != IGNORE)
    from picolm.model.initialization import build_model
    from picolm.seams import Objective

    model = build_model(seen.ingredients.config.model, 0).double()
    objective = Objective(model, seen.ingredients.formulation.terms())
    changed = seen.intervention.objective(objective, 0, seen.run).double()
    hidden = changed.hidden(view)
    if kind == "masked":
        hidden = hidden.gather(1, view.tensors["positions"][..., None].expand(-1, -1, hidden.shape[-1]))
    scores = changed.terms["first"].head.head(hidden)
    mean = F.cross_entropy(scores.flatten(0, 1), classes.flatten(), ignore_index=IGNORE)
    sums = sum(changed(part)["first"] for part in view.cut(5))
    torch.testing.assert_close(sums / view.n_units, mean, rtol=1e-6, atol=0)
    assert float(changed(view)["second"]) == 0.0 and not changed(view)["second"].requires_grad


def test_the_control_of_equal_compute_predicts_tokens_at_the_same_places(lab: Any, table: Any) -> None:
    changes = {**lab.TAGGED, **lab.MASKED}
    use = {"use": USE, "table": table()}
    ours, control = (lab.seen({**use, "control": name}, **changes) for name in ("none", "tokens"))
    (_, unit), sequences = ours.views([3, 4], 1)
    (_, tokens), _ = control.views([3, 4], 1)
    np.testing.assert_array_equal(unit.tensors["input_ids"], tokens.tensors["input_ids"])
    np.testing.assert_array_equal(unit.tensors["positions"], tokens.tensors["positions"])
    real = unit.tensors["first_classes"].numpy() != IGNORE
    at = np.take_along_axis(sequences.tokens[:, :-1], tokens.tensors["positions"].numpy(), axis=1)
    np.testing.assert_array_equal(tokens.tensors["targets"].numpy()[real], at[real])
    run = lab.train([{**use, "control": "tokens"}], "run", **changes)
    assert not any(name.startswith("heads.") for name in lab.weights(run, 10, "state/optimizer.safetensors"))
    planned = lab.trace(run)[0]
    assert planned["forwards_per_step"] == 1.8 and planned["steps_of_equal_compute"] == 18
    shuffled = lab.seen({**use, "control": "shuffled"}, **changes)
    (_, view), _ = shuffled.views(list(range(40)), 1)
    (_, plain), _ = ours.views(list(range(40)), 1)
    assert not np.array_equal(view.tensors["input_ids"], plain.tensors["input_ids"])


@pytest.mark.parametrize("corruption", ["own", "shared", "causal"])
def test_a_run_resumes_exactly_at_every_switch(lab: Any, table: Any, corruption: str) -> None:
    changes = {**lab.TAGGED, **(lab.MASKED if corruption != "causal" else {}), **SAVING, "training.ema.start": 1}
    uses = [{"use": USE, "table": table(main=0.4), **({"corruption": corruption} if corruption != "causal" else {})}]
    whole = lab.train(uses, "whole", **changes)
    assert lab.contents(lab.stopped(uses, "stopped", [3, 4, 8], **changes)) == lab.contents(whole)
    assert [fact["active"] for fact in lab.trace(whole) if fact["event"] == "units"] == [
        ["first"], ["second", "tokens"], ["tokens"]]  # fmt: skip


@pytest.mark.parametrize("form", ["own", "shared", "tokens", "causal"])
def test_units_are_captured_with_the_rest_in_reduced_precision_too(lab: Any, table: Any, form: str) -> None:
    """A term that rests has no token losses; one that is active has some."""
    use = {"use": USE, "table": table(main=0.4)}
    use |= {"control": "tokens"} if form == "tokens" else {"corruption": form} if form in ("own", "shared") else {}
    changes = {
        **lab.TAGGED,
        **(lab.MASKED if form != "causal" else {}),
        "training.precision": "bf16",
        "capture.every": 2,
        "capture.train_batch": True,
        "capture.activations": ["residual.1"],
    }
    run = lab.train([use], "run", **changes)
    assert all(np.isfinite(line["loss"]) for line in lab.log(run))
    main = "causal" if form == "causal" else "masked"
    for step, wanted in ((2, {"first"}), (6, {"second", main}), (10, {main})):
        found = set()
        for file in (run.path / "captures" / f"step-{step:08d}").glob("train*.safetensors"):
            losses = {name: loss for name, loss in load_file(file).items() if name.startswith("token_loss/")}
            found |= {name.removeprefix("token_loss/") for name, loss in losses.items() if np.isfinite(loss).any()}
        assert found == wanted


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_head_learns_classes(lab: Any, tmp_path: Path, kind: str) -> None:
    """On a grammar of two classes that take turns, whose words say nothing where they are masked."""
    draw = np.random.default_rng(0)
    records = []
    for _ in range(200):
        words = [f"{'ab'[place % 2]}{draw.integers(6)}" for place in range(24)]
        tags = ["NOUN" if word[0] == "a" else "VERB" for word in words]
        records.append(json.dumps({"text": " ".join(words), "tokens": words, "upos": tags}))
    source, table = tmp_path / "turns.jsonl", tmp_path / "t.yaml"
    source.write_text("\n".join(records))
    table.write_text("stages: {any: [{name: pos, span: [0.0, 1.0], tags: [NOUN]}]}")
    changes = {**(lab.MASKED if kind == "masked" else {}), "data.sources": [str(source)], "training.steps": 150}
    run = lab.train([{"use": USE, "table": str(table)}], "run", **{**changes, "training.batch_size": 16})
    losses = [line["losses"]["pos"] for line in lab.log(run)]
    # Half of the words are of each class, and 0.40 of 0.55 of those that are asked of the listed one.
    share = 0.40 / 0.55
    majority = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert np.mean(losses[-10:]) < 0.75 * majority


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_without_heads_listed_tokens_weigh_more_and_one_on_average(lab: Any, table: Any, kind: str) -> None:
    """However the view is cut: against the losses of single tokens, weighted by hand."""
    from picolm.model.initialization import build_model
    from picolm.seams import Objective

    changes = {**lab.TAGGED, **(lab.MASKED if kind == "masked" else {})}
    use = {"use": USE, "table": table(), "form": "weights", "inside": 0.6, "outside": 0.2}
    seen = lab.seen(use, **changes)
    model = build_model(seen.ingredients.config.model, 0).double()
    plain = Objective(model, seen.ingredients.formulation.terms())
    changed = seen.intervention.objective(plain, 0, seen.run)
    (view,), sequences = seen.views(list(range(12)), 0)
    losses = plain.terms[kind].token_losses(model, plain.hidden(view), view.tensors).detach().numpy()
    tags = sequences.tags[:, 1:] if kind == "causal" else sequences.tags[:, :-1]
    listed = np.array([False, *(name in ("NOUN", "PROPN", "VERB", "AUX") for name in seen.run.tag_names)])[tags]
    weights = np.where(listed, 0.6, 0.2)
    scored = np.isfinite(losses)
    wanted = (losses * weights)[scored].sum() / weights[scored].mean()
    found = sum(float(changed(part)[kind].detach()) for part in view.cut(5))
    assert found == pytest.approx(wanted, rel=1e-6)
    # Outside of all stages, and with equal weights, it is the plain loss.
    (rest,), _ = seen.views(list(range(12)), 9)
    assert "listed" not in rest.tensors
    equal = lab.seen({**use, "outside": 0.6}, **changes)
    (even,), _ = equal.views(list(range(12)), 0)
    assert float(changed(even)[kind].detach()) == pytest.approx(np.nansum(losses), rel=1e-6)
    run = lab.train([use], "run", **changes, **SAVING)
    assert lab.contents(lab.stopped([use], "stopped", [4, 8], **changes, **SAVING)) == lab.contents(run)
    with pytest.raises(PicoLMError, match="form=weights weighs tokens, which rest"):
        lab.train([{**use, "table": table(main=0.4)}], "resting", **changes)


def test_heads_rise_and_fall_within_their_stage() -> None:
    found = [rise_and_fall(step, range(10, 30), 0.1) for step in range(40)]
    assert found[:10] == [0.0] * 10 and found[30:] == [0.0] * 10
    assert found[10:13] == pytest.approx([0.5, 1.0, 1 - 1 / 19]) and found[29] == pytest.approx(1 / 19)
    assert rise_and_fall(0, range(3), 0.0) == 1.0


def test_the_head_is_dense_gelu_norm_linear() -> None:
    head = ClassHead(6, 3, torch.Generator().manual_seed(0))
    x = torch.randn(4, 6)
    y = F.gelu(x @ head.dense.weight.T)
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), y @ head.out.weight.T)
    assert sum(p.numel() for p in head.parameters()) == 6 * 6 + 6 + 2 * 6 + 6 * 3 + 3


def test_what_cannot_be_learnt_is_named(lab: Any, table: Any, tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="objective_curriculum needs parts of speech with the tokens"):
        lab.train([{"use": USE}], "untagged", **lab.MASKED)
    only_x = tmp_path / "x.jsonl"
    only_x.write_text('{"text": "one two three four five six", "tokens": "one two", "upos": "X X"}\n' * 3 +
                      "".join(f'{{"text": "one two three four {n}"}}\n' for n in range(60)))  # fmt: skip
    changes = {**lab.MASKED, "data.sources": [str(only_x)], "data.sequence_length": 16}
    with pytest.raises(PicoLMError, match="all words of the data have the part of speech X"):
        lab.train([{"use": USE, "table": "pos_all_mlm"}], "x", **changes)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("stages: {any: [{name: a, span: [0.0, 1.0], tags: [NOUNS]}]}")
    with pytest.raises(PicoLMError, match="names the tag 'NOUNS', which there is not; did you mean 'NOUN'"):
        lab.train([{"use": USE, "table": str(wrong)}], "wrong", **lab.TAGGED, **lab.MASKED)
    with pytest.raises(PicoLMError, match="control=tokens needs corruption=own"):
        lab.train([{"use": USE, "control": "tokens", "corruption": "shared"}], "c", **lab.TAGGED, **lab.MASKED)
    assert Stage(name="a", span=(0.0, 1.0), tags=("NOUN",)).steps(7) == range(7)
