"""A run as training leaves it, with synthetic lines; a page in a real browser."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from picolm.config.schema import Config
from picolm.runs.attempt import append_attempt, describe_attempt
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import committed_directory
from picolm.runs.log import LogWriter
from picolm.runs.manifest import write_manifest

STEPS = 4000
BATCH = 32
LENGTH = 256
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_AROUND = """<!doctype html><iframe id="page" src="{page}" style="width:{width}px;height:4000px"></iframe>
<pre id="said"></pre><script>
page.onload = async () => {{
  const inside = page.contentDocument, window = page.contentWindow;
  while (!inside.documentElement.dataset.drawn) await new Promise((resume) => setTimeout(resume, 20));
  const settle = () => new Promise((resume) => setTimeout(resume, 300));
  const plots = () => [...inside.querySelectorAll(".plot")];
  try {{ said.textContent = JSON.stringify(await (async () => {{ {script} }})()); }}
  catch (error) {{ said.textContent = JSON.stringify(String(error)); }}
}};
</script>"""


def identity(name: str, sources: list[str] | None = None) -> dict[str, Any]:
    config = Config.model_validate({"training": {"steps": STEPS}, "optimizer": {"learning_rate": 6e-4}})
    resolved = config.model_dump(mode="json")
    if sources is not None:
        resolved["data"]["sources"] = sources
    return {
        "name": name,
        "config": resolved,
        "config_hash": "5be1a0f1c4d27b33",
        "seeds": {"init": 0, "data": 0, "dropout": 0, "sampling": 0},
        "data": {
            "fingerprint": "c0ffee00aa11bb22",
            "splits": {
                "train": {"tokens": 5_204_113, "documents": 21_877},
                "validation": {"tokens": 268_201, "documents": 1_151},
            },
            "tokenizer": {"fingerprint": "77aa", "vocab_size": 8192},
        },
        "parameters": {"total": 11_282_784, "not_embedding": 1_771_872},
        "transformers": "LlamaForCausalLM",
        "parent": None,
        "interventions": [],
    }


def wobble(step: int) -> float:
    """Noise that is the same each time."""
    return math.modf(math.sin(step * 12.9898) * 43758.5453)[0]


def train_line(step: int) -> dict[str, Any]:
    loss = 3.1 + 5.9 * math.exp(-step / 350) + 0.14 * wobble(step)
    warm = min(step / 100, 1.0)
    return {
        "event": "train",
        "step": step,
        "loss": loss,
        "losses": {"causal": loss},
        "learning_rate": 6e-4 * warm * 0.5 * (1 + math.cos(math.pi * step / STEPS)),
        "gradient_norm": 0.5 + 4 * math.exp(-step / 120) + 0.2 * abs(wobble(step + 7)) + (12 if step == 2600 else 0),
        "tokens": step * BATCH * LENGTH,
        "sequences": step * BATCH,
        "skipped": 0,
    }


def validation_line(step: int, domains: list[str]) -> dict[str, Any]:
    entries = {}
    for place, domain in enumerate(domains):
        loss = 3.0 + 0.18 * place + (6.0 - 0.15 * place) * math.exp(-step / 380)
        entries[domain] = {
            "loss": loss,
            "perplexity": math.exp(loss),
            "bits_per_byte": loss / math.log(2) / 3.9,
            "tokens": 98_000 + 311 * place,
            "bytes": 382_000,
        }
    mean = sum(entry["loss"] for entry in entries.values()) / len(entries)
    return {"event": "validation", "step": step, "loss": mean, "domains": entries}


def timing_line(step: int, since: int) -> dict[str, Any]:
    return {
        "step": step,
        "seconds": 0.26 * (step - since),
        "tokens_per_second": 31_000 + 1500 * wobble(step),
        "step_seconds": 0.26,
        "memory_bytes": 1_310_000_000,
        "flops_per_second": 6.1e11,
    }


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    with LogWriter(path) as writer:
        for line in lines:
            writer.append(line)


def add_checkpoint(run: RunDirectory, step: int) -> None:
    with committed_directory(run.checkpoint_path(step)) as directory:
        (directory / "model.safetensors").write_bytes(bytes(45_131))
        write_manifest(directory, step=step, transformers="LlamaForCausalLM")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    """Build a whole run; every text in it can be chosen."""

    def build(
        name: str = "tiny-english",
        domains: tuple[str, ...] = ("story", "dialogue", "encyclopedia", "news"),
        sample: str = "Once upon a time",
        sources: list[str] | None = None,
    ) -> RunDirectory:
        run = RunDirectory.create(tmp_path / "runs" / name, identity(name, sources))
        append_attempt(run.path, describe_attempt(None))
        append_attempt(run.path, {**describe_attempt(2000), "command": ["picolm", "resume", name], "note": sample})
        lines: list[dict[str, Any]] = [validation_line(0, list(domains))]
        for step in range(1, STEPS + 1):
            lines.append(train_line(step))
            if step % 200 == 0:
                lines.append(validation_line(step, list(domains)))
            if step % 2000 == 0:
                text = f"{sample}, there was a little fox who lived near the river.\nShe had a red hat.\n\n“Good day!”"
                lines += [
                    {"event": "sample", "step": step, "prompt": "", "text": text},
                    {"event": "sample", "step": step, "prompt": sample, "text": " the fox asked where the river went."},
                ]
        write_lines(run.log_path, lines)
        write_lines(run.timings_path, [timing_line(step, 0) for step in range(20, 2041, 20)])
        write_lines(run.timings_path, [timing_line(step, 2000) for step in range(2020, STEPS + 1, 20)])
        for step in (1000, 2000, 4000):
            add_checkpoint(run, step)
        return run

    return build


@pytest.fixture
def run(make_run: Callable[..., RunDirectory]) -> RunDirectory:
    return make_run()


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., Any]:
    """Chromium, to be asked with a page and a script."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: no page is looked at in a browser")
    return partial(ask, folder=tmp_path)


def ask(page: Path, script: str, *, folder: Path, width: int = 1200, options: tuple[str, ...] = ()) -> Any:
    """Run a script beside a page, with its `document` as `inside`; what it returns comes back.

    The page's own policy lets no other script run in it, so it is asked from around it.
    """
    around = folder / "around.html"
    around.write_text(_AROUND.format(page=page.as_uri(), script=script, width=width))
    shown = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-web-security", "--enable-logging=stderr"),
            *(f"--user-data-dir={folder}/chromium", "--virtual-time-budget=15000", *options),
            *("--dump-dom", around.as_uri()),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    # A refused script, style or request, and an exception, are all told on the console.
    assert "CONSOLE" not in shown.stderr.decode(errors="replace")
    said = re.search(r'<pre id="said">(.*?)</pre>', shown.stdout.decode(), re.DOTALL)
    assert said is not None and said[1].strip(), "the page was not drawn"
    return json.loads(unescape(said[1]))
