"""Sites of the analysis: which matrices and activations can be asked for, stored ones and those derived from them.

==============================================  =====================================================================
`layers.3.attention.o_proj`, `embedding`, ...   a stored matrix, under its canonical name
`layers.3.attention.ov.5`, `.qk.5`              the circuits of a head (`circuits`)
`layers.3.attention.ov_concatenated`            all OV circuits of a layer, as the published recipe has them
`delta(SITE; A, B)`                             the realised update of any of these (`updates`)
==============================================  =====================================================================

As activations, `ov.5` and `ov_concatenated` are values through the output matrix. `ov.*` is every head and not the
layer: the two are not to be pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from picolm.analysis.circuits import Factors, ov_circuit, ov_concatenated, qk_circuit, values_through_output
from picolm.analysis.geometry import Geometry
from picolm.analysis.updates import Delta, parse_delta
from picolm.model.sites import layer_of, matching

_CIRCUITS = (".ov", ".qk")


@dataclass(frozen=True, slots=True)
class MatrixSite:
    """A matrix, and the stored ones that it is made of."""

    name: str
    parts: tuple[str, ...]
    """Canonical names of stored matrices."""
    build: Callable[..., Tensor | Factors]
    """Takes the parts, in order."""
    delta: Delta | None = None
    """Between which steps it is compared; None: it is looked at as it stands."""

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.name if self.delta is None else self.delta.name(self.name)

    @property
    def layer(self) -> int | None:
        """In which layer it is; None: in none."""
        return layer_of(self.name)

    @property
    def head(self) -> int | None:
        """Which head's circuit it is; None: it is no single head's."""
        return head_of(self.name)


@dataclass(frozen=True, slots=True)
class ActivationSite:
    """An activation, and what it is made of."""

    name: str
    part: str
    """The activation that must be seen, by canonical name."""
    weights: tuple[str, ...]
    """Canonical names of the stored matrices that are needed besides."""
    build: Callable[..., Tensor]
    """Takes the activation, then the matrices, in order."""


def head_of(name: str) -> int | None:
    """The head that the name of a circuit ends with (`layers.3.attention.ov.5`: 5); None where it ends otherwise."""
    stem, _, number = name.rpartition(".")
    return int(number) if number.isdecimal() and stem.endswith(_CIRCUITS) else None


def matrix_sites(shapes: Mapping[str, tuple[int, ...]], geometry: Geometry) -> dict[str, MatrixSite]:
    """All matrices that a snapshot has, by name: the stored ones, then the circuits.

    Args:
        shapes: of a snapshot; vectors are no matrices.
        geometry: of the snapshot.
    """
    sites = {name: MatrixSite(name, (name,), _itself) for name, shape in shapes.items() if len(shape) == 2}
    for at in _attentions(geometry):
        query, key, value, output = (f"{at}.{letter}_proj" for letter in "qkvo")
        for head in range(geometry.n_heads):
            ov, qk = f"{at}.ov.{head}", f"{at}.qk.{head}"
            sites[ov] = MatrixSite(ov, (value, output), partial(ov_circuit, geometry=geometry, head=head))
            sites[qk] = MatrixSite(qk, (query, key), partial(qk_circuit, geometry=geometry, head=head))
        whole = f"{at}.ov_concatenated"
        sites[whole] = MatrixSite(whole, (value, output), partial(ov_concatenated, geometry=geometry))
    return sites


def activation_sites(names: Collection[str], geometry: Geometry) -> dict[str, ActivationSite]:
    """All activations that can be had, by name: those that can be seen, then what follows from them.

    Args:
        names: what can be seen (`Subject.sites`), or was (`Capture.names`).
        geometry: of the model.
    """
    sites = {name: ActivationSite(name, name, (), _seen) for name in names}
    for at in _attentions(geometry):
        if f"{at}.v_proj" in names:
            derived = {f"{at}.ov.{head}": head for head in range(geometry.n_heads)} | {f"{at}.ov_concatenated": None}
            for name, head in derived.items():
                build = partial(values_through_output, geometry=geometry, head=head)
                sites[name] = ActivationSite(name, f"{at}.v_proj", (f"{at}.o_proj",), build)
    return sites


def select_matrices(patterns: Iterable[str], sites: Mapping[str, MatrixSite], *, key: str) -> list[MatrixSite]:
    """The matrices that patterns name, plain ones and updates, in the order of the patterns, none twice.

    Args:
        patterns: as `model.sites.matching` has them, or `delta(PATTERN; A, B)`.
        sites: what there is (`matrix_sites`).
        key: who asks, for errors.

    Raises:
        PicoLMError: a pattern matches nothing, or an update is written in no known way.
    """
    found: dict[str, MatrixSite] = {}
    for pattern in patterns:
        parsed = parse_delta(pattern)
        plain, delta = (pattern, None) if parsed is None else parsed
        for name in matching([plain], sites, key=key, what="matrix"):
            site = MatrixSite(name, sites[name].parts, sites[name].build, delta)
            found.setdefault(site.label, site)
    return list(found.values())


def select_activations(
    patterns: Iterable[str], sites: Mapping[str, ActivationSite], *, key: str
) -> list[ActivationSite]:
    """The activations that patterns name, in the order of `sites`.

    Args:
        patterns: as `model.sites.matching` has them.
        sites: what there is (`activation_sites`).
        key: who asks, for errors.

    Raises:
        PicoLMError: a pattern matches nothing.
    """
    return [sites[name] for name in matching(patterns, sites, key=key, what="activation")]


def _attentions(geometry: Geometry) -> list[str]:
    return [f"layers.{layer}.attention" for layer in range(geometry.n_layers)]


def _itself(matrix: Tensor) -> Tensor:
    return matrix


def _seen(activation: Tensor) -> Tensor:
    return activation
