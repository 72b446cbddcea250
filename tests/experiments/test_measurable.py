"""A prediction that no run could answer is found before the first run."""

from __future__ import annotations

from typing import Any

import pytest

from picolm.config.loading import load_config
from picolm.experiments.asked import Asked
from picolm.experiments.measurable import unmeasured
from picolm.experiments.quantity import Quantity

CAPTURED = {
    "capture.metrics": ["per", "gram_spectrum k=3"],
    "capture.metric_sites": ["layers.*.attention.ov.*"],
    "capture.every": 50,
}


@pytest.mark.parametrize(
    ("quantity", "changes", "sentence"),
    [
        ({"validation": "loss"}, {}, None),
        ({"validation": "loss"}, {"validation.every": 0, "validation.at": []}, None),
        ({"validation": "loss", "at": 150}, {}, None),
        ({"validation": "loss", "at": 140}, {}, "no run will hold it at that step; add it to validation.at"),
        ({"validation": "loss", "at": 301}, {}, "runs end at step 300"),
        (
            {"validation": "loss", "summary": "area"},
            {"validation.every": 0, "validation.at": []},
            "the curve will have one point; set validation.every",
        ),
        ({"logged": "gradient_norm"}, {}, None),
        ({"evaluation": "perplexity", "score": "loss"}, {}, "name the task in evaluation.tasks"),
        (
            {"evaluation": "perplexity", "score": "loss"},
            {"evaluation.tasks": ["perplexity"], "evaluation.every": 100},
            None,
        ),
        (
            {"metric": "per", "site": "layers.0.attention.ov.0"},
            {},
            "name it in `analyze` of the plan, or in capture.metrics",
        ),
        ({"metric": "per", "site": "layers.0.attention.ov.0"}, CAPTURED, None),
        ({"metric": "per", "site": "layers.0.attention.ov.0", "at": 60}, CAPTURED, "add it to capture.at"),
        ({"metric": "gram_spectrum k=3", "site": "layers.0.attention.ov.0"}, CAPTURED, None),
    ],
)
def test_what_runs_will_hold(quantity: dict[str, Any], changes: dict[str, Any], sentence: str | None) -> None:
    found = unmeasured(Quantity(**quantity), load_config("demo", changes))
    assert found is None if sentence is None else found is not None and sentence in found


def test_what_is_measured_at_the_end_will_be_there() -> None:
    asked = [Asked(metrics=("per_over_noise",), sites=("layers.*",))]
    config = load_config("demo")
    assert unmeasured(Quantity(metric="per_over_noise", site="layers.*.mlp.down_proj"), config, asked) is None
    assert unmeasured(Quantity(metric="per", site="layers.*.mlp.down_proj"), config, asked) is not None
