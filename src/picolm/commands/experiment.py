"""`picolm experiment`: claims, the runs that are to show them, and what they showed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from picolm.commands.arguments import AsJson, With, trusted

if TYPE_CHECKING:
    from picolm.experiments.findings import Findings
    from picolm.experiments.folder import ExperimentFolder
    from picolm.experiments.launching import Launcher
    from picolm.experiments.outline import Outline

experiment_app = typer.Typer(help="State a hypothesis, test it, and judge it.", no_args_is_help=True)
PlanPath = Annotated[
    Path, typer.Argument(metavar="PLAN", help="The YAML file of a plan, or `demo`, the one that comes with PicoLM.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Make no short runs to measure what runs take; the time is then rough.")
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
def plan(
    target: PlanPath,
    quick: Quick = False,
    with_: With = None,
    as_json: AsJson = False,
) -> None:
    """Show what a plan comes to: its arms, its runs, their cost, and what it will not be able to tell.

    Short runs measure the cost; the same plan a second time reads what they showed.

    Examples:
        picolm experiment plan warmup.yaml

        picolm experiment plan warmup.yaml --quick
    """
    from picolm.assembly.experimenting import outline
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.experiment import print_outline
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    with EvaluationProgress(messages()) as progress:
        found = outline(target, trusted=trusted(with_), measured=not quick, progress=progress, tell=_measuring)
    (print_json if as_json else print_outline)(found.plain())


@experiment_app.command()
def run(
    target: PlanPath,
    at_once: Annotated[
        int | None, typer.Option("--at-once", min=1, help="Runs at the same time; default: as the plan says.")
    ] = None,
    folder: Folder = Path("experiments"),
    quick: Quick = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Put runs into the queue of a cluster, as `slurm` of the plan says.")
    ] = False,
    with_: With = None,
    as_json: AsJson = False,
) -> None:
    """Make the runs of a plan that are missing, judge its predictions, and write the page.

    What is finished is left alone and what was interrupted goes on, so the command may be given again and again. A run
    that fails does not stop the others; the next time it is tried again.

    Examples:
        picolm experiment run demo

        picolm experiment run warmup.yaml --at-once 2

        picolm experiment run warmup.yaml --slurm
    """
    from picolm.assembly.making import Tell, place_of, run_experiment
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.making import ExperimentDisplay
    from picolm.terminal.progress import messages
    from picolm.training.interruption import Interruption

    console, interruption = messages(), Interruption()
    place = place_of(target, folder)
    progress = EvaluationProgress(console)

    def making(found: Outline, place: ExperimentFolder) -> None:
        progress.close()
        _tell(found, place)
        display.begin()

    with ExperimentDisplay(console, place) as display, progress:
        made = run_experiment(
            target,
            _launcher(target, place, slurm),
            display,
            folder=folder,
            at_once=at_once,
            # A cluster's nodes are other machines.
            measured=not quick and not slurm,
            trusted=trusted(with_),
            progress=progress,
            interruption=interruption,
            tell=Tell(measuring=_measuring, making=making),
        )
    _show(made.folder, made.findings, as_json)
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

    from picolm.assembly.member import make_one
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
def report(
    target: ExperimentPath,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write figures for papers there, as PNG and SVG.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge an experiment as far as it is, and write its page.

    Examples:
        picolm experiment report experiments/warmup

        picolm experiment report experiments/warmup --figures figures
    """
    from picolm.assembly.making import write_report
    from picolm.experiments.folder import ExperimentFolder
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.progress import messages

    folder = ExperimentFolder.open(target)
    with EvaluationProgress(messages()) as progress:
        findings = write_report(folder, figures=figures, progress=progress)
    _show(folder, findings, as_json)
    if figures is not None and not as_json:
        typer.echo(f"figures: {figures}")


@experiment_app.command()
def cards(target: ExperimentPath, as_json: AsJson = False) -> None:
    """Write a model card with results and learning curves for each finished run, into EXPERIMENT/cards.

    Examples:
        picolm experiment cards experiments/suite
    """
    from picolm.experiments.assessment import assess
    from picolm.experiments.folder import ExperimentFolder
    from picolm.report.cards import write_cards
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    folder = ExperimentFolder.open(target)
    with EvaluationProgress(messages()) as progress:
        written = write_cards(assess(folder, progress), folder.path / "cards", folder.path / "runs", progress)
    if as_json:
        print_json([str(path) for path in written])
    else:
        typer.echo(f"{len(written)} cards: {folder.path / 'cards'}")


@experiment_app.command()
def script(
    target: PlanPath,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Of one run; else of all of them.")] = None,
    folder: Folder = Path("experiments"),
    with_: With = None,
) -> None:
    """Print the Slurm scripts of the runs of a plan, and keep the plan; Slurm itself is not needed.

    Examples:
        picolm experiment script warmup.yaml plain.seed0 > plain.sh
    """
    from picolm.assembly.making import scripts

    for text in scripts(target, run, folder=folder, trusted=trusted(with_)):
        typer.echo(text)


def _launcher(target: Path, place: ExperimentFolder, slurm: bool) -> Launcher:
    """Processes of this machine, or jobs of a cluster."""
    if not slurm:
        from picolm.experiments.launchers.local import LocalLauncher

        return LocalLauncher()
    from picolm.experiments.launchers.settings import Slurm
    from picolm.experiments.launchers.slurm import SlurmLauncher
    from picolm.experiments.reading import plan_path, read_plan

    return SlurmLauncher(read_plan(plan_path(target)).slurm or Slurm(), place.path / "jobs")


def _show(folder: ExperimentFolder, findings: Findings, as_json: bool) -> None:
    from picolm.experiments.ranking import rankings
    from picolm.terminal.ranking import print_rankings
    from picolm.terminal.tables import print_json
    from picolm.terminal.verdicts import print_findings

    ranked = [] if findings.plan.sweep is None else [one.plain() for one in rankings(findings.plan, findings.runs)]
    if as_json:
        print_json({**findings.plain(), "rankings": ranked})
    else:
        print_findings(findings)
        print_rankings(ranked)
        typer.echo(f"report: {folder.report_path}")


def _measuring(runs: int, seconds: float) -> None:
    from picolm.terminal.experiment import calibration_line
    from picolm.terminal.progress import messages

    messages().print(calibration_line(runs, seconds), highlight=False, markup=False, soft_wrap=True)


def _tell(found: Outline, folder: ExperimentFolder) -> None:
    """Say what is about to happen, and what a changed plan does."""
    from picolm.terminal.experiment import opening_lines
    from picolm.terminal.progress import messages

    for line in opening_lines(found, folder.versions()):
        messages().print(line, highlight=False, markup=False, soft_wrap=True)
