"""Which words are open, by every map, in inputs and targets; and what is never closed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from picolm.errors import PicoLMError
from picolm.seams import IGNORE
from picolm.text.tagsets import COARSE, COARSE_OF

USE = "vocabulary_curriculum"
MAPS = ("token_ids", "frequency", "pos_tags", "pos_tags_and_ids")
LINEAR = {"kind": "linear", "start": 0.0, "end": 1.0}
ROWS = list(range(40))


def closed(seen: Any, step: int, kind: str) -> dict[str, Any]:
    """For inputs and targets: before, after, and the class of each place."""
    (view,), sequences = seen.views(ROWS, step)
    plain = seen.plain(ROWS, step)
    names = [COARSE_OF.get(name, "X") for name in ("X", *seen.run.tag_names)]
    classes = np.vectorize(lambda tag: COARSE.index(names[tag]))(sequences.tags)
    at = {"input_ids": classes[:, :-1], "targets": classes[:, 1:]}
    if kind == "masked":
        at["targets"] = np.take_along_axis(classes[:, :-1], plain.tensors["positions"].numpy(), axis=1)
    return {name: (plain.tensors[name].numpy(), view.tensors[name].numpy(), groups) for name, groups in at.items()} | {
        "views": (plain, view)
    }


@pytest.mark.parametrize("kind", ["causal", "masked"])
@pytest.mark.parametrize("by", MAPS)
def test_what_is_open_is_what_the_map_says(lab: Any, by: str, kind: str) -> None:
    changes = {**lab.TAGGED, **(lab.MASKED if kind == "masked" else {}), "training.steps": 100}
    seen = lab.seen({"use": USE, "by": by, "pacing": LINEAR}, **changes)
    tokenizer, vocab = seen.run.tokenizer, seen.run.tokenizer.vocab_size
    special, unknown = sorted(tokenizer.special_ids), tokenizer.pad_id
    counts = np.bincount(seen.run.sequences(np.arange(seen.run.n_rows)).tokens[:, 1:].ravel(), minlength=vocab)
    before: dict[str, Any] = {}

    def more_frequent(token: int) -> int:
        return int((counts > counts[token]).sum() + (counts[: max(token, 0)] == counts[token]).sum())

    for step in (0, 30, 50, 99):
        p = 0.1 + 0.9 * step / 100
        found = closed(seen, step, kind)
        for name in ("input_ids", "targets"):
            plain, shown, group = found[name]
            harder = {
                "token_ids": plain > p * vocab,
                "frequency": np.vectorize(lambda t: more_frequent(t) >= p * vocab)(plain),  # noqa: B023
                "pos_tags": group > 11 * p,
                "pos_tags_and_ids": plain + group * vocab >= 12 * p * vocab,
            }[by]  # fmt: skip
            hard = np.array(harder) & ~np.isin(plain, [*special, IGNORE])
            np.testing.assert_array_equal(shown, np.where(hard, unknown, plain))
            # What was open once stays open; chance chooses others to be masked, so only causal rows can be compared.
            if kind == "causal" and name in before:
                assert not (hard & ~before[name]).any()
            before[name] = hard
        assert step or before["input_ids"].any()


@pytest.mark.parametrize("by", MAPS)
def test_when_all_is_open_nothing_is_changed_and_validation_never_is(lab: Any, by: str) -> None:
    seen = lab.seen({"use": USE, "by": by, "pacing": {**LINEAR, "end": 0.5}}, **lab.TAGGED, **{"training.steps": 10})
    for step, measure in ((5, False), (9, False), (0, True)):
        (view,), _ = seen.views(ROWS, step, measure=measure)
        plain = seen.plain(ROWS, step)
        for name, tensor in plain.tensors.items():
            np.testing.assert_array_equal(view.tensors[name], tensor)
    # And by the rule itself, without the short way.
    closing = seen.intervention._prepared(seen.run)
    rows = seen.run.sequences(np.arange(seen.run.n_rows))
    assert closing.is_open(rows.tokens, rows.tags, 1.0).all()


def test_at_a_tenth_only_nouns_and_verbs_are_open(lab: Any) -> None:
    seen = lab.seen({"use": USE, "by": "pos_tags"}, **lab.TAGGED)
    plain, shown, group = closed(seen, 0, "causal")["input_ids"]
    kept = shown == plain
    special = np.isin(plain, sorted(seen.run.tokenizer.special_ids))
    np.testing.assert_array_equal(kept, special | (group <= 1))
    assert {COARSE[g] for g in np.unique(group[kept & ~special])} == {"NOUN", "VERB"}


def test_closed_targets_may_be_left_out(lab: Any) -> None:
    seen = lab.seen({"use": USE, "by": "pos_tags", "targets": "ignored"}, **lab.TAGGED)
    (view,), _ = seen.views(ROWS, 0)
    plain, shown, group = closed(seen, 0, "causal")["targets"]
    hard = (group > 1) & ~np.isin(plain, sorted(seen.run.tokenizer.special_ids))
    np.testing.assert_array_equal(shown, np.where(hard, IGNORE, plain))
    np.testing.assert_array_equal(view.units, (shown != IGNORE).sum(axis=1))


def test_what_cannot_be_is_named(lab: Any) -> None:
    for use, changes, message in (
        ({"by": "pos_tags"}, {}, "vocabulary_curriculum needs parts of speech with the tokens"),
        ({"unknown": "<nothing>"}, {}, "the tokenizer has no token '<nothing>'"),
    ):
        seen = lab.seen({"use": USE, **use}, **changes)
        with pytest.raises(PicoLMError, match=message):
            seen.views([0], 0)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_run_resumes_exactly_while_words_are_closed(lab: Any, kind: str) -> None:
    use = {"use": USE, "by": "pos_tags_and_ids", "pacing": LINEAR}
    changes = {**lab.TAGGED, **(lab.MASKED if kind == "masked" else {}), "checkpoints.state.every": 2}
    whole = lab.train([use], "whole", **changes)
    assert lab.contents(lab.stopped([use], "stopped", [3, 6], **changes)) == lab.contents(whole)
    shares = [0.1 + 0.09 * step for step in range(10)]
    # A line at each tenth that is reached.
    wanted = [
        p for p, before in zip(shares, [0.0, *shares], strict=False) if int(10 * p + 1e-9) > int(10 * before + 1e-9)
    ]
    assert [fact["share"] for fact in lab.trace(whole)] == pytest.approx(wanted)


@pytest.mark.parametrize("by", MAPS)
@pytest.mark.parametrize("corruption", ["own", "shared"])
def test_classes_of_words_as_targets_are_left_alone(lab: Any, by: str, corruption: str) -> None:
    changes = {**lab.TAGGED, **lab.MASKED}
    units = lab.seen({"use": "objective_curriculum", "corruption": corruption}, **changes)
    words = lab.seen({"use": USE, "by": by}, **changes)
    views, sequences = units.views(ROWS, 0)
    closed_views = words.intervention.views(views, sequences, words.run, measure=False)
    assert [view.name for view in closed_views] == [view.name for view in views]
    pairs = [(a.tensors["input_ids"], b.tensors["input_ids"]) for a, b in zip(views, closed_views, strict=True)]
    assert not any(np.array_equal(a, b) for a, b in pairs)
    for before, after in zip(views, closed_views, strict=True):
        for name in before.tensors.keys() - {"input_ids", "targets"}:
            np.testing.assert_array_equal(before.tensors[name], after.tensors[name])
        masked = (before.tensors["input_ids"] == words.run.tokenizer.mask_id).numpy()
        assert (after.tensors["input_ids"].numpy()[masked] == words.run.tokenizer.mask_id).all()
