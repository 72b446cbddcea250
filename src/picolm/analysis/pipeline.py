"""The pipeline: a suite's steps, metrics and sites become tidy parts, several steps at once, none of them twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from picolm.analysis.comparison import Comparison, compared_with
from picolm.analysis.counter import Counter, Progress
from picolm.analysis.measure import Measuring, one_thread
from picolm.analysis.plan import Plan, There, asks_for_probe, is_pattern, make_plan, starred
from picolm.analysis.probe import Probe
from picolm.analysis.probe_text import LENGTH, ROWS, probe_of_text
from picolm.analysis.sights import Captured, Computed, Sights
from picolm.analysis.sites import matrix_sites
from picolm.analysis.source import Source
from picolm.analysis.sources.run import RunSource
from picolm.analysis.steps import chosen_steps
from picolm.errors import PicoLMError
from picolm.runs.analyses import FOLDER, AnalysisPart, analysed_target
from picolm.runs.digest import sha256_of_bytes, sha256_of_file, sha256_of_json
from picolm.runs.tables import Measured

_HINT = " (activations and gradients are there where the run captured them, or on a text: --probe FILE)"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of each suite.

    Attributes:
        metrics: names.
        sites: patterns, as `plan` has them.
        steps: as `steps.chosen_steps` takes them.
        against: with what metrics of pairs compare, as `comparison` has it.
        probe: a text, or the name of a probe of the run: activations are computed on it; None: captured ones are read.
        probe_rows: at most so many rows of the text.
        probe_length: positions of each row.
    """

    metrics: Sequence[str]
    sites: Sequence[str]
    steps: str | int | Sequence[int] = "all"
    against: str | int = "final"
    probe: Path | str | None = None
    probe_rows: int = ROWS
    probe_length: int = LENGTH


class Analysis:
    """A request that was found to fit a suite, and the place where its parts are kept."""

    def __init__(self, source: Source, request: Request, folder: Path | None) -> None:
        """Find everything out that can be wrong before anything is measured.

        Args:
            source: the suite.
            request: what is asked.
            folder: of its parts; None: nothing is kept.

        Raises:
            PicoLMError: the request does not fit the suite, or the folder holds the parts of another one.
        """
        self.source, self.folder = source, folder
        # Names first: a metric that is none takes no time to find.
        shown = asks_for_probe(request.metrics, request.sites)
        probe, name = _probe_of(source, request) if shown else (None, None)
        sights = _sights_of(source, probe, name) if shown else None
        plan = make_plan(request.metrics, request.sites, what_is_there(source, sights))
        comparison = compared_with(request.against, source)
        compared = sights
        if sights is not None and comparison.source is not source:
            compared = _sights_of(comparison.source, probe, name)
        _refuse_other_shapes(source, comparison, plan)
        self.measuring = Measuring(
            source, plan, comparison, sights if plan.needs_probe else None, compared if plan.needs_probe else None
        )
        self.steps = chosen_steps(request.steps, _steps_of(source, plan, sights))
        if folder is not None:
            _refuse_other_target(folder, source)
        self._asked: dict[str, Any] = {
            "sites": plan.described,
            "against": str(request.against) if plan.compares else None,
            "probe": "captured" if probe is None else probe.digest,
            "probe_name": name,
        }

    @property
    def plan(self) -> Plan:
        """Which metrics at which sites."""
        return self.measuring.plan

    def rows(self, *, again: bool = False, progress: Progress | None = None) -> list[Measured]:
        """Measure what was not measured before, several steps at once; read the rest.

        A step's part is written as soon as it is complete, so what is interrupted is continued by the next call.

        Args:
            again: whether what is there already is measured again.
            progress: told how far it is; on any thread, never on two at once.

        Raises:
            PicoLMError: a file is damaged, or the disk is full.
        """
        counter = Counter(progress, f"{self.source.path.name}, {len(self.steps)} steps", self._total)
        with one_thread(), ThreadPoolExecutor(max_workers=workers(len(self.steps))) as pool:
            futures = [pool.submit(self._step, step, again, counter) for step in self.steps]
            try:
                _first_error(futures)
            except BaseException:
                # An interruption too: threads end at their next site, and parts that are whole stay.
                counter.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return [row for future in futures for row in future.result()]

    def without_values(self, rows: Sequence[Measured]) -> list[str]:
        """The metrics that gave nothing at any step, as where there was no step to compare with.

        Args:
            rows: what was measured.
        """
        found = {row.metric.partition(".")[0] for row in rows}
        of = (*self.plan.weights.values(), *self.plan.gradients.values(), *self.plan.activations.values())
        return [name for name in dict.fromkeys(one.name for metrics in of for one in metrics) if name not in found]

    @property
    def _total(self) -> int:
        return len(self.steps) * self.plan.n_sites

    def _step(self, step: int, again: bool, counter: Counter) -> list[Measured]:
        counter.step(0)
        content = sha256_of_json([self.measuring.content(step), code_digest()])
        part = None if self.folder is None else AnalysisPart(self.folder, step, self._asked)
        done = None if again or part is None else part.rows(content)
        if done is None:
            done = self.measuring.rows(step, counter.site)
            if part is not None:
                part.write(done, content, str(self.source.path.resolve()))
        counter.step(self.plan.n_sites)
        return done


