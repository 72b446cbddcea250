"""Plans of an analysis: which metrics at which sites, from names and patterns.

===================  ===========================================================================================
`PATTERN`            weights for metrics of a matrix, activations for metrics of activations, probabilities of
                     attention for metrics of a pattern, the output matrix for metrics of it
`delta(PATTERN; A)`  realised updates of weights
`gradient(PATTERN)`  gradients of weights: those that were captured, or on a probe
===================  ===========================================================================================

A pattern serves each metric that takes something it matches; one that serves no metric is an error, and so is a metric
without a site.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from picolm.analysis.metric import REGISTRY, Metric, metric
from picolm.analysis.sites import ActivationSite, MatrixSite, head_of, select_matrices
from picolm.analysis.updates import parse_delta
from picolm.errors import PicoLMError, nearest
from picolm.model.sites import matching

Site = TypeVar("Site")
_GRADIENT = re.compile(r"gradient\((.*)\)")
_OF_MATRICES = ("matrix", "spectrum", "matrix_pair")
_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class There:
    """What can be measured in a suite.

    Attributes:
        matrices: weights by name.
        gradients: names of the weights whose gradients can be had.
        activations: by name.
        hint: how more of the last two would be there, for errors.
    """

    matrices: Mapping[str, MatrixSite]
    gradients: Sequence[str]
    activations: Mapping[str, ActivationSite]
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Metrics by site; each site is read once for all of its metrics.

    Attributes:
        weights: of matrices as they stand, and of updates.
        gradients: of gradients.
        activations: of activations and attention patterns.
    """

    weights: Mapping[MatrixSite, tuple[Metric, ...]]
    gradients: Mapping[MatrixSite, tuple[Metric, ...]]
    activations: Mapping[ActivationSite, tuple[Metric, ...]]

    @property
    def needs_probe(self) -> bool:
        """Whether anything depends on what the model is shown."""
        return bool(self.gradients or self.activations)

    @property
    def compares(self) -> bool:
        """Whether any metric is one of pairs."""
        return self.compares_matrices or any(one.compares for of in self.activations.values() for one in of)

    @property
    def compares_matrices(self) -> bool:
        """Whether any metric is one of pairs of matrices."""
        return any(one.compares for of in (*self.weights.values(), *self.gradients.values()) for one in of)

    @property
    def has_heads(self) -> bool:
        """Whether any site is made from several matrices, as circuits of heads are."""
        made = any(len(site.parts) > 1 for site in (*self.weights, *self.gradients))
        return made or any(site.weights for site in self.activations)

    @property
    def n_sites(self) -> int:
        """How many sites are looked at."""
        return len(self.weights) + len(self.gradients) + len(self.activations)

    @property
    def described(self) -> dict[str, list[str]]:
        """Names of metrics by site, in the order in which they are measured."""
        found = {site.label: names_of(metrics) for site, metrics in self.weights.items()}
        found |= {gradient_label(site): names_of(metrics) for site, metrics in self.gradients.items()}
        # A module's path names its weights and its output.
        return found | {f"activation {site.name}": names_of(metrics) for site, metrics in self.activations.items()}


