"""What the pages tell a reader to type works: each page is run from top to bottom in a directory of its own.

Three comments directly above a block are known here:

    <!-- not run: REASON -->    the block is left out; `make` commands in it must name targets of the Makefile
    <!-- run as: COMMAND -->    a smaller command, which must begin with the one that the page shows, takes its place
    <!-- output -->             the block shows what the block before it prints, or a part of that

A yaml or python block with a title is written to a file of that name, and a python block then is not run; every yaml
block must be a valid configuration, or a valid plan or record of an experiment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

import picolm
from picolm.experiments.notebook import read_record
from picolm.experiments.reading import read_plan

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run: [^\n]+?|run as: [^\n]+?|output) -->\n\n?)?^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    where: str
    language: str
    title: str | None
    mark: str
    code: str

    @property
    def is_left_out(self) -> bool:
        return self.mark.startswith("not run: ")

    @property
    def command(self) -> str:
        return self.mark.removeprefix("run as: ") if self.mark.startswith("run as: ") else self.code


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"^[ \t]+```", text, re.MULTILINE), f"{page} has an indented block, which nothing would run"
    blocks = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("info")) + 1
        title = re.search(r'title="([^"]+)"', match["info"])
        blocks.append(
            Block(
                where=f"{page.relative_to(PROJECT)}, line {line}",
                language=match["info"].split(" ")[0],
                title=title[1] if title else None,
                mark=match["mark"] or "",
                code=match["code"],
            )
        )
    return blocks


def run_block(block: Block, directory: Path) -> str:
    """Run a bash or python block; return all that it prints."""
    bash = ["bash", "-euo", "pipefail", "-c", block.command]
    done = subprocess.run(
        bash if block.language == "bash" else [sys.executable, "-c", block.code],
        cwd=directory,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, f"{block.where} ended with {done.returncode}:\n{block.command}\n{done.stdout}"
    return done.stdout


@pytest.fixture
def page_directory(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An empty directory but for the cache of prepared data, which all pages share, as a user's would."""
    base = tmp_path_factory.getbasetemp()
    cache = (base if worker_id == "master" else base.parent) / "documentation-cache"
    cache.mkdir(exist_ok=True)
    (tmp_path / ".picolm").symlink_to(cache)
    return tmp_path


def check_yaml(block: Block, directory: Path) -> None:
    file = directory / (block.title or "unnamed.yaml")
    file.write_text(block.code, encoding="utf-8")
    if block.code.startswith("experiment:"):
        read_plan(file)
    elif block.code.startswith("record:"):
        read_record(file)
    else:
        picolm.load_config(file)


def _cases() -> list[ParameterSet]:
    """Every page that shows something to do; but for the first ones that a user meets, with the slow tests."""
    first = {PROJECT / "README.md", PROJECT / "docs" / "quickstart.md"}
    return [
        pytest.param(page, marks=() if page in first else pytest.mark.slow, id=str(page.relative_to(PROJECT)))
        for page in PAGES
        if blocks_of(page)
    ]


@pytest.mark.parametrize("page", _cases())
def test_a_page_works_from_top_to_bottom(page: Path, page_directory: Path) -> None:
    printed = ""
    for block in blocks_of(page):
        if block.is_left_out:
            continue
        if block.mark == "output":
            assert block.code.strip() in printed, f"{block.where} shows what is not printed; printed was:\n{printed}"
        elif block.language == "python" and block.title:
            (page_directory / block.title).write_text(block.code, encoding="utf-8")
        elif block.language in ("bash", "python"):
            printed = run_block(block, page_directory)
        elif block.language == "yaml":
            check_yaml(block, page_directory)
        else:
            assert block.language == "text", f"{block.where}: nothing is known about '{block.language}' blocks"


def test_what_is_not_run_is_at_least_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for block in blocks_of(page):
            if block.mark.startswith("run as: "):
                assert block.command.startswith(block.code.strip()), f"{block.where} runs something else than it shows"
            for line in block.code.splitlines() if block.language == "bash" else ():
                words = line.split("#")[0].split()
                if words[:1] == ["make"]:
                    assert block.is_left_out, f"{block.where} must be marked: the suite does not run make"
                    assert set(words[1:]) <= targets, f"{block.where}: the Makefile has no {line}"


def test_every_command_is_documented() -> None:
    from typer.main import get_command

    from picolm.cli import app

    commands = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        commands += [f"{name} {sub}" for sub in command.commands] if hasattr(command, "commands") else [name]
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(commands) >= 8
    assert [command for command in commands if f"`picolm {command}" not in readme] == []