def folder_of(source: Source, output: Path | None) -> Path:
    """Where the parts of a suite stand: in a run of ours its own `metrics/`, never in the directory of anyone else.

    Args:
        source: the suite.
        output: where the user wants them; None: nowhere in particular.
    """
    if output is not None:
        return output
    return (
        source.path / FOLDER if isinstance(source, RunSource) else Path("analysis", source.path.resolve().name, FOLDER)
    )


def what_is_there(source: Source, sights: Sights | None) -> There:
    """What can be measured in a suite.

    Raises:
        PicoLMError: the newest checkpoint is damaged.
    """
    shapes = source.snapshot(source.steps[-1]).shapes if source.steps else {}
    matrices = matrix_sites(shapes, source.geometry) if shapes else {}
    if sights is None:
        return There(matrices, (), {}, _HINT)
    known = set(sights.gradients)
    gradients = [name for name, site in matrices.items() if known.issuperset(site.parts)]
    hint = _HINT if isinstance(sights, Captured) else ""
    return There(matrices, gradients, sights.activations, hint)


def sites_of(source: Source, probe: str | None = None) -> dict[str, list[str]]:
    """What can be measured in a suite, by kind, with stars for numbers.

    Args:
        source: the suite.
        probe: as in `Request`; None: activations are those that were captured.

    Raises:
        PicoLMError: the newest checkpoint or capture is damaged, or the probe cannot be made.
    """
    made, name = _probe_of(source, Request((), (), probe=probe))
    there = what_is_there(source, _sights_of(source, made, name) if made or source.capture_steps else None)
    return {
        "matrix": starred(there.matrices),
        "gradient": [f"gradient({site})" for site in starred(there.gradients)],
        "activation": starred([site for site in there.activations if not is_pattern(site)]),
        "pattern": starred([site for site in there.activations if is_pattern(site)]),
    }


def workers(n_steps: int) -> int:
    """How many steps are measured at once: as many as there are processors for, four at most, as each holds tensors."""
    return max(1, min(n_steps, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 4))


@cache
def code_digest() -> str:
    """SHA-256 of the code that measures: after a change of any of it, a part is measured again."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return sha256_of_bytes("".join(sha256_of_file(file) for file in files).encode())


def _first_error(futures: Sequence[Future[list[Measured]]]) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()


def _probe_of(source: Source, request: Request) -> tuple[Probe | None, str | None]:
    """The probe, and its name in tables."""
    if request.probe is None:
        return None, None
    path = Path(request.probe)
    if path.is_file():
        return probe_of_text(path, source, rows=request.probe_rows, length=request.probe_length), path.name
    stored = source.probe(str(request.probe)) if isinstance(source, RunSource) else None
    if stored is None:
        raise PicoLMError(f"there is no file '{request.probe}' to make a probe of")
    return stored, str(request.probe)


def _sights_of(source: Source, probe: Probe | None, name: str | None) -> Sights:
    if probe is not None:
        assert name is not None
        return Computed(source, probe, name)
    if not source.capture_steps:
        raise PicoLMError(
            f"{source.kind} {source.path} has no captures to read activations or gradients from: "
            "name a text to compute them on, --probe FILE"
        )
    return Captured(source)


def _steps_of(source: Source, plan: Plan, sights: Sights | None) -> list[int]:
    found: set[int] = set(source.steps) if plan.weights else set()
    if sights is not None and plan.needs_probe:
        found |= set(sights.steps)
    return sorted(found)


def _refuse_other_shapes(source: Source, comparison: Comparison, plan: Plan) -> None:
    """Activations of unlike widths can be compared, matrices and heads cannot."""
    other = comparison.source
    if other is source or not plan.compares:
        return
    own, theirs = source.geometry, other.geometry
    heads = [(of.n_heads, of.n_kv_heads, of.head_dim) for of in (own, theirs)]
    if heads[0] != heads[1] and plan.has_heads:
        raise PicoLMError(f"{other.path} has other attention heads than {source.path}: they cannot be compared")
    if not plan.compares_matrices:
        return
    shapes, there = (suite.snapshot(suite.steps[-1]).shapes for suite in (source, other))
    for name in dict.fromkeys(name for site in (*plan.weights, *plan.gradients) for name in site.parts):
        if there.get(name) != shapes[name]:
            found = f"of shape {list(there[name])}" if name in there else "not there"
            raise PicoLMError(
                f"{other.path} is a model of another shape than {source.path}: its matrix '{name}' is {found}, "
                f"not {list(shapes[name])}"
            )


def _refuse_other_target(folder: Path, source: Source) -> None:
    # The own folder of a run moves with it.
    if isinstance(source, RunSource) and folder.resolve() == (source.path / FOLDER).resolve():
        return
    target = analysed_target(folder)
    if target is not None and target != str(source.path.resolve()):
        raise PicoLMError(f"{folder} holds the tables of {target}: choose another --output for {source.path}")
