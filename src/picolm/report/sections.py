"""The parts of the page, top to bottom; a part of which the run says nothing is empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from picolm.report import numbers
from picolm.report.configuration import configuration_tree
from picolm.report.figures import Figure
from picolm.report.markup import Markup, data_table, definitions, element, join
from picolm.report.record import Line, Record, table
from picolm.report.series import number

_FEW_CHECKPOINTS = 12
_ATTEMPT_LABELS = {
    "picolm": "PicoLM",
    "python": "Python",
    "platform": "system",
    "cpu": "processor",
    "cores": "processor cores",
    "from_checkpoint": "from step",
    "diff_sha256": "local changes",
}


def summary(record: Record) -> str:
    """Say in one sentence what the run is."""
    kind = {"masked": "masked", "causal": "causal"}.get(str(table(record.config, "objective").get("kind")), "language")
    parts = [f"A {kind} model"]
    if (total := number(table(record.identity, "parameters").get("total"))) is not None:
        parts.append(f" of {numbers.count(total)} parameters")
    if parent := table(record.identity, "parent"):
        parts.append(f", forked from {parent.get('name')} at step {numbers.whole(parent.get('step', 0))}")
    if record.last_step is not None:
        parts.append(f", trained for {numbers.whole(record.last_step)} steps")
        if (tokens := tokens_seen(record)) is not None:
            parts.append(f" on {numbers.count(tokens)} tokens")
    data = table(record.config, "data")
    sources = data["sources"] if isinstance(data.get("sources"), list) else []
    if origins := sources or ([data["prepared"]] if data.get("prepared") else []):
        parts.append(f" of {', '.join(map(str, origins))}")
    if record.seconds is not None:
        parts.append(f", in {numbers.duration(record.seconds)}")
    return "".join(parts) + "."


def cards(record: Record) -> Markup:
    """The figures that are looked for first."""
    return join(
        element(
            "div",
            element("dt", name),
            element("dd", element("strong", value), element("span", note, class_="note") if note else ""),
            class_="card",
        )
        for name, value, note in _card_values(record)
    )


def _card_values(record: Record) -> Iterator[tuple[str, str, str]]:
    parameters = table(record.identity, "parameters")
    if (total := number(parameters.get("total"))) is not None:
        inner = number(parameters.get("not_embedding"))
        yield "Parameters", numbers.count(total), "" if inner is None else f"{numbers.count(inner)} without embeddings"
    split = table(record.identity, "data", "splits", "train")
    if (tokens := number(split.get("tokens"))) is not None:
        documents = number(split.get("documents"))
        note = "" if documents is None else f"in {numbers.count(documents)} documents"
        yield "Training tokens", numbers.count(tokens), note
    if record.last_step is not None:
        planned = number(table(record.config, "training").get("steps"))
        yield "Steps", numbers.whole(record.last_step), "" if planned is None else f"of {numbers.whole(planned)}"
    if (seen := tokens_seen(record)) is not None:
        yield "Tokens seen", numbers.count(seen), f"{seen / tokens:.2f} passes over the data" if tokens else ""
    yield from _loss_cards(record)
    if record.seconds is not None:
        speed = record.tokens_per_second
        yield "Time", numbers.duration(record.seconds), "" if speed is None else f"{numbers.count(speed)} tokens/s"
    memory = [value for line in record.timings if (value := number(line.get("memory_bytes"))) is not None]
    if memory:
        yield "Peak memory", numbers.size(max(memory)), ""


def _loss_cards(record: Record) -> Iterator[tuple[str, str, str]]:
    if (final := record.final_train_loss) is not None:
        yield "Train loss", numbers.loss(final[0]), f"mean of the last {final[1]} logged steps"
    losses = [loss for line in record.validation if (loss := number(line.get("loss"))) is not None]
    if losses:
        note = f"from {numbers.loss(losses[0])}, best {numbers.loss(min(losses))}" if len(losses) > 1 else ""
        yield "Validation loss", numbers.loss(losses[-1]), note
    skipped = max((number(line.get("skipped")) or 0 for line in record.train), default=0)
    if skipped:
        yield "Skipped steps", numbers.whole(skipped), "loss or gradient was not finite"


def tokens_seen(record: Record) -> float | None:
    """Return the tokens that the model was trained on, by the last line that says."""
    seen = [tokens for line in record.train if (tokens := number(line.get("tokens"))) is not None]
    return seen[-1] if seen else None


def plot(figure: Figure) -> Markup:
    """Return the place where `theme.js` draws a figure and puts its buttons."""
    return element(
        "figure",
        element("figcaption", element("h3", figure.title), element("div", class_="switch")),
        element("div", class_="plot", role="img", aria_label=figure.title),
        element("p", figure.note, class_="note") if figure.note else "",
        id=f"figure-{figure.key}",
    )


def beginning(plots: Mapping[str, Markup], *keys: str) -> list[Markup]:
    """Return the places of the figures whose keys begin with one of these, in their order."""
    return [plot for key, plot in plots.items() if key.startswith(keys)]


def domain_table(record: Record) -> Markup:
    """First and last validation of each domain."""
    rows = [row for domain in record.domains if (row := _domain_row(record, domain))]
    if not rows:
        return Markup()
    head = ("Domain", "Tokens", "Loss, first", "Loss, last", "Change", "Perplexity", "Bits per byte")
    empty = {i for i in range(1, len(head)) if all(not row[i] for row in rows)}
    kept = [i for i in range(len(head)) if i not in empty]
    return data_table([head[i] for i in kept], [[row[i] for i in kept] for row in rows], range(1, len(kept)))


def _domain_row(record: Record, domain: str) -> list[str]:
    lines = [entry for line in record.validation if (entry := table(line, "domains", domain))]
    if not lines:
        return []
    first, last = number(lines[0].get("loss")), number(lines[-1].get("loss"))
    several = len(lines) > 1
    return [
        domain,
        _maybe(lines[-1].get("tokens"), numbers.count),
        _maybe(first, numbers.loss) if several else "",
        _maybe(last, numbers.loss),
        numbers.change(last - first) if several and first is not None and last is not None else "",
        _maybe(lines[-1].get("perplexity"), numbers.perplexity),
        _maybe(lines[-1].get("bits_per_byte"), numbers.loss),
    ]


def samples(record: Record) -> Markup:
    """Generated texts: those of the last step in full, earlier ones folded."""
    steps = sorted({line["step"] for line in record.samples}, reverse=True)
    parts = []
    for place, step in enumerate(steps):
        texts = join(_sample(line) for line in record.samples if line["step"] == step)
        heading = f"After step {numbers.whole(step)}"
        if place == 0:
            parts.append(join((element("h3", heading), texts)))
        else:
            parts.append(element("details", element("summary", heading), texts))
    return join(parts)


def _sample(line: Line) -> Markup:
    prompt, continuation = str(line.get("prompt") or ""), str(line.get("text") or "")
    prompted = element("b", prompt) if prompt else ""
    return element("blockquote", element("p", prompted, continuation, dir="auto"), class_="sample")


def configuration(record: Record) -> Markup:
    """The resolved configuration, folded, and what identifies the run."""
    if not record.config:
        return Markup()
    note = element("p", "Values that differ from the default are marked. A key explains itself on hovering.")
    tree = element("div", configuration_tree(record.config), class_="blocks")
    return element("details", element("summary", "Resolved configuration"), note, tree)


def identity(record: Record) -> Markup:
    """What makes this run this run: hashes, seeds, data, lineage."""
    data = table(record.identity, "data")
    pairs: list[tuple[str, Any]] = [
        ("configuration", record.identity.get("config_hash")),
        ("data", data.get("fingerprint")),
        ("splits", "; ".join(_split(name, table(data, "splits", name)) for name in table(data, "splits"))),
        ("tokenizer", _flat(table(data, "tokenizer"))),
        ("opens as", record.identity.get("transformers")),
        ("seeds", _flat(table(record.identity, "seeds"))),
        ("parent", _flat(record.identity.get("parent"))),
        ("written by", f"PicoLM {record.identity.get('picolm', 'unknown')}"),
    ]
    return definitions((name, value) for name, value in pairs if value)


def environment(record: Record) -> Markup:
    """Where the last attempt ran."""
    if not record.attempts:
        return Markup()
    hidden = ("time", "command", "from_checkpoint", "forecast")
    pairs = [(_ATTEMPT_LABELS.get(key, key), value) for key, value in record.attempts[-1].items() if key not in hidden]
    return definitions((name, _flat(value)) for name, value in pairs if value not in (None, {}, []))


def attempts(record: Record) -> Markup:
    """Every start of the run."""
    if not record.attempts:
        return Markup()
    rows = [
        [
            str(line.get("time", "")).replace("T", " ").replace("+00:00", " UTC"),
            "the beginning" if (step := number(line.get("from_checkpoint"))) is None else f"step {numbers.whole(step)}",
            _commit(line),
            element("code", _command(line.get("command"))),
        ]
        for line in record.attempts
    ]
    return data_table(("Started", "From", "Code", "Command"), rows)


def checkpoints(record: Record) -> Markup:
    """The checkpoints with their sizes."""
    if not record.checkpoints:
        return Markup()
    rows = [
        [
            numbers.whole(item.step),
            numbers.size(item.size_bytes),
            "model, state" if item.has_state else "model",
            element("code", f"checkpoints/{item.path.name}"),
        ]
        for item in record.checkpoints
    ]
    listed = data_table(("Step", "Size", "Holds", "Directory"), rows, (0, 1))
    total = f"{len(rows)} checkpoints, {numbers.size(sum(item.size_bytes for item in record.checkpoints))}"
    if len(rows) <= _FEW_CHECKPOINTS:
        return listed
    return element("details", element("summary", total), listed)


def section(title: str, parts: Iterable[Markup]) -> Markup:
    """Put parts under a heading; nothing when all of them are empty."""
    there = [part for part in parts if part]
    return element("section", element("h2", title), *there) if there else Markup()


def _maybe(value: object, written: Any) -> str:
    found = number(value)
    return "" if found is None else str(written(found))


def _split(name: str, split: Line) -> str:
    sizes = [f"{numbers.count(found)} {unit}" for unit, value in split.items() if (found := number(value)) is not None]
    return f"{name}: {', '.join(sizes)}" if sizes else name


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(item) for item in value)
    return "" if value is None else str(value)


def _commit(line: Line) -> str:
    commit = line.get("commit")
    if not commit:
        return f"PicoLM {line.get('picolm', 'unknown')}"
    return f"{str(commit)[:10]}{' with local changes' if line.get('diff_sha256') else ''}"


def _command(command: object) -> str:
    return " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