def asks_for_probe(metrics: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether anything that is asked for depends on what the model is shown.

    Raises:
        PicoLMError: there is no such metric.
    """
    takes = {metric(name).takes for name in metrics}
    shown = {"activations", "activation_pair", "pattern", "gradients"}
    return bool(takes & shown) or any(_gradient_pattern(pattern) is not None for pattern in patterns)


def make_plan(metrics: Sequence[str], patterns: Sequence[str], there: There, *, strict: bool = True) -> Plan:
    """Find the sites of each metric.

    Args:
        metrics: names; none twice.
        patterns: as this module says.
        there: what the suite has.
        strict: whether each metric must have a site, and each pattern serve a metric.

    Raises:
        PicoLMError: there is no such metric, a metric has no site that it can take, or a pattern serves none.
    """
    if not metrics:
        raise PicoLMError(f"name at least one metric, for example effective_rank; there are: {', '.join(REGISTRY)}")
    if not patterns:
        raise PicoLMError(f"name at least one site, for example {_examples(there.matrices)}")
    asked = [metric(name) for name in dict.fromkeys(metrics)]
    plan = Plan(
        _by_site(asked, lambda one: _weights_for(one, patterns, there)),
        _by_site(asked, lambda one: _gradients_for(one, patterns, there)),
        _by_site(asked, lambda one: _activations_for(one, patterns, there)),
    )
    if not strict:
        return plan
    served = {one.name for of in (plan.weights, plan.gradients, plan.activations) for m in of.values() for one in m}
    # A pattern that matches nothing at all explains a metric without a site better than the metric does.
    for pattern in patterns:
        _refuse_unknown(pattern, there)
    for one in asked:
        if one.name not in served:
            raise PicoLMError(_without_site(one, there))
    for pattern in patterns:
        if not any(_serves(one, pattern, there) for one in asked):
            takes = ", ".join(f"{one.name} takes {_TAKES[one.takes][0]}" for one in asked)
            raise PicoLMError(f"site '{pattern}' serves none of the metrics: {takes}")
    return plan


def gradient_label(site: MatrixSite) -> str:
    """What the gradient of a site is called in tables."""
    return f"gradient({site.name})"


def names_of(metrics: Sequence[Metric]) -> list[str]:
    """Names of metrics."""
    return [one.name for one in metrics]


def _by_site(asked: Sequence[Metric], of: Callable[[Metric], Sequence[Site]]) -> dict[Site, tuple[Metric, ...]]:
    found: dict[Site, tuple[Metric, ...]] = {}
    for one in asked:
        for site in of(one):
            found[site] = (*found.get(site, ()), one)
    return found


def _serves(one: Metric, pattern: str, there: There) -> bool:
    finders = (_weights_for, _gradients_for, _activations_for)
    return any(find(one, [pattern], there) for find in finders)


def _weights_for(one: Metric, patterns: Sequence[str], there: There) -> list[MatrixSite]:
    plain = [pattern for pattern in patterns if _gradient_pattern(pattern) is None]
    if one.takes == "unembedding":
        # Not its updates: what it takes is a matrix that predicts.
        plain = [pattern for pattern in plain if parse_delta(pattern) is None]
        return [site for site in _matrices(plain, there) if site.name == "unembedding"]
    return _matrices(plain, there) if one.takes in _OF_MATRICES else []


def _matrices(patterns: Sequence[str], there: There) -> list[MatrixSite]:
    known = [p for p in patterns if matching([_inner(p)], there.matrices, key="sites", strict=False)]
    return select_matrices(known, there.matrices, key="sites")


def _gradients_for(one: Metric, patterns: Sequence[str], there: There) -> list[MatrixSite]:
    if one.takes not in (*_OF_MATRICES, "gradients"):
        return []
    inner = [found for pattern in patterns if (found := _gradient_pattern(pattern)) is not None]
    names = matching(inner, there.gradients, key="sites", strict=False)
    sites = [there.matrices[name] for name in names]
    # A circuit's gradient follows from two matrices' and is that of no parameter: it has no noise of its own.
    return [site for site in sites if one.takes != "gradients" or site.parts == (site.name,)]


def _activations_for(one: Metric, patterns: Sequence[str], there: There) -> list[ActivationSite]:
    if one.takes not in ("activations", "activation_pair", "pattern"):
        return []
    names = matching(patterns, there.activations, key="sites", strict=False)
    return [there.activations[name] for name in names if is_pattern(name) == (one.takes == "pattern")]


def is_pattern(name: str) -> bool:
    """Whether an activation is one of attention's probabilities."""
    return name.endswith(".attention.pattern")


def _gradient_pattern(pattern: str) -> str | None:
    match = _GRADIENT.fullmatch(pattern.strip())
    return None if match is None else match[1].strip()


def _inner(pattern: str) -> str:
    parsed = parse_delta(pattern)
    return pattern if parsed is None else parsed[0]


def _refuse_unknown(pattern: str, there: There) -> None:
    gradient = _gradient_pattern(pattern)
    if gradient is not None:
        if not matching([gradient], there.gradients, key="sites", strict=False):
            matching([gradient], there.matrices, key="sites", what="matrix")
            raise PicoLMError(f"there is no gradient of '{gradient}'{there.hint}")
        return
    inner = _inner(pattern)
    names = [*there.matrices, *(() if inner != pattern else there.activations)]
    if not matching([inner], names, key="sites", strict=False):
        raise PicoLMError(f"there is no site '{inner}'{nearest(inner, starred(names))}{there.hint}")


_TAKES = {
    "matrix": ("matrices", "layers.*.attention.o_proj"),
    "spectrum": ("matrices", "layers.*.attention.o_proj"),
    "matrix_pair": ("matrices", "layers.*.attention.o_proj"),
    "activations": ("activations", "residual.*"),
    "activation_pair": ("activations", "residual.*"),
    "pattern": ("probabilities of attention", "layers.*.attention.pattern"),
    "unembedding": ("the output matrix", "unembedding"),
    "gradients": ("gradients of weights", "gradient(layers.*.attention.o_proj)"),
}


def _without_site(one: Metric, there: There) -> str:
    what, example = _TAKES[one.takes]
    own = {name: None for name in there.activations if is_pattern(name) == (one.takes == "pattern")}
    found = _examples(own) if one.takes in ("activations", "activation_pair", "pattern") else example
    sentence = f"metric '{one.name}' takes {what}, and no site that was named is one; for example {found or example}"
    return sentence if found else sentence + there.hint


def _examples(names: Mapping[str, object]) -> str:
    return ", ".join(starred(names)[:_EXAMPLES])


def starred(names: Mapping[str, object] | Sequence[str]) -> list[str]:
    """The names with stars for numbers, heads' circuits last."""
    general = {".".join("*" if part.isdecimal() else part for part in name.split(".")): name for name in names}
    return sorted(general, key=lambda name: (head_of(general[name]) is not None, name))
