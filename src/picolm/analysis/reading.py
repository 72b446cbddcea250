"""From sites to tensors: what a suite holds at a step, each stored matrix read once, and what tells its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torch import Tensor

from picolm.analysis.circuits import Factors, difference, first_order
from picolm.analysis.sites import MatrixSite
from picolm.analysis.source import Source, digest_of

_Parts = Mapping[int, Mapping[str, Tensor]]
"""By step, the stored matrices that are needed."""


def read_matrices(
    source: Source, sites: Sequence[MatrixSite], step: int, there: Sequence[int] | None = None
) -> dict[str, Tensor | Factors]:
    """Read matrices, circuits and updates at a step: what they are made of, and nothing else, is read.

    Args:
        source: the suite.
        sites: which.
        step: at which step.
        there: the steps that are looked at, ascending, among which updates find `previous`, `next` and `final`; None:
            all of the source.

    Returns:
        By label; in the precision in which they are stored, updates in float32 at least. An update that the suite does
        not have at this step is left out.

    Raises:
        PicoLMError: a checkpoint is damaged or lacks a matrix.
    """
    needed = _needed(source, sites, step, there)
    parts = _read(source, sites, needed)
    found: dict[str, Tensor | Factors] = {}
    for site, steps in zip(sites, needed, strict=True):
        made = [site.build(*(parts[at][name] for name in site.parts)) for at in steps]
        if made:
            found[site.label] = made[0] if site.delta is None else difference(made[1], made[0])
    return found


def digests(
    source: Source, sites: Sequence[MatrixSite], step: int, there: Sequence[int] | None = None
) -> dict[str, str]:
    """What tells the content of matrices: the same where a metric of them is the same, wherever they are stored.

    Args:
        source: as `read_matrices`.
        sites: as `read_matrices`.
        step: as `read_matrices`.
        there: as `read_matrices`.

    Returns:
        SHA-256 by label, of the site's name and of the type, shape and bytes of all that it is made of.

    Raises:
        PicoLMError: as `read_matrices`.
    """
    needed = _needed(source, sites, step, there)
    parts = _read(source, sites, needed)
    hashes = {at: {name: digest_of(tensor) for name, tensor in tensors.items()} for at, tensors in parts.items()}
    found: dict[str, str] = {}
    for site, steps in zip(sites, needed, strict=True):
        if steps:
            content = [site.name, *(hashes[at][name] for at in steps for name in site.parts)]
            found[site.label] = hashlib.sha256("\n".join(content).encode()).hexdigest()
    return found


def build_gradients(
    sites: Sequence[MatrixSite], weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> dict[str, Tensor | Factors]:
    """Gradients at sites, from those of stored matrices: of circuits by the product rule (`first_order`).

    Args:
        sites: which; no updates.
        weights: the matrices that circuits are made of, by canonical name.
        gradients: of all matrices that the sites are made of, by canonical name.
    """
    found: dict[str, Tensor | Factors] = {}
    for site in sites:
        assert site.delta is None, "an update has no gradient"
        change = site.build(*(gradients[name] for name in site.parts))
        if isinstance(change, Factors):
            at = site.build(*(weights[name].to(change.left.dtype) for name in site.parts))
            assert isinstance(at, Factors)
            change = first_order(at, change)
        found[site.label] = change
    return found


def _needed(
    source: Source, sites: Sequence[MatrixSite], step: int, there: Sequence[int] | None
) -> list[tuple[int, ...]]:
    """For each site the steps whose matrices it needs, in order; none where it is not there."""
    steps = source.steps if there is None else there
    return [(step,) if site.delta is None else site.delta.steps(step, steps) or () for site in sites]


def _read(source: Source, sites: Sequence[MatrixSite], needed: Sequence[tuple[int, ...]]) -> _Parts:
    names: dict[int, dict[str, None]] = {}
    for site, steps in zip(sites, needed, strict=True):
        for at in steps:
            names.setdefault(at, {}).update(dict.fromkeys(site.parts))
    return {at: source.snapshot(at).read(wanted) for at, wanted in names.items()}
