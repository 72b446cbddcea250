"""CHAT transcripts (.cha, the form of CHILDES: MacWhinney 2000) -> utterances with the age of the child.

An utterance is a document. What was said stays, in plain spelling: codes in brackets, time marks, pauses, fillers and
fragments (`&-um`), omitted words (`0is`) and what nobody understood (`xxx`, `yyy`, `www`) go. Dependent tiers (`%mor`)
are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from picolm.errors import PicoLMError
from picolm.text.document import JSON, Document
from picolm.text.lines import Lines, decode

CHILD = "Target_Child"
_MONTH_DAYS = 365.25 / 12
_AGE = re.compile(r"(?P<years>\d+);(?:(?P<months>\d+)(?:\.(?P<days>\d+))?)?\.?")
_CODES = re.compile(r"\x15[^\x15]*\x15|\[[^\]]*\]|\(\.+\)|[<>]")
_UNHEARD = frozenset({"xxx", "yyy", "www"})
_ENDS = frozenset(".?!")
_ID_FIELDS = 8


def read_chat(lines: Lines, stem: str, file_name: str) -> Iterator[Document]:
    """Read the utterances of a transcript, in order.

    Their metadata: `speaker`, `role`, `corpus`, `language`, and of the target child `child` and `age_months`.

    Args:
        lines: of the file.
        stem: the documents' domain where the child's `@ID` names no corpus.
        file_name: what ids begin with; the number of the line follows.

    Raises:
        PicoLMError: a line is no line of CHAT, or an age is none; named by line.
    """
    participants: dict[str, dict[str, JSON]] = {}
    of_child: dict[str, JSON] = {}
    domain, n_tiers = stem, 0
    for number, line in _tiers(lines):
        place = f"{lines.name}, line {number}"
        if line[0] not in "@*%":
            raise PicoLMError(f"{place} begins with '{line[:10]}'; a line of CHAT begins with @, *, % or a tab")
        n_tiers += 1
        name, _, content = line.partition(":")
        if name == "@ID":
            code, known, is_child = _participant(content, place)
            participants[code] = {key: value for key, value in known.items() if key != "age_months"}
            if is_child:
                domain = str(known["corpus"] or stem)
                of_child = {"child": code, **({"age_months": known["age_months"]} if "age_months" in known else {})}
        elif line[0] == "*":
            speaker, text = name[1:], spoken(content)
            known = participants.get(speaker, {"role": None})
            yield Document(f"{file_name}:{number}", text, domain, {"speaker": speaker, **known, **of_child})
    if not n_tiers:
        raise PicoLMError(f"{lines.name} is empty: it has no utterances")


def spoken(content: str) -> str:
    """What was said in a main tier, as plain text; empty where nothing is left."""
    words: list[str] = []
    for token in _CODES.sub(" ", content).split():
        if token[0] == "+" and len(token) > 1:
            # Linkers (`+<`) say nothing; special ends (`+...`, `+/?`) are the mark they end with.
            token = token[-1] if token[-1] in _ENDS else ""
        word = _word(token)
        if word in _ENDS or word == ",":
            # A mark with no word before it ends nothing.
            if words:
                words[-1] += word
        elif word:
            words.append(word)
    return " ".join(words)


def _word(token: str) -> str:
    if token[:1] in ("&", "0") or token.lower().partition("@")[0] in _UNHEARD:
        return ""
    if token in ("\u2021", "\u201e"):
        # What sets a vocative or a tag apart.
        return ","
    word = token.partition("@")[0]
    # `(be)cause` and `no:` in full and plain; compounds in their parts.
    return re.sub(r"[()^:\u02c8\u02cc]", "", word).replace("_", " ").replace("+", " ").strip()


def _participant(content: str, place: str) -> tuple[str, dict[str, JSON], bool]:
    """Of an `@ID`: the code of a participant, what is known, and whether it is the target child."""
    fields = [field.strip() for field in content.strip().split("|")]
    if len(fields) < _ID_FIELDS:
        raise PicoLMError(
            f"{place} has {len(fields)} fields; an @ID of CHAT has language|corpus|code|age|sex|...|role|"
        )
    language, corpus, code, age, role = (*fields[:4], fields[7])
    known: dict[str, JSON] = {"role": role or None, "corpus": corpus or None, "language": language or None}
    if age:
        known["age_months"] = _months(age, place)
    return code, known, role == CHILD


def _months(age: str, place: str) -> float:
    found = _AGE.fullmatch(age)
    if found is None:
        raise PicoLMError(f"{place} has the age '{age}'; CHAT writes years;months.days, for example 2;06.15")
    years, months, days = (int(found[part] or 0) for part in ("years", "months", "days"))
    return round(12 * years + months + days / _MONTH_DAYS, 2)


def _tiers(lines: Lines) -> Iterator[tuple[int, str]]:
    """Lines with what continues them (what begins with a tab), by the number of the first."""
    number, held = 0, ""
    for at, content in lines:
        line = decode(lines.name, content, at).rstrip("\r\n")
        if line.startswith("\t") and held:
            held += f" {line.strip()}"
        elif line.strip():
            if held:
                yield number, held
            number, held = at, line
    if held:
        yield number, held
