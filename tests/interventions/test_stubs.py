"""Every hard stub, every useful intervention, and nine at once: exact, however the run is stopped or cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

SAVING = {"checkpoints.state.every": 1, "checkpoints.keep_states": None, "validation.every": 4}


def test_a_resumed_run_is_the_run_that_nobody_stopped(lab: Any, each: Any) -> None:
    changes = {**each.overrides, **SAVING, "training.ema.start": 1}
    whole = lab.train(each.uses, "whole", **changes)
    assert lab.contents(lab.stopped(each.uses, "stopped", [3, 8], **changes)) == lab.contents(whole)
    assert {event["event"] for event in lab.trace(whole)} == each.events


@pytest.mark.slow
def test_a_run_may_be_stopped_at_every_step(lab: Any, each: Any) -> None:
    changes = {**each.overrides, **SAVING, "model.dropout": 0.1}
    whole = lab.contents(lab.train(each.uses, "whole", **changes))
    assert lab.contents(lab.stopped(each.uses, "stopped", range(10), **changes)) == whole


@pytest.mark.parametrize("micro_batch_size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_micro_batches_change_nothing_but_rounding(lab: Any, each: Any, micro_batch_size: int) -> None:
    # Adam divides by the root of the second moment: where a gradient is all but zero, rounding would become a step.
    changes = {**each.overrides, "optimizer.eps": 1e-4}
    whole = lab.train(each.uses, "whole", **changes)
    cut = lab.train(each.uses, "cut", **{**changes, "training.micro_batch_size": micro_batch_size})
    for ours, theirs in zip(lab.log(whole), lab.log(cut), strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-6)
    ours, theirs = lab.weights(whole), lab.weights(cut)
    for name, weight in ours.items():
        np.testing.assert_allclose(theirs[name], weight, rtol=1e-6, atol=1e-6, err_msg=name)
