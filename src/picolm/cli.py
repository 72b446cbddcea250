"""The command line: parses, calls the library, prints. Heavy modules load inside the commands that need them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

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
data_app = typer.Typer(help="Prepare text for training, and look at it.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")


def _complete_preset(incomplete: str) -> list[str]:
    from picolm.config.loading import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def _complete_run(incomplete: str) -> list[str]:
    return [str(f.parent) for f in Path("runs").glob("*/run.json") if str(f.parent).startswith(incomplete)]


def _complete_key(incomplete: str) -> list[str]:
    from picolm.config.loading import valid_keys

    return [f"{key}=" for key in valid_keys() if key.startswith(incomplete)]


ConfigTarget = Annotated[
    str, typer.Argument(help="A preset (see `picolm config list`) or a .yaml file.", autocompletion=_complete_preset)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes: key.path=value, for example training.steps=500", autocompletion=_complete_key),
]
RunPath = Annotated[Path, typer.Argument(help="A run, for example runs/demo.", autocompletion=_complete_run)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where runs stand.")]
Sources = Annotated[
    list[str] | None,
    typer.Option("--data", help="A text or JSONL file, a folder, a glob; may be repeated. Short for data.sources."),
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
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; must be free.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Train a model: prepare the text, train, validate, sample, save, report.

    Examples:
        picolm train demo

        picolm train tiny --data corpus.jsonl.gz data.sequence_length=256 training.steps=500

        picolm train my.yaml optimizer.learning_rate=3e-4 --name hotter
    """
    config = _load(target, overrides, data)
    from picolm.assembly import train as train_run
    from picolm.terminal.display import display_for
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.training.interruption import Interruption

    console = messages()
    interruption = Interruption()
    run = train_run(
        config,
        name=name,
        stem=Path(target).stem,
        runs_dir=runs_dir,
        observers=[display_for(console)],
        progress=PreparationProgress(console),
        interruption=interruption,
    )
    show(run.path, as_json)
    if interruption.signal is not None:
        console.print(f"ended early by {interruption.signal.name}; the model was saved")
    raise typer.Exit(interruption.exit_code)


