"""`picolm data`: prepare text for training, and look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from picolm.commands.arguments import AsJson, Overrides, Trust, With, complete_run, trusted
from picolm.errors import PicoLMError

data_app = typer.Typer(help="Prepare text for training, and look at it.", no_args_is_help=True)


@data_app.command("prepare")
def data_prepare(
    sources: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, hf:NAME[:CONFIG][@SPLIT], embedded:english.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The directory to make.")],
    tokenizer: Annotated[
        str, typer.Option(help="bpe:SIZE to train, `characters`, or the path of a tokenizer.json.")
    ] = "bpe:8192",
    validation: Annotated[
        list[str] | None, typer.Option("--validation", help="Held-out sources; default: a share of the documents.")
    ] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share of each domain that is held out.")] = 0.05,
    text_field: Annotated[str, typer.Option(help="Field or column with the text.")] = "text",
    domain_field: Annotated[str, typer.Option(help="Field or column with the domain.")] = "domain",
    txt_documents: Annotated[
        str, typer.Option(help="Documents of a .txt: pieces, file, paragraphs, lines.")
    ] = "pieces",
    tagger: Annotated[
        str | None, typer.Option(help="Tag every document with this tagger, of `picolm text train-tagger`.")
    ] = None,
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
                "tagger": tagger,
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


@data_app.command("trace")
def data_trace(
    target: Annotated[str, typer.Argument(help="A run, a preset or a .yaml file.", autocompletion=complete_run)],
    overrides: Overrides = None,
    step: Annotated[int | None, typer.Option("--step", help="Show the documents of this step's batch.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="Show when the document of this id is seen.")
    ] = None,
    with_: With = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Show which documents a step draws, or at which steps a document is drawn.

    Examples:
        picolm data trace runs/demo --step 100

        picolm data trace demo training.steps=500 --document story-17
    """
    if (step is None) == (document is None):
        raise PicoLMError("give either --step N or --document ID")
    from picolm.assembly.tracing import trace
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.terminal.tables import print_document_trace, print_json, print_step_trace

    progress = PreparationProgress(messages())
    traced = trace(target, overrides or [], progress, trusted=trusted(with_), trust=trust)
    found = traced.step(step) if step is not None else traced.document(document or "")
    show_trace = print_step_trace if step is not None else print_document_trace
    (print_json if as_json else show_trace)(found)


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


def _tokenizer_section(choice: str) -> dict[str, Any]:
    kind, _, size = choice.partition(":")
    if kind == "bpe" and (size.isdigit() or not size):
        return {"kind": "bpe", **({"vocab_size": int(size)} if size else {})}
    if choice == "characters":
        return {"kind": "characters"}
    if choice.endswith(".json"):
        return {"kind": "file", "path": choice}
    raise PicoLMError(f"--tokenizer '{choice}' is none of bpe:SIZE, characters, or the path of a tokenizer.json")
