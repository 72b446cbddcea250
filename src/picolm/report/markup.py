"""HTML in which nothing that a run says is taken for markup."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already; every other text is escaped when it enters an element."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escape a text; control characters and halves of surrogate pairs become the replacement character."""
    return value if isinstance(value, Markup) else Markup(html.escape(printable(str(value))))


def element(tag: str, *children: object, **attributes: str) -> Markup:
    """Return one element. Of an attribute's name a last underscore is dropped (``class_``), others become hyphens."""
    written = "".join(f' {name.rstrip("_").replace("_", "-")}="{text(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(parts: Iterable[object]) -> Markup:
    """Put pieces side by side, each escaped unless it is HTML already."""
    return Markup("".join(text(part) for part in parts))


def data_table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Iterable[int] = ()) -> Markup:
    """Return a table that scrolls sideways where the page is narrow.

    Args:
        head: titles of the columns.
        rows: cells; the first of each row is its heading.
        numeric: columns that are set right, with figures of equal width.
    """
    classes = [{"class_": "number"} if i in set(numeric) else {} for i in range(len(head))]
    titles = join(element("th", title, scope="col", **classes[i]) for i, title in enumerate(head))
    body = join(
        element(
            "tr",
            element("th", row[0], scope="row", **classes[0]),
            *(element("td", cell, **classes[i]) for i, cell in enumerate(row[1:], start=1)),
        )
        for row in rows
    )
    return element(
        "div", element("table", element("thead", element("tr", titles)), element("tbody", body)), class_="scroll"
    )


def definitions(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Return a list of names and what they stand for."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs))


def script_json(value: object) -> str:
    """Write a JSON value so that it can stand inside a `<script>` element, whatever it says."""
    written = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def label(value: str, longest: int = 40) -> str:
    """Write a name for Plotly, which takes tags in its texts for markup; long ones are shortened."""
    shown = printable(value).replace("\n", " ")
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    # Plotly knows the entities of these three characters only; it would show `&quot;` as it is.
    return html.escape(shown, quote=False)


def printable(value: str) -> str:
    """Replace what a browser would drop, refuse or act upon: control characters and lone surrogates."""
    return "".join(
        "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" else char for char in value
    )
