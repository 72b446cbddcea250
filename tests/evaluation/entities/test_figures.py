import numpy as np
import pytest

from picolm.evaluation.entities.figures import Scored, anchor_figures, mean_figures, set_figures
from picolm.evaluation.entities.resampling import resampled_counts
from picolm.evaluation.entities.rules import Tally
from picolm.evaluation.entities.scores import f1
from picolm.evaluation.statistics import interval, wilson


def counted(seed: int, n: int, n_seeds: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, size=(n, n_seeds, 3, 3))


def scored(counts: np.ndarray, name: str) -> Scored:
    return Scored.of(counts, counts, {"rule": counts[:, :1]}, draws=300, seed=4, name=name)


SETS = {"a": counted(0, 30), "b": counted(1, 12)}
DRAWN = {name: resampled_counts(counts, draws=300, seed=4, key=name) for name, counts in SETS.items()}


def values(figures: object, subset: str) -> dict[str, float]:
    return {figure.metric: figure.value for figure in figures if figure.subset == subset}  # type: ignore[attr-defined]


def test_the_interval_of_a_set_is_of_the_mean_over_its_seeds() -> None:
    found = list(set_figures("a", scored(SETS["a"], "a")))
    draws = f1(DRAWN["a"].sum(axis=2)).mean(axis=1)
    own = values(found, "a")
    assert (own["f1_low"], own["f1_high"]) == pytest.approx([100 * end for end in interval(draws)])
    assert next(figure.se for figure in found) == pytest.approx(100 * draws.std(ddof=1))
    by_type = f1(DRAWN["a"][:, :, 1]).mean(axis=1)
    assert values(found, "a/ORG")["f1_low"] == pytest.approx(100 * interval(by_type)[0])
    seeds = f1(SETS["a"].sum(axis=(0, 2)))
    assert (own["f1"], own["f1_seed_sd"]) == pytest.approx((100 * seeds.mean(), 100 * seeds.std(ddof=1)))
    assert own["f1_rule"] == pytest.approx(100 * seeds[0])


def test_the_mean_over_sets_has_the_draws_of_all_of_them() -> None:
    own = values(mean_figures({name: scored(counts, name) for name, counts in SETS.items()}), "all")
    draws = np.mean([f1(drawn.sum(axis=2)).mean(axis=1) for drawn in DRAWN.values()], axis=0)
    assert (own["f1_low"], own["f1_high"]) == pytest.approx([100 * end for end in interval(draws)])
    by_set = [f1(counts.sum(axis=(0, 2))) for counts in SETS.values()]
    assert own["f1"] == pytest.approx(100 * np.mean(by_set))
    assert own["f1_seed_sd"] == pytest.approx(100 * np.mean(by_set, axis=0).std(ddof=1))


def test_sets_taken_together_add_up_draw_by_draw() -> None:
    own = values(
        set_figures("pooled", Scored.together([scored(counts, name) for name, counts in SETS.items()])), "pooled"
    )
    draws = f1((DRAWN["a"] + DRAWN["b"]).sum(axis=2)).mean(axis=1)
    assert (own["f1_low"], own["f1_high"]) == pytest.approx([100 * end for end in interval(draws)])
    both = np.concatenate([*SETS.values()])
    assert own["f1"] == pytest.approx(100 * f1(both.sum(axis=(0, 2))).mean())
    assert own["f1_rule"] == pytest.approx(100 * f1(both[:, 0].sum(axis=(0, 1))))


def test_recall_of_anchored_names_is_the_mean_over_seeds_and_its_interval_counts_names_once() -> None:
    figures = {
        figure.metric: figure
        for figure in anchor_figures("tl", [(Tally(3, 8), Tally(0, 0)), (Tally(5, 8), Tally(0, 0))])
    }
    assert list(figures) == ["recall_anchored", "recall_anchored_low", "recall_anchored_high"], "no others, no recall"
    assert figures["recall_anchored"][:] == ("tl/PER", "recall_anchored", 50.0, None, 8)
    ends = [figures[f"recall_anchored_{end}"].value / 100 for end in ("low", "high")]
    assert ends == pytest.approx(wilson(0.5, 8))
