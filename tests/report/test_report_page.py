import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from picolm.errors import PicoLMError
from picolm.report.page import write_run_report
from picolm.runs.directory import RunDirectory
from picolm.runs.log import LogWriter

MakeRun = Callable[..., RunDirectory]
HOSTILE_NAME = "<img src=x onerror=alert(1)>"
HOSTILE_DOMAINS = ("</script><script>alert(2)</script>", '<a href="https://evil.example">x</a>', "%{x} $name", "&amp;")
HOSTILE_SAMPLE = "<!--<script>\x1b\u202e</p></main><base href='https://evil.example'>\udc80"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """The elements and the texts of a page, as a browser would see them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open = ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    def attribute(self, tag: str, name: str) -> list[str]:
        return [value for its_tag, its_name, value in self.attributes if (its_tag, its_name) == (tag, name)]

    @property
    def figures(self) -> dict[str, Any]:
        return {figure["key"]: figure for figure in json.loads(self.scripts[0])}


@pytest.fixture
def page(make_run: MakeRun) -> Page:
    return Page(write_run_report(make_run()))


def append(run: RunDirectory, *lines: dict[str, Any]) -> None:
    with LogWriter(run.log_path) as writer:
        for line in lines:
            writer.append(line)


def test_report_stands_in_the_run_or_where_one_says(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert write_run_report(run) == run.path / "report.html"
    assert write_run_report(run, tmp_path / "mine.html") == tmp_path / "mine.html"
    assert (tmp_path / "mine.html").read_bytes() == (run.path / "report.html").read_bytes()


def test_own_page_is_written_again_whatever_became_of_it_and_no_other_file(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (run.path / "report.html").write_text("torn")
    assert write_run_report(run).read_text().startswith("<!doctype html>")
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(PicoLMError, match=r"notes\.html is there, and is no page that PicoLM wrote"):
        write_run_report(run, tmp_path / "notes.html")


def test_place_that_cannot_be_written_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match=r"nowhere/x\.html.*create the directory"):
        write_run_report(make_run(), tmp_path / "nowhere" / "x.html")


def test_page_says_what_the_run_is(page: Page) -> None:
    text = " ".join(page.texts).replace("\u202f", " ")
    assert "A causal model of 11.3 M parameters, trained for 4,000 steps on 32.8 M tokens" in text
    assert "6.30 passes over the data" in text
    # Two attempts, of 2040 and 2000 steps at 0.26 s.
    assert "17 min 30 s" in text
    assert "checkpoints/step-00002000" in text
    assert "there was a little fox" in text
    assert re.search(r"encyclopedia .*9\.060 .*3\.360 .*−5\.700", " ".join(text.split()))  # noqa: RUF001


def test_page_asks_nothing_of_the_network(page: Page) -> None:
    carriers = {"src", "href", "srcset", "action", "data", "poster", "background", "style", "formaction"}
    assert [found for found in page.attributes if found[1] in carriers or found[1].startswith("on")] == []
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "img", "iframe", "base", "object", "form", "a"})
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_policy_lets_only_the_two_scripts_of_the_page_run(page: Page) -> None:
    policy = page.attribute("meta", "content")[0]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]]
    assert len(hashes) == 2
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert page.attribute("script", "type") == ["application/json"]


def test_plotting_script_is_carried_once(page: Page) -> None:
    assert page.source.count("* plotly.js v") == 1
    assert len(page.source) < 5_400_000


def test_texts_of_the_run_never_become_markup(make_run: MakeRun, page: Page) -> None:
    run = make_run(HOSTILE_NAME, HOSTILE_DOMAINS, HOSTILE_SAMPLE, sources=["<b>", "</title>"])
    hostile = Page(write_run_report(run))
    assert hostile.elements == page.elements
    assert {HOSTILE_NAME, f"{HOSTILE_NAME} · PicoLM"} <= set(hostile.texts)
    assert set(HOSTILE_DOMAINS) <= set(hostile.texts)
    assert HOSTILE_SAMPLE.replace("\x1b", "\ufffd").replace("\udc80", "\ufffd") in hostile.texts
    assert len(hostile.scripts) == 3
    assert "<" not in hostile.scripts[0]


def test_texts_in_plots_are_escaped_for_plotly(make_run: MakeRun) -> None:
    hostile = Page(write_run_report(make_run(domains=HOSTILE_DOMAINS)))
    traces = hostile.figures["domains"]["traces"]
    assert [trace["name"] for trace in traces[:4]] == [
        "&lt;/script&gt;&lt;script&gt;alert(2)&lt;/script&gt;",
        '&lt;a href="https://evil.example"&gt;x&lt;/a&gt;',
        "%{x} $name",
        "&amp;amp;",
    ]
    assert all("evil" not in trace["hovertemplate"] for trace in traces)


def test_curves_hold_what_the_log_says(make_run: MakeRun) -> None:
    run = make_run()
    figures = Page(write_run_report(run)).figures
    assert list(figures) == ["loss", "domains", "rate", "gradient", "speed"]
    raw, smooth, validation = figures["loss"]["traces"]
    assert [raw["name"], smooth["name"], validation["name"]] == ["train", "train, smoothed", "validation"]
    logged = {line["step"]: line["loss"] for line in run.log if line["event"] == "validation"}
    assert dict(zip(validation["x"], validation["y"], strict=True)) == pytest.approx(logged, rel=1e-5)
    assert max(figures["gradient"]["traces"][0]["y"]) > 12, "the spike of one step in 4000 is still there"
    assert figures["gradient"]["traces"][1]["y"] == [1.0, 1.0]
    assert figures["gradient"]["views"][0]["yaxis"]["type"] == "log"
    speed = figures["speed"]["traces"][0]["x"]
    assert speed == sorted(set(speed)), "steps measured twice count once"


def test_views_choose_among_shared_traces(page: Page) -> None:
    loss, domains = page.figures["loss"], page.figures["domains"]
    assert [view["traces"] for view in loss["views"]] == [[0, 1, 2], [0, 1, 2]]
    assert [view["xaxis"].get("type") for view in loss["views"]] == [None, "log"]
    assert [view["label"] for view in domains["views"]] == ["Loss", "Bits per byte", "Perplexity"]
    assert [view["traces"] for view in domains["views"]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_colours_are_named_in_the_style_sheet(page: Page) -> None:
    named = {trace["colour"] for figure in page.figures.values() for trace in figure["traces"]}
    assert named <= set(re.findall(r"--([a-z0-9-]+): light-dark\(", page.source))


def test_only_changed_values_are_marked(page: Page) -> None:
    changed = re.findall(r'<div class="changed"><dt[^>]*>([^<]+)</dt><dd>([^<]+)</dd>', page.source)
    assert sorted(changed) == [("learning_rate", "0.0006"), ("steps", "4000")]
    assert "peak learning rate" in page.attribute("dt", "title")


def test_a_key_is_explained_as_its_kind_means_it(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "muon", {"config": {"optimizer": {"kind": "muon", "learning_rate": 0.02}}})
    append(run, {"event": "train", "step": 1, "loss": 9.0, "tokens": 10})
    titles = Page(write_run_report(run)).attribute("dt", "title")
    assert any("peak for the hidden matrices" in title for title in titles)
    assert "peak learning rate" not in titles


def test_averaged_weights_are_drawn_beside_the_others(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "averaged", {})
    append(run, {"event": "validation", "step": 4, "loss": 5.0, "domains": {}, "ema": {"loss": 4.5, "domains": {}}})
    traces = Page(write_run_report(run)).figures["loss"]["traces"]
    assert [trace["name"] for trace in traces] == ["validation", "validation, averaged weights"]


def test_run_of_which_nothing_is_known_yet_has_a_page(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "fresh", {})
    page = Page(write_run_report(run))
    assert page.figures == {}
    assert "fresh" in page.texts
    assert len(page.source) < 50_000, "without a plot there is no plotting script"


def test_masked_run_without_validation_leaves_these_parts_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "bert", {"config": {"objective": {"kind": "masked", "rate": 0.15}}})
    append(run, {"event": "train", "step": 1, "loss": 9.0, "tokens": 10}, {"event": "train", "step": 2, "loss": 8.0})
    page = Page(write_run_report(run))
    assert list(page.figures) == ["loss"]
    assert page.figures["loss"]["views"][0]["yaxis"]["title"]["text"] == "loss (nats per masked token)"
    assert "Domains" not in page.texts
    assert "share of positions that are predicted" in page.attribute("dt", "title")


def test_domain_without_bits_per_byte_has_no_such_view(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "bert", {})
    entry = {"loss": 5.0, "perplexity": 148.4, "bits_per_byte": None, "tokens": 99}
    append(run, {"event": "validation", "step": 4, "loss": 5.0, "domains": {"news": entry}})
    page = Page(write_run_report(run))
    assert [view["label"] for view in page.figures["domains"]["views"]] == ["Loss", "Perplexity"]
    assert "Bits per byte" not in page.texts
    assert "Loss, first" not in page.texts, "one validation has no first and last"


def test_steps_that_were_not_finite_are_gaps_and_counted(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "wild", {})
    losses = [9.0, math.nan, math.inf, 8.0]
    append(
        run,
        *({"event": "train", "step": i, "loss": loss, "skipped": min(i, 2)} for i, loss in enumerate(losses)),
    )
    page = Page(write_run_report(run))
    assert page.figures["loss"]["traces"][0]["y"] == [9.0, None, None, 8.0]
    assert "Skipped steps" in page.texts
    assert "8.500" in page.texts, "the mean is over the finite steps"


def test_damaged_log_is_named(make_run: MakeRun) -> None:
    run = make_run()
    lines = run.log_path.read_bytes().splitlines(keepends=True)
    run.log_path.write_bytes(lines[0] + b"{torn\n" + lines[1])
    with pytest.raises(PicoLMError, match=r"log\.jsonl, line 2"):
        write_run_report(run)


def test_report_imports_no_plotting_before_it_is_written() -> None:
    program = (
        "import sys, picolm.report.page;"
        "assert not {'plotly', 'torch', 'pydantic', 'pandas'} & sys.modules.keys(), 'imported too early'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not looked at in a browser")
def test_browser_draws_every_figure_without_complaint(make_run: MakeRun, tmp_path: Path) -> None:
    path = write_run_report(make_run(HOSTILE_NAME, HOSTILE_DOMAINS, HOSTILE_SAMPLE))
    shown = subprocess.run(
        [
            str(CHROMIUM),
            *(
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-logging=stderr",
                f"--user-data-dir={tmp_path}/c",
            ),
            *("--virtual-time-budget=5000", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    document = shown.stdout.decode()
    # A refused script, style or request, and an exception, are all told on the console.
    assert "CONSOLE" not in shown.stderr.decode(errors="replace")
    assert re.search(r'<html[^>]* data-drawn="5"', document)
    assert document.count('class="main-svg"') >= 5
    assert re.search(r'class="legendtext"[^>]*>&lt;/script&gt;&lt;script&gt;alert\(2\)', document)
    assert len(re.findall(r'<button type="button" aria-pressed="(?:true|false)">', document)) == 2 + 3
    assert "evil.example" not in "".join(re.findall(r"<a [^>]*>", document[document.index("<body") :]))
