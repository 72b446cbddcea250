"""`picolm experiment`: claims, the runs that are to show them, and what they showed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from picolm.commands.arguments import AsJson, With, trusted

if TYPE_CHECKING:
    from picolm.experiments.folder import ExperimentFolder
    from picolm.experiments.outline import Outline

experiment_app = typer.Typer(help="State a hypothesis, test it, and judge it.", no_args_is_help=True)
PlanPath = Annotated[
    Path, typer.Argument(metavar="PLAN", help="The YAML file of a plan, or `demo`, the one that comes with PicoLM.")
]
Folder = Annotated[Path, typer.Option("--folder", help="Where experiments stand.")]


def _complete_experiment(incomplete: str) -> list[str]:
    found = [str(file.parent) for file in Path("experiments").glob("*/plans.jsonl")]
    return [path for path in found if path.startswith(incomplete)]


ExperimentPath = Annotated[
    Path,
    typer.Argument(
        metavar="EXPERIMENT",
        help="The folder of an experiment, for example experiments/warmup.",
        autocompletion=_complete_experiment,
    ),
]


@experiment_app.command()
def plan(target: PlanPath, with_: With = None, as_json: AsJson = False) -> None:
    """Show what a plan comes to: its arms, its runs, their cost, and what it will not be able to tell.

    Examples:
        picolm experiment plan warmup.yaml
    """
    from picolm.assembly.experimenting import outline
    from picolm.terminal.experiment import print_outline
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.terminal.tables import print_json

    found = outline(target, trusted=trusted(with_), progress=PreparationProgress(messages()))
    (print_json if as_json else print_outline)(found.plain())


@experiment_app.command()
def run(
    target: PlanPath,
    at_once: Annotated[
        int | None, typer.Option("--at-once", min=1, help="Runs at the same time; default: as the plan says.")
    ] = None,
    folder: Folder = Path("experiments"),
    with_: With = None,
    as_json: AsJson = False,
) -> None:
    """Make the runs of a plan that are missing, judge its predictions, and write the page.

    What is finished is left alone and what was interrupted goes on, so the command may be given again and again. A run
    that fails does not stop the others; the next time it is tried again.

    Examples:
        picolm experiment run demo

        picolm experiment run warmup.yaml --at-once 2
    """
    from picolm.assembly.making import place_of, run_experiment
    from picolm.experiments.launchers.local import LocalLauncher
    from picolm.terminal.making import ExperimentDisplay
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.training.interruption import Interruption

    console, interruption = messages(), Interruption()
    with ExperimentDisplay(console, place_of(target, folder)) as display:
        made = run_experiment(
            target,
            LocalLauncher(),
            display,
            folder=folder,
            at_once=at_once,
            trusted=trusted(with_),
            progress=PreparationProgress(console),
            interruption=interruption,
            tell=_tell,
        )
    _show(made.folder, as_json)
    if interruption.signal is not None:
        say = f"ended early by {interruption.signal.name}; to go on: picolm experiment run {target}"
        console.print(say, soft_wrap=True)
        raise typer.Exit(interruption.exit_code)
    failed = [name for name, state in made.states.items() if state != "finished"]
    raise typer.Exit(1 if failed else 0)


@experiment_app.command()
def one(
    target: ExperimentPath,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Which run, as `status` names it.")],
    with_: With = None,
) -> None:
    """Make a single run of an experiment, or go on with it: what `run` starts for each, and a cluster's job may.

    Examples:
        picolm experiment one experiments/warmup plain.seed0
    """
    from functools import partial

    from picolm.assembly.making import make_one
    from picolm.commands.run import watched
    from picolm.experiments.folder import ExperimentFolder

    watched(partial(make_one, ExperimentFolder.open(target), run, trusted=trusted(with_)), as_json=False)


@experiment_app.command()
def status(target: ExperimentPath, as_json: AsJson = False) -> None:
    """Show how far the runs of an experiment are.

    Examples:
        picolm experiment status experiments/warmup
    """
    from picolm.experiments.folder import ExperimentFolder
    from picolm.experiments.status import plain_status, status_of
    from picolm.terminal.experiment import print_status
    from picolm.terminal.tables import print_json

    folder = ExperimentFolder.open(target)
    (print_json if as_json else print_status)(plain_status(folder, status_of(folder)))


@experiment_app.command()
def report(target: ExperimentPath, as_json: AsJson = False) -> None:
    """Judge an experiment as far as it is, and write its page.

    Examples:
        picolm experiment report experiments/warmup
    """
    from picolm.assembly.making import write_report
    from picolm.experiments.folder import ExperimentFolder

    folder = ExperimentFolder.open(target)
    write_report(folder)
    _show(folder, as_json)


def _show(folder: ExperimentFolder, as_json: bool) -> None:
    from picolm.experiments.assessment import assess
    from picolm.terminal.experiment import print_verdicts
    from picolm.terminal.tables import print_json

    findings = assess(folder)
    if as_json:
        print_json(findings.plain())
    else:
        print_verdicts(findings)
        typer.echo(f"report: {folder.report_path}")


def _tell(found: Outline, folder: ExperimentFolder) -> None:
    """Say what is about to happen, and what a changed plan does."""
    from picolm.terminal.progress import messages

    console = messages()
    for sentence in found.warnings:
        console.print(f"mind: {sentence}", highlight=False, markup=False, soft_wrap=True)
