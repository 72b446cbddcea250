"""`picolm text`: what is done with text before it is prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from picolm.commands.arguments import AsJson
from picolm.errors import PicoLMError

text_app = typer.Typer(help="Train taggers; order utterances by age.", no_args_is_help=True)


@text_app.command("train-tagger")
def train_tagger(
    sources: Annotated[
        list[str], typer.Argument(help="CoNLL-U files, or records with `tokens` and `upos`; with --classes any text.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to make, for example en.tagger.")],
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="Annotated text that it is scored on; default: each tenth sentence."),
    ] = None,
    tagset: Annotated[str, typer.Option(help="upos: 17 tags; coarse: the 12 of Petrov et al.")] = "upos",
    passes: Annotated[int, typer.Option(min=1, help="Passes over the sentences.")] = 5,
    classes: Annotated[
        int, typer.Option(min=0, help="Learn so many classes without annotation, by a hidden Markov model; 0: do not.")
    ] = 0,
    named_by: Annotated[
        list[str] | None, typer.Option("--named-by", help="Annotated text that names the classes, many to one tag.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=0, help="Of EM for the classes; 0: as their anchors have them.")] = 30,
    max_words: Annotated[int, typer.Option(min=1, help="Words that classes are learnt from at most.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of sentences.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a tagger of parts of speech, and say how well it does on text that it was not trained on.

    Examples:
        picolm text train-tagger en_ewt-ud-train.conllu --test en_ewt-ud-test.conllu --out en.tagger

        picolm text train-tagger corpus.jsonl --classes 12 --named-by en_ewt-ud-dev.conllu --out classes.tagger
    """
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json
    from picolm.terminal.taggers import TrainingProgress, print_tagger
    from picolm.text.tagger import refuse_taken
    from picolm.text.tagger_training import train_tagger as train
    from picolm.text.tagger_training import train_unsupervised

    refuse_taken(out)
    advance, chosen = TrainingProgress(messages()), _tagset(tagset)
    if named_by and not classes:
        raise PicoLMError("--named-by names the classes of --classes: give both or neither")
    if classes:
        tagger = train_unsupervised(
            sources,
            n_classes=classes,
            named_by=named_by or (),
            held_out=test or (),
            tagset=chosen,
            iterations=iterations,
            limit=max_words,
            seed=seed,
            advance=advance,
        )
    else:
        tagger = train(sources, held_out=test or (), tagset=chosen, passes=passes, seed=seed, advance=advance)
    tagger.save(out)
    described = {"path": str(out), "method": tagger.method, "names": list(tagger.names), **tagger.record}
    (print_json if as_json else print_tagger)(described)


@text_app.command("order")
def order(
    sources: Annotated[list[str], typer.Argument(help="Files of utterances, each a record with an age.")],
    out: Annotated[Path, typer.Option("--out", help="The .jsonl file to make.")],
    by: Annotated[str, typer.Option("--by", help="The field with the age, a number.")] = "age_months",
    join: Annotated[int, typer.Option(min=1, help="Utterances, neighbours in age, that make one document.")] = 50,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="FIELD=VALUE", help="Leave such utterances out; may be repeated."),
    ] = None,
    oldest: Annotated[float | None, typer.Option(help="Leave utterances above this age out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write utterances in the order of the age at which they were heard, some to a document.

    Example:
        picolm text order utterances.jsonl --out heard.jsonl --drop role=Target_Child --oldest 120
    """
    from dataclasses import asdict

    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json
    from picolm.terminal.taggers import TrainingProgress
    from picolm.text.age_order import AgeOrder, order_by_age

    dropped: dict[str, frozenset[str]] = {}
    for pair in drop or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise PicoLMError(f"--drop '{pair}' is not FIELD=VALUE, for example role=Target_Child")
        dropped[key] = dropped.get(key, frozenset()) | {value}
    found = order_by_age(sources, out, AgeOrder(by, join, dropped, oldest), TrainingProgress(messages()))
    if as_json:
        print_json({"path": str(out), **asdict(found)})
        return
    typer.echo(
        f"{out}: {found.utterances:,} utterances in {found.documents:,} documents, {by} {found.youngest:g} to "
        f"{found.oldest:g}; {found.left_out:,} left out, {found.without_age:,} without an age"
    )


def _tagset(name: str) -> Literal["upos", "coarse"]:
    if name == "upos":
        return "upos"
    if name == "coarse":
        return "coarse"
    raise PicoLMError(f"--tagset '{name}' is neither upos nor coarse")
