"""How the records of well-known tests become a context and choices, with the prompts of lm-evaluation-harness 0.4."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from picolm.errors import PicoLMError
from picolm.evaluation.records import Record

FormatName = Literal["arc", "generic", "hellaswag", "lambada", "piqa", "sciq", "winogrande"]


class Asked(NamedTuple):
    """What a record asks.

    Where all choices stand behind one context, `contexts` has it once for each. Where the choices stand in the
    contexts (partial evaluation, Trinh & Le 2018), all are continued by one text.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    """Without the space before them."""
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Format:
    """A form of records.

    Attributes:
        fields: those by which a record of this form is known.
        read: a record to what it asks.
    """

    fields: frozenset[str]
    read: Callable[[Record], Asked]


def _behind(context: str, choices: tuple[str, ...], answer: int) -> Asked:
    return Asked((context,) * len(choices), choices, choices, answer)


def _question(text: str) -> str:
    return f"Question: {text}\nAnswer:"


def _arc(record: Record) -> Asked:
    listed = record.inner("choices")
    texts, labels = listed.texts("text"), listed.texts("label")
    if len(texts) != len(labels):
        raise PicoLMError(f"{record.place} has {len(texts)} choices, but {len(labels)} labels")
    key = str(record.values["answerKey"])
    # Some records label their choices A to D and name the right one by a number, or the other way round.
    other = {**{str(n + 1): chr(65 + n) for n in range(9)}, **{chr(65 + n): str(n + 1) for n in range(9)}}
    for name in (key, other.get(key, key)):
        if name in labels:
            return _behind(_question(record.text("question")), texts, labels.index(name))
    raise PicoLMError(f"{record.place} has '{key}' as its 'answerKey', which must be one of {', '.join(labels)}")


def _hellaswag(record: Record) -> Asked:
    endings = tuple(_cleaned(ending) for ending in record.texts("endings"))
    if not all(endings):
        raise PicoLMError(f"{record.place} has an ending of nothing but brackets, which are taken away")
    begun = f"{record.text('ctx_a')} {record.text('ctx_b', may_be_empty=True).capitalize()}"
    context = _cleaned(f"{record.text('activity_label')}: {begun}")
    return _behind(context, endings, record.number("label", 0, len(endings) - 1))


def _cleaned(text: str) -> str:
    """WikiHow's marks taken away, as in lm-evaluation-harness."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _piqa(record: Record) -> Asked:
    choices = (record.text("sol1"), record.text("sol2"))
    return _behind(_question(record.text("goal")), choices, record.number("label", 0, 1))


def _sciq(record: Record) -> Asked:
    wrong = tuple(record.text(f"distractor{number}") for number in (1, 2, 3))
    support = record.text("support", may_be_empty=True).lstrip()
    context = f"{support}\n{_question(record.text('question'))}"
    return _behind(context, (*wrong, record.text("correct_answer")), 3)


def _winogrande(record: Record) -> Asked:
    options = (record.text("option1"), record.text("option2"))
    before, blank, after = record.text("sentence").partition("_")
    if not blank or not after.strip():
        raise PicoLMError(f"{record.place} has no blank '_' with text behind it in its 'sentence'")
    contexts = tuple(before + option for option in options)
    return Asked(contexts, (after.strip(),) * 2, options, record.number("answer", 1, 2) - 1)


def _lambada(record: Record) -> Asked:
    context, _, word = record.text("text").rpartition(" ")
    if not context.strip() or not word.strip():
        raise PicoLMError(f"{record.place} has a 'text' that does not end with a word behind others")
    return Asked((context,), (word,), (word,), 0)


def _generic(record: Record) -> Asked:
    choices = record.texts("choices")
    answer = record.number("answer", 0, len(choices) - 1)
    if "context" in record.values:
        return _behind(record.text("context", may_be_empty=True), choices, answer)
    return _behind(_question(record.text("question")), choices, answer)


FORMATS: Mapping[FormatName, Format] = {
    "hellaswag": Format(frozenset({"activity_label", "ctx_a", "ctx_b", "endings", "label"}), _hellaswag),
    "winogrande": Format(frozenset({"sentence", "option1", "option2", "answer"}), _winogrande),
    "piqa": Format(frozenset({"goal", "sol1", "sol2", "label"}), _piqa),
    "sciq": Format(
        frozenset({"support", "question", "distractor1", "distractor2", "distractor3", "correct_answer"}), _sciq
    ),
    "arc": Format(frozenset({"question", "choices", "answerKey"}), _arc),
    "generic": Format(frozenset({"choices", "answer"}), _generic),
    "lambada": Format(frozenset({"text"}), _lambada),
}
"""In the order in which a record is tried."""


def recognize(record: Record) -> FormatName:
    """The format whose fields a record has.

    Raises:
        PicoLMError: none.
    """
    for name, form in FORMATS.items():
        if form.fields <= record.values.keys():
            return name
    forms = "; ".join(f"{name} ({', '.join(sorted(form.fields))})" for name, form in FORMATS.items())
    there = ", ".join(record.values) or "(none)"
    raise PicoLMError(f"{record.place} has the fields {there}, which fit no format; the formats are {forms}")
