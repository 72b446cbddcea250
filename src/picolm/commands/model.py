"""`picolm generate`, `picolm import`, `picolm export`: what is done with a model that is there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import AsJson, ModelPath, Trust, With, trusted
from picolm.errors import PicoLMError


def generate(
    target: ModelPath,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Beginnings of texts; none: a new document.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A text file with a prompt in each line.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Texts for each prompt.")] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add at most.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among the k likeliest; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(min=1e-9, max=1.0, help="Draw among the likeliest up to this probability.")
    ] = 0.95,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End a text before this text appears; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts made at once; changes nothing but speed.")] = 16,
    with_: With = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Continue one text, or many, with a trained model.

    Examples:
        picolm generate runs/demo "Once upon a time"

        picolm generate runs/demo "Once upon a time" "The king" --count 3 --stop "." --json

        picolm generate runs/demo/checkpoints/step-00000300 --file prompts.txt --temperature 0 --max-tokens 40
    """
    from picolm.assembly.models import generate as generate_text
    from picolm.assembly.models import generate_texts
    from picolm.model.generation import Sampling
    from picolm.terminal.progress import Typewriter
    from picolm.terminal.tables import print_json

    sampling, stops = Sampling(temperature, top_k, top_p), stop or []
    beginnings = [*(prompts or []), *(_lines(file) if file is not None else [])]
    beginnings = beginnings if prompts or file is not None else [""]
    if len(beginnings) == count == 1 and not as_json:
        typewriter = Typewriter(beginnings[0])
        typewriter.end(
            generate_text(
                target,
                beginnings[0],
                max_tokens=max_tokens,
                sampling=sampling,
                seed=seed,
                stop=stops,
                on_text=typewriter,
                trusted=trusted(with_),
                trust=trust,
            )
        )
        return
    texts = generate_texts(
        target,
        beginnings,
        count=count,
        max_tokens=max_tokens,
        sampling=sampling,
        seed=seed,
        stop=stops,
        batch_size=batch_size,
        trusted=trusted(with_),
        trust=trust,
    )
    if as_json:
        print_json([{**asdict(made), "seed": seed} for made in texts])
    else:
        print("\n\n".join(made.prompt + made.text for made in texts))


def import_(
    source: Annotated[Path, typer.Argument(help="An original Pico model, or a Llama-like Hugging Face directory.")],
    out: Annotated[Path, typer.Option("--out", help="The directory to make.")],
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="A tokenizer.json, where the source has none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a model made elsewhere into a directory that PicoLM and transformers open.

    Examples:
        picolm import downloads/pico-decoder-tiny --out models/pico-tiny

        picolm import downloads/SmolLM2-135M --out models/smollm2
    """
    from picolm.model.importing import import_model
    from picolm.terminal.tables import print_json

    imported = import_model(source, out, tokenizer=tokenizer)
    if as_json:
        print_json({**asdict(imported), "path": str(imported.path)})
    else:
        typer.echo(f"{imported.path}: {imported.parameters:,} parameters of a '{imported.model_type}' model")
        for note in imported.notes:
            typer.echo(note)


def export(
    target: ModelPath,
    out: Annotated[Path, typer.Option("--out", help="The directory to make.")],
    dtype: Annotated[str, typer.Option("--dtype", help="Precision of the weights: fp32 or bf16.")] = "fp32",
    as_json: AsJson = False,
) -> None:
    """Copy a model out of its run, as a Hugging Face directory with a model card.

    Examples:
        picolm export runs/demo --out demo-model

        picolm export runs/demo/checkpoints/step-00000300 --out demo-model --dtype bf16
    """
    from picolm.assembly.models import export_model
    from picolm.terminal.tables import print_json

    path = export_model(target, out, dtype=dtype)
    print_json({"path": str(path), "dtype": dtype}) if as_json else typer.echo(path)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise PicoLMError(f"cannot read the prompts in {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PicoLMError(f"the prompts in {file} are not UTF-8 text: {error}") from None
    prompts = [line for line in text.splitlines() if line.strip()]
    if not prompts:
        raise PicoLMError(f"{file} holds no prompt: write one in each line")
    return prompts
