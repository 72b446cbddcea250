"""What the patterns of a capture mean in a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from picolm.config import schema
from picolm.model.interface import LanguageModel
from picolm.model.sites import Site, matching, sites_of

_HELD = ".weight"


@dataclass(frozen=True, slots=True)
class Selection:
    """Sites and parameters by name, as they are stored."""

    sites: Mapping[str, Site]
    gradients: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    updates: Mapping[str, Tensor]


def select_stored(
    capture: schema.Capture, model: LanguageModel, groups: Iterable[Mapping[str, Any]], *, strict: bool = True
) -> Selection:
    """Find what a configuration names, as far as it is trained now.

    Args:
        capture: the patterns.
        model: whose sites.
        groups: of the optimizer, with `names` beside `params`.
        strict: whether each pattern must match something, trained or not.

    Raises:
        PicoLMError: a pattern matches nothing.
    """
    sites, trained = sites_of(model), parameters_of(groups)
    parameters = {**dict(model.named_parameters()), **trained}

    def named(key: str, patterns: Sequence[str]) -> dict[str, Tensor]:
        found = matching_parameters(patterns, parameters, key=f"capture.{key}", strict=strict)
        return {name: trained[name] for name in found if name in trained}

    activations = matching(capture.activations, sites, key="capture.activations", strict=strict)
    return Selection(
        sites={name: sites[name] for name in activations},
        gradients=named("gradients", capture.gradients),
        moments=named("moments", capture.moments),
        updates=named("updates", capture.updates),
    )


def parameters_of(groups: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Whatever an optimizer moves, by name."""
    return {name: p for group in groups for name, p in zip(group["names"], group["params"], strict=True)}


def matching_parameters(patterns: Sequence[str], names: Iterable[str], *, key: str, strict: bool = True) -> list[str]:
    """The parameters that any pattern matches; `layers.0.mlp.up_proj` means its `.weight`.

    Raises:
        PicoLMError: a pattern matches nothing.
    """
    by_site = {module_of(name): name for name in names}
    found = matching(
        [module_of(pattern) for pattern in patterns], by_site, key=key, what="trained matrix", strict=strict
    )
    return [by_site[site] for site in found]


def module_of(parameter: str) -> str:
    """The site that a parameter belongs to: the module that holds it."""
    return parameter.removesuffix(_HELD)
