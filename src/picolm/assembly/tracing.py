"""What a run sees, and when, as its plan and the interventions that change it say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picolm.assembly.attempt import active_of
from picolm.assembly.ingredients import code_hashes, order, prepare, reopen
from picolm.config.loading import Overrides, load_config
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError
from picolm.interventions.loading import Trust, load_interventions
from picolm.runs.directory import RUN_FILE, RunDirectory
from picolm.training.state import TrainingState
from picolm.training.trace import Trace


def trace(
    target: Path | str,
    overrides: Overrides = (),
    progress: Progress | None = None,
    *,
    trusted: Sequence[str] = (),
    trust: bool = False,
) -> Trace:
    """What a run, or a configuration if it were run, draws and when.

    Tables that interventions make while they train are those of the run's newest state; a configuration has none yet.

    Args:
        target: a run, a preset or a YAML file.
        overrides: of a preset or file; a run has none.
        progress: who is told while data are prepared.
        trusted: as in `picolm.train`.
        trust: as in `picolm.resume`.
    """
    state = None
    trusting = Trust(trusted)
    if (Path(target) / RUN_FILE).is_file():
        if overrides:
            raise PicoLMError(f"{target} is a run, whose configuration is fixed: leave out the key=value changes")
        run = RunDirectory.open(Path(target))
        trusting = Trust(trusted, code_hashes(run) if trust else {})
        found = reopen(run, progress)
        states = [checkpoint for checkpoint in run.checkpoints if checkpoint.has_state]
        if found.config.interventions and states:
            state = TrainingState.read(states[-1].path)
    else:
        found = prepare(load_config(target, overrides), progress)
    active, _ = active_of(found, load_interventions(found.config.interventions, trusting), state)
    plan = order(found)
    for item in active:
        plan = item.intervention.plan(plan, item.run)
    return Trace(plan, found.rows, found.data.split("train"), found.tokenizer, found.config.training.steps)
