"""The command line: parses, calls the library, prints. Heavy modules load inside the commands that need them."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from picolm.commands import analysis, converge, corrections, evaluation, harness, lab, model, reporting, run
from picolm.commands.arguments import AsJson, Overrides, With, trusted
from picolm.commands.data import data_app
from picolm.commands.experiment import experiment_app
from picolm.commands.text import text_app
from picolm.errors import PicoLMError

if TYPE_CHECKING:
    from picolm.config.schema import Config

app = typer.Typer(
    help="A laboratory for small language models: state a hypothesis, change one thing, see what it does.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Look at configurations.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(experiment_app, name="experiment")
app.add_typer(text_app, name="text")


def _complete_preset(incomplete: str) -> list[str]:
    from picolm.config.loading import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


ConfigTarget = Annotated[
    str, typer.Argument(help="A preset (see `picolm config list`) or a .yaml file.", autocompletion=_complete_preset)
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where runs stand.")]
Sources = Annotated[
    list[str] | None,
    typer.Option("--data", help="A file, a folder, a glob, hf:NAME; may be repeated. Short for data.sources."),
]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from picolm import __version__

        typer.echo(f"picolm {__version__}")
        raise typer.Exit


@app.command()
def train(
    target: ConfigTarget,
    overrides: Overrides = None,
    data: Sources = None,
    with_: With = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; must be free.")] = None,
    runs_dir: RunsDir = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the run would take; the data are prepared for that.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model: prepare the text, train, validate, sample, save, report.

    Examples:
        picolm train demo

        picolm train tiny --data corpus.jsonl.gz data.sequence_length=256 training.steps=500

        picolm train my.yaml optimizer.learning_rate=3e-4 --name hotter

        picolm train demo --with "label_smoothing alpha=0.1" --with "freeze until=50"

        picolm train small --dry-run
    """
    config = _load(target, overrides, data, with_)
    if dry_run:
        _print_forecast(config, trusted(with_), as_json)
        return
    from picolm.assembly.training import train as train_run

    named = trusted(with_)
    start = partial(train_run, config, name=name, stem=Path(target).stem, runs_dir=runs_dir, trusted=named)
    run.watched(start, as_json)


app.command()(run.resume)
app.command()(run.fork)
app.command()(run.verify)
app.command()(run.show)
app.command()(evaluation.evaluate)
app.command()(analysis.analyze)
app.command()(converge.converge)
app.command()(corrections.corrections)
app.command("lm-eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(harness.lm_eval)
app.command()(model.generate)
app.command("import")(model.import_)
app.command()(model.export)
app.command()(reporting.report)
app.command()(lab.lab)
experiment_app.command()(lab.record)


@app.command()
def diff(
    left: Annotated[str, typer.Argument(help="A preset, a .yaml file or a run.", autocompletion=_complete_preset)],
    right: Annotated[str, typer.Argument(help="Another one.", autocompletion=_complete_preset)],
    as_json: AsJson = False,
) -> None:
    """Show which keys differ between two presets, files or runs.

    Examples:
        picolm diff tiny small

        picolm diff runs/demo runs/demo-2
    """
    from picolm.config.difference import difference
    from picolm.terminal.tables import inline, print_json, print_table

    changes = difference(_described(left), _described(right))
    if as_json:
        print_json([{"key": c.key, "left": c.left, "right": c.right} for c in changes])
    elif not changes:
        typer.echo("no difference")
    else:
        print_table(["key", left, right], [[c.key, inline(c.left), inline(c.right)] for c in changes])


@config_app.command("list")
def config_list(as_json: AsJson = False) -> None:
    """List the presets with their sizes."""
    from picolm.config.loading import load_config, preset_names
    from picolm.model.size import count_parameters
    from picolm.terminal.tables import print_json, print_table

    rows = []
    for name in preset_names():
        config = load_config(name)
        vocab_size = config.model.vocab_size or config.tokenizer.vocab_size
        count = count_parameters(config.model, vocab_size)
        rows.append({"preset": name, "parameters": count.total, "not_embedding": count.not_embedding})
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["preset", "parameters", "not embeddings"],
            [[str(r["preset"]), f"{r['parameters']:,}", f"{r['not_embedding']:,}"] for r in rows],
        )


@config_app.command("show")
def config_show(target: ConfigTarget, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print a whole configuration, every key filled in.

    Examples:
        picolm config show tiny

        picolm config show demo training.steps=50 > mine.yaml
    """
    from picolm.config.yaml12 import to_yaml

    values = _load(target, overrides, None).model_dump(mode="json")
    if as_json:
        from picolm.terminal.tables import print_json

        print_json(values)
    else:
        typer.echo(to_yaml(values), nl=False)


def _print_forecast(config: Config, named: list[str], as_json: bool) -> None:
    from picolm.assembly.training import forecast
    from picolm.terminal.forecast import print_forecast
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.terminal.tables import print_json

    found = forecast(config, PreparationProgress(messages()), trusted=named)
    (print_json if as_json else print_forecast)(found.plain())


def _load(
    target: str, overrides: list[str] | None, sources: list[str] | None, interventions: list[str] | None = None
) -> Config:
    from picolm.config.loading import load_config

    if sources:
        # As JSON, which is YAML, so that no character of a path means anything.
        overrides = [f"data.sources={json.dumps(sources)}", *(overrides or [])]
    return load_config(target, overrides or [], interventions or [])


def _described(target: str) -> dict[str, Any]:
    """What a preset or file (its configuration) or a run (its configuration, data and interventions) consists of."""
    from picolm.config.loading import load_config, preset_names
    from picolm.runs.directory import RunDirectory

    if target in preset_names() or target.endswith((".yaml", ".yml")):
        values = load_config(target).model_dump(mode="json")
        listed = values.pop("interventions")
        order = [use["name"] or use["use"] for use in listed]
        return {**values, "intervention order": order, "interventions": dict(zip(order, listed, strict=True))}
    if not Path(target).exists():
        raise PicoLMError(f"'{target}' is neither a preset ({', '.join(preset_names())}), a .yaml file nor a run")
    identity = RunDirectory.open(Path(target)).identity
    config: dict[str, Any] = identity["config"]
    facts = {**config, "data fingerprint": identity["data"]["fingerprint"]}
    # With every setting of theirs, where the configuration has only what was written.
    listed = facts.pop("interventions", []) and identity["interventions"]
    return {
        **facts,
        "intervention order": [item["name"] for item in listed],
        "interventions": {i["name"]: i for i in listed},
    }


def main() -> NoReturn:
    """Run the command line; an error of the user's is one sentence and exit code 2."""
    # By default OpenMP's threads spin for long while they wait for each other. Where other programs hold a core, a step
    # then takes several times as long; spinning less costs nothing on an idle machine. Read when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except PicoLMError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("picolm: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this Python complains once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    sys.exit(0)


def _fail(sentence: str) -> NoReturn:
    print(f"picolm: {sentence}", file=sys.stderr)
    sys.exit(2)
