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


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_micro_batches_change_nothing_but_rounding(lab: Any, each: Any, micro_batch_size: int) -> None:
    whole = lab.train(each.uses, "whole", **each.overrides)
    cut = lab.train(each.uses, "cut", **{**each.overrides, "training.micro_batch_size": micro_batch_size})
    one, other = lab.log(whole), lab.log(cut)
    assert [line["losses"].keys() for line in one] == [line["losses"].keys() for line in other]
    a, b = ([line["loss"] for line in lines] for lines in (one, other))
    print("LOSS", np.max(np.abs(np.array(a) / np.array(b) - 1), axis=0))
    first, second = lab.weights(whole), lab.weights(cut)
    print("WEIGHTS", max(np.abs(first[k] - second[k]).max() for k in first))
