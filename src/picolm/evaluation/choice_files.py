"""Files of questions with choices, and the examples that stand before a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from picolm.errors import PicoLMError
from picolm.evaluation.choice_formats import FORMATS, FormatName, recognize
from picolm.evaluation.records import read_records
from picolm.randomness import generator


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its choices, K of them.

    Attributes:
        contexts: what stands before each, K.
        continuations: what is scored of each, K.
        choices: the text of each alone, K: by its length scores are normalized.
        answer: the number of the right one.
        group: the group in which it is reported; empty: none.
        place: file and line, for errors.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    choices: tuple[str, ...]
    answer: int
    group: str
    place: str

    @property
    def answered(self) -> str:
        """The question with its right answer, as an example for another one."""
        return self.contexts[self.answer] + self.continuations[self.answer]

    @property
    def shares_context(self) -> bool:
        """Whether all choices stand behind one context."""
        return len(set(self.contexts)) == 1


def read_questions(
    path: Path, form: Literal["auto"] | FormatName, *, delimiter: str, group_field: str
) -> tuple[FormatName, list[Question]]:
    """Read all questions of a file.

    Args:
        path: of JSON lines, plain or gzipped.
        form: of its records; `auto`: that of the first one.
        delimiter: stands between context and continuation.
        group_field: the field with a question's group, where there is one.

    Returns:
        The format, and the questions.

    Raises:
        PicoLMError: the file is not what it must be; named by line.
    """
    records = read_records(path, "questions")
    name = recognize(records[0]) if form == "auto" else form
    questions = []
    for record in records:
        missing = sorted(FORMATS[name].fields - record.values.keys())
        if missing:
            raise PicoLMError(f"{record.place} has no field '{missing[0]}', which format={name} needs")
        asked = FORMATS[name].read(record)
        continuations = tuple(delimiter + text for text in asked.continuations)
        group = record.label(group_field)
        questions.append(Question(asked.contexts, continuations, asked.choices, asked.answer, group, record.place))
    return name, questions


def sample(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """Draw some questions, in the order of the file; all where there are fewer."""
    places = generator(seed, "sample of questions").permutation(len(questions))[:count]
    return [questions[place] for place in sorted(places.tolist())]


def with_shots(questions: Sequence[Question], pool: Sequence[Question], shots: int, seed: int) -> list[Question]:
    """Put answered examples before each question, parted by blank lines.

    Which examples these are depends on the seed, the pool and the question alone. A question is no example for itself.

    Raises:
        PicoLMError: there are too few examples.
    """
    examples = list(dict.fromkeys(question.answered for question in pool))
    found = []
    for question in questions:
        key = "\n".join([*question.contexts, *question.continuations])
        order = generator(seed, "shots", key).permutation(len(examples)).tolist()
        drawn = [examples[place] for place in order if examples[place] != question.answered][:shots]
        if len(drawn) < shots:
            raise PicoLMError(
                f"shots={shots} needs as many examples beside {question.place}, but there are {len(drawn)}"
            )
        beginning = "".join(f"{example}\n\n" for example in drawn)
        found.append(replace(question, contexts=tuple(beginning + context for context in question.contexts)))
    return found