@app.command()
def generate(
    target: Annotated[
        Path, typer.Argument(help="A run, a checkpoint or a model directory.", autocompletion=_complete_run)
    ],
    prompt: Annotated[str, typer.Argument(help="The beginning of the text; empty: a new document.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add at most.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among the k likeliest; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(min=1e-9, max=1.0, help="Draw among the likeliest up to this probability.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Continue a text with a trained model.

    Examples:
        picolm generate runs/demo "Once upon a time"

        picolm generate runs/demo/checkpoints/step-00000300 --temperature 0 --max-tokens 40
    """
    from picolm.assembly import generate as generate_text
    from picolm.model.generation import Sampling

    sampling = Sampling(temperature, top_k, top_p)
    from picolm.terminal.progress import Typewriter
    from picolm.terminal.tables import print_json

    typewriter = None if as_json else Typewriter(prompt)
    text = generate_text(target, prompt, max_tokens=max_tokens, sampling=sampling, seed=seed, on_text=typewriter)
    if typewriter is None:
        print_json({"prompt": prompt, "text": text, "seed": seed})
    else:
        typewriter.end(text)


@app.command()
def show(run: RunPath, as_json: AsJson = False) -> None:
    """Show a run: what it is, how it went, what it left.

    Example:
        picolm show runs/demo
    """
    from picolm.runs.directory import RunDirectory
    from picolm.runs.summary import summarize
    from picolm.terminal.tables import print_json, print_run

    (print_json if as_json else print_run)(summarize(RunDirectory.open(run)))


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


@app.command()
def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page to write; default: report.html in the run.")
    ] = None,
) -> None:
    """Write the HTML page of a run (`train` has done so already).

    Example:
        picolm report runs/demo --out demo.html
    """
    from picolm.report.page import write_run_report
    from picolm.runs.directory import RunDirectory

    typer.echo(write_run_report(RunDirectory.open(run), out))


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


@data_app.command("prepare")
def data_prepare(
    sources: Annotated[list[str], typer.Argument(help="Text or JSONL files, folders, globs, `embedded:english`.")],
    out: Annotated[Path, typer.Option("--out", help="The directory to make.")],
    tokenizer: Annotated[
        str, typer.Option(help="bpe:SIZE to train, `characters`, or the path of a tokenizer.json.")
    ] = "bpe:8192",
    validation: Annotated[
        list[str] | None, typer.Option("--validation", help="Held-out sources; default: a share of the documents.")
    ] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share of each domain that is held out.")] = 0.05,
    text_field: Annotated[str, typer.Option(help="JSONL field with the text.")] = "text",
    domain_field: Annotated[str, typer.Option(help="JSONL field with the domain.")] = "domain",
    txt_documents: Annotated[
        str, typer.Option(help="Documents of a .txt: pieces, file, paragraphs, lines.")
    ] = "pieces",
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core. Changes nothing but speed.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Tokenize text into a directory that training memory-maps.

    Examples:
        picolm data prepare corpus.jsonl.gz --out data/corpus --tokenizer bpe:8192

        picolm data prepare books/ --out data/books --tokenizer characters --txt-documents file
    """
    from picolm.config.loading import build_config
    from picolm.data.preparation import prepare
    from picolm.terminal.progress import PreparationProgress, messages

    config = build_config(
        {
            "data": {
                "sources": sources,
                "validation_sources": validation or [],
                "validation_fraction": validation_fraction,
                "text_field": text_field,
                "domain_field": domain_field,
                "txt_documents": txt_documents,
                "preparation_workers": workers,
            },
            "tokenizer": _tokenizer_section(tokenizer),
        }
    )
    prepare(config.data, config.tokenizer, out, progress=PreparationProgress(messages()))
    data_show(out, samples=0, as_json=as_json)


@data_app.command("show")
def data_show(
    directory: Annotated[Path, typer.Argument(help="A directory made by `picolm data prepare`.")],
    samples: Annotated[int, typer.Option(min=0, help="Training documents to show the beginning of.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Print counts, domains and samples of prepared data.

    Example:
        picolm data show data/corpus --samples 3
    """
    from picolm.data.prepared import TokenData
    from picolm.data.summary import summarise
    from picolm.terminal.tables import print_data, print_json

    (print_json if as_json else print_data)(summarise(TokenData.open(directory, verify="sizes"), samples=samples))


@data_app.command("world")
def data_world(
    corpus: Annotated[str, typer.Argument(help="An embedded corpus, for example sov?seed=3.")] = "embedded:english",
    phenomena: Annotated[bool, typer.Option("--phenomena", help="List what its minimal pairs test.")] = False,
    samples: Annotated[int, typer.Option(min=0, help="Documents to show with their parts of speech.")] = 0,
    pairs: Annotated[int, typer.Option(min=0, help="Minimal pairs of each paradigm to write to --out; even.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="The JSONL file of pairs, with BLiMP's keys.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the minimal pairs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Describe an embedded corpus, and write its minimal pairs.

    Examples:
        picolm data world --phenomena

        picolm data world embedded:sov --samples 2

        picolm data world --pairs 200 --out pairs.jsonl
    """
    from picolm.terminal.world import print_world

    print_world(corpus, phenomena=phenomena, samples=samples, pairs=pairs, out=out, seed=seed, as_json=as_json)


def _load(target: str, overrides: list[str] | None, sources: list[str] | None) -> Config:
    from picolm.config.loading import load_config

    if sources:
        # As JSON, which is YAML, so that no character of a path means anything.
        overrides = [f"data.sources={json.dumps(sources)}", *(overrides or [])]
    return load_config(target, overrides or [])


def _described(target: str) -> dict[str, Any]:
    """What a preset or file (its configuration) or a run (its configuration and data) consists of."""
    from picolm.config.loading import load_config, preset_names
    from picolm.runs.directory import RunDirectory

    if target in preset_names() or target.endswith((".yaml", ".yml")):
        return load_config(target).model_dump(mode="json")
    if not Path(target).exists():
        raise PicoLMError(f"'{target}' is neither a preset ({', '.join(preset_names())}), a .yaml file nor a run")
    identity = RunDirectory.open(Path(target)).identity
    config: dict[str, Any] = identity["config"]
    return {**config, "data fingerprint": identity["data"]["fingerprint"], "interventions": identity["interventions"]}


def _tokenizer_section(choice: str) -> dict[str, Any]:
    kind, _, size = choice.partition(":")
    if kind == "bpe" and (size.isdigit() or not size):
        return {"kind": "bpe", **({"vocab_size": int(size)} if size else {})}
    if choice == "characters":
        return {"kind": "characters"}
    if choice.endswith(".json"):
        return {"kind": "file", "path": choice}
    raise PicoLMError(f"--tokenizer '{choice}' is none of bpe:SIZE, characters, or the path of a tokenizer.json")


def main() -> NoReturn:
    """Run the command line; an error of the user's is one sentence and exit code 2."""
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
