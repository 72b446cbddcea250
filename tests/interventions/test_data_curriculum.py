"""Which rows are in the pool and how they are drawn; difficulty against its definitions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from picolm.errors import PicoLMError
from picolm.interventions.difficulty import named_ranks, perplexity_of_ngrams
from picolm.model.huggingface import load_model
from picolm.model.initialization import build_model
from picolm.objective.pseudo import PseudoLikelihood
from picolm.seams import Objective, Sequences

USE = "data_curriculum"
LINEAR = {"kind": "linear", "start": 0.0, "end": 1.0}


def pool_of(seen: Any, step: int) -> np.ndarray:  # type: ignore[type-arg]
    first, stop = seen.intervention.pool(step, seen.run)
    return np.asarray(seen.intervention.orders[0].numpy()[first:stop])


def test_the_pool_has_its_size_under_ties_and_grows_by_what_is_next(lab: Any) -> None:
    # Two domains, so that all rows but those on a border tie.
    use = {"use": USE, "by": "field", "ranks": {"up": 1, "down": 2}, "pacing": LINEAR}
    seen = lab.seen(use, **{"training.steps": 97})
    plan, n = seen.plan(), seen.run.n_rows
    pools = [set(pool_of(seen, step).tolist()) for step in range(97)]
    assert [len(pool) for pool in pools] == [math.ceil(round((0.1 + 0.9 * step / 97) * n, 6)) for step in range(97)]
    assert all(a <= b for a, b in pairwise(pools))
    assert set(plan.rows(0).tolist()) <= pools[0]


def test_draws_are_even_within_the_pool_and_never_outside(lab: Any) -> None:
    use = {"use": USE, "by": "random", "pacing": {"kind": "step", "end": 1.0, "begin": 0.4}}
    seen = lab.seen(use, **{"training.steps": 2000})
    plan, pool = seen.plan(), set(pool_of(seen, 0).tolist())
    drawn = np.concatenate([plan.rows(step) for step in range(1250)])
    assert len(drawn) == 10_000 and set(drawn.tolist()) == pool
    counts = np.bincount(drawn, minlength=seen.run.n_rows)[sorted(pool)]
    # Without replacement within a step counts are a little more even than chi-square expects.
    assert chisquare(counts).pvalue > 1e-3
    assert all(len(set(plan.rows(step).tolist())) == 8 for step in range(200))


def test_a_batch_that_is_larger_than_the_pool_holds_every_row_as_often(lab: Any) -> None:
    use = {"use": USE, "by": "random", "pacing": {"kind": "step", "end": 1.0, "begin": 0.0}}
    seen = lab.seen(use)
    assert len(set(seen.plan().rows(0).tolist())) == 1


def test_a_window_moves_along_the_order(lab: Any) -> None:
    use = {"use": USE, "by": "field", "field": "number", "window": 0.2, "pacing": {**LINEAR, "begin": 0.2}}
    seen = lab.seen(use, **{"training.steps": 50})
    plan, n = seen.plan(), seen.run.n_rows
    scores = np.array(seen.run.metadata("train", "number"), dtype=float)
    rows = seen.run.sequences(np.arange(n)).documents[:, 1:]
    by_hand = scores[rows].mean(axis=1)
    means = [by_hand[plan.rows(step)].mean() for step in range(50)]
    assert means[0] < means[25] < means[49]
    for step in (0, 20, 49):
        first, stop = seen.intervention.pool(step, seen.run)
        assert stop - first == math.ceil(round(0.2 * n, 6))
        np.testing.assert_allclose(by_hand[pool_of(seen, step)], np.sort(by_hand)[first:stop])
    falling = lab.seen({**use, "descending": True}, **{"training.steps": 50})
    falling.plan()
    np.testing.assert_allclose(by_hand[pool_of(falling, 0)], np.sort(by_hand)[::-1][: math.ceil(round(0.2 * n, 6))])


def test_the_same_seed_draws_the_same_and_any_step_can_be_asked_for(lab: Any) -> None:
    plans = [lab.seen({"use": USE, "n": 2}).plan() for _ in range(2)]
    forwards = [plans[0].rows(step).tolist() for step in range(10)]
    assert [plans[1].rows(step).tolist() for step in range(9, -1, -1)] == forwards[::-1]
    other = lab.seen({"use": USE, "n": 2}, **{"seeds.interventions": 5}).plan()
    assert [other.rows(step).tolist() for step in range(10)] != forwards


def test_with_everything_open_from_the_start_order_is_random(lab: Any) -> None:
    """The control of random order: the same way to draw, nothing ordered."""
    seen = lab.seen({"use": USE, "pacing": {"kind": "constant"}})
    seen.plan()
    assert [seen.intervention.pool(step, seen.run) for step in (0, 9)] == [(0, seen.run.n_rows)] * 2


def test_the_orders_of_sources_are_those_of_climb() -> None:
    spoken, grammatical = named_ranks()["spoken_first"], named_ranks()["grammatical_first"]
    assert sorted(spoken) == sorted(grammatical) and len(spoken) == 10
    wanted = [["aochildes"], ["bnc_spoken", "switchboard"], ["open_subtitles", "qed"], ["cbt", "children_stories"],
              ["simple_wikipedia"], ["gutenberg", "wikipedia"]]  # fmt: skip
    assert [sorted(name for name, rank in spoken.items() if rank == level) for level in range(1, 7)] == wanted
    wanted = [["cbt", "children_stories"], ["simple_wikipedia"], ["gutenberg", "wikipedia"], ["open_subtitles"],
              ["bnc_spoken", "switchboard"], ["aochildes", "qed"]]  # fmt: skip
    assert [sorted(name for name, rank in grammatical.items() if rank == level) for level in range(1, 7)] == wanted


def test_unigram_perplexity_by_hand() -> None:
    # p(1) = 3/5, p(2) = p(3) = 1/5.
    assert perplexity_of_ngrams(np.array([[1, 1, 2, 3, 1]]), 1) == pytest.approx(
        [(0.6**3 * 0.2**2) ** (-1 / 5)], rel=1e-12
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ngram_perplexity_is_that_of_every_order(n: int) -> None:
    rows = np.random.default_rng(n).integers(0, 7, (20, 9))
    grams = Counter(tuple(row[i : i + k]) for row in rows.tolist() for k in range(1, n + 1) for i in range(10 - k))
    history: Counter[tuple[int, ...]] = Counter()
    for gram, count in grams.items():
        history[(len(gram), *gram[:-1])] += count
    wanted = []
    for row in rows.tolist():
        logs = [
            math.log(grams[gram] / history[(k, *gram[:-1])])
            for k in range(1, n + 1)
            for gram in (tuple(row[i : i + k]) for i in range(10 - k))
        ]
        wanted.append(math.exp(-sum(logs) / len(logs)))
    np.testing.assert_allclose(perplexity_of_ngrams(rows, n), wanted, rtol=1e-12)


def test_pseudo_perplexity_is_that_of_a_loop_over_places(lab: Any) -> None:
    seen = lab.seen({"use": USE}, **lab.TAGGED, **lab.MASKED, **{"model.dropout": 0.3})
    tokenizer, config = seen.run.tokenizer, seen.ingredients.config
    model = build_model(config.model, 0)
    objective = Objective(model, PseudoLikelihood(mask_id=tokenizer.mask_id, special_ids=set()).terms())
    rows = seen.run.sequences(np.arange(3))
    padded = Sequences(rows.tokens, np.array([17, 9, 17]), rows.ids, "train", 0, rows.documents, rows.tags)
    asked = PseudoLikelihood(mask_id=tokenizer.mask_id, special_ids=tokenizer.special_ids)
    from picolm.training.validation import measured_views, row_losses

    views = measured_views(asked, padded)
    found = [row_losses(objective.train(), views, config, torch.device("cpu")) for _ in range(2)]
    assert torch.equal(*found) and model.training
    model.eval()
    wanted = []
    for row, valid in zip(padded.tokens[:, :-1], (16, 9, 16), strict=True):
        losses = []
        for place in range(valid):
            if int(row[place]) in tokenizer.special_ids:
                continue
            ids = torch.from_numpy(row[:valid].copy())[None]
            ids[0, place] = tokenizer.mask_id
            with torch.no_grad():
                log_p = model.logits(model(ids))[0, place].log_softmax(-1)
            losses.append(-float(log_p[row[place]]))
        wanted.append(sum(losses) / len(losses))
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5)


def test_rows_are_scored_by_the_model_as_it_is_and_drawn_by_that(lab: Any) -> None:
    use = {"use": USE, "by": "model", "refresh": 4, "pacing": {**LINEAR, "begin": 0.3}}
    changes = {"checkpoints.state.every": 1, "checkpoints.keep_states": None}
    run = lab.train([use], "run", **changes)
    facts = [fact for fact in lab.trace(run) if fact["event"] == "scored"]
    assert [fact["step"] for fact in facts] == [5, 9]
    seen = lab.seen(use)
    model = load_model(run.checkpoint_path(4)).eval()
    tokens = torch.from_numpy(seen.run.sequences(np.arange(seen.run.n_rows)).tokens)
    with torch.no_grad():
        log_p = model.logits(model(tokens[:, :-1])).log_softmax(-1)
    losses = -log_p.gather(2, tokens[:, 1:, None])[..., 0].mean(1)
    assert facts[0]["mean"] == pytest.approx(float(losses.exp().mean()), rel=1e-4)
    assert lab.contents(lab.stopped([use], "stopped", [3, 4, 6], **changes)) == lab.contents(run)


@pytest.mark.parametrize("masking", ["one_by_one", "at_once"])
def test_a_masked_run_resumes_exactly_between_two_scorings(lab: Any, masking: str) -> None:
    use = {"use": USE, "by": "model", "refresh": 4, "masking": masking, "first": "random"}
    changes = {
        **lab.TAGGED,
        **lab.MASKED,
        "data.sources": ["embedded:english?documents=20"],
        "checkpoints.state.every": 2,
    }
    whole = lab.train([use], "whole", **changes)
    assert lab.contents(lab.stopped([use], "stopped", [3, 6], **changes)) == lab.contents(whole)


def test_what_cannot_be_ordered_is_named(lab: Any) -> None:
    for use, changes, message in (
        ({"by": "field"}, {}, "the field 'domain' holds '(up|down)', which is no number: give `ranks`"),
        ({"by": "field", "field": "age"}, {}, "no training document has the field 'age'"),
        ({"by": "field", "ranks": {"up": 1, "dawn": 2}}, {}, "the domain 'down' has no rank; did you mean 'dawn'"),
        ({"by": "field", "ranks": "speech_first"}, {}, "no order of sources 'speech_first'"),
        ({}, {"data.mixture": {"up": 1, "down": 1}}, "data_curriculum and data.mixture cannot be in one run"),
    ):
        with pytest.raises(PicoLMError, match=message):
            lab.seen({"use": USE, **use}, **changes).plan()
    late = lab.seen({"use": USE, "by": "model", "refresh": 2}).plan()
    with pytest.raises(PicoLMError, match="which rows step 3 draws is known only when the rows were scored at step 2"):
        late.rows(3)
