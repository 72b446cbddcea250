"""The HTML around what a page says: style, plots and scripts in one file, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from picolm.errors import PicoLMError
from picolm.report.figures import Figure
from picolm.report.markup import Markup, script_json, text
from picolm.runs.durable import write_text
from picolm.runs.software import picolm_version
from picolm.runs.verification import is_page, sealed_page


def document(
    *, kind: str, name: str, summary: str, cards: Markup, body: Markup, figures: Sequence[Figure], picker: Markup
) -> str:
    """Return the page.

    Args:
        kind: what the page is about, in two words.
        name: its heading.
        summary: one sentence.
        cards: the figures that are looked for first.
        body: sections, with a place for each figure (`sections.plot`).
        figures: what is drawn in these places.
        picker: the boxes that choose among runs; empty for one run.
    """
    from plotly.offline import get_plotlyjs

    # A page without a plot does not carry 5 MB of plotting.
    plotting = get_plotlyjs() if figures else ""
    theme = _resource("panels.js") + _resource("theme.js")
    return Template(_resource("template.html")).substitute(
        policy=_policy(plotting, theme),
        style=_resource("style.css"),
        plotting=plotting,
        theme=theme,
        figures=script_json([figure.as_json() for figure in figures]),
        kind=text(kind),
        name=text(name),
        summary=text(summary),
        cards=cards,
        picker=picker,
        body=body,
        written_by=text(f"PicoLM {picolm_version()}"),
    )


def require_place(path: Path) -> None:
    """Make sure that a page may be written to a place that somebody named.

    Raises:
        PicoLMError: a file is there that is no page of PicoLM.
    """
    if path.exists() and not is_page(path):
        raise PicoLMError(f"{path} is there, and is no page that PicoLM wrote; choose another --out")


def write_page(path: Path, page: str) -> None:
    """Write a page, replacing what was there.

    Raises:
        PicoLMError: the page cannot be written.
    """
    write_text(path, sealed_page(page))


def _policy(*scripts: str) -> str:
    # By hash and not 'unsafe-inline': even if a script in the run's text got into the page, it would not run.
    # Plotly writes its own style rules. Saving a plot as a picture makes a blob.
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return resources.files("picolm.report").joinpath(name).read_text(encoding="utf-8")
