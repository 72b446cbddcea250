"""Metrics by name: what each takes, gives and means.

A metric is a plain function of tensors; what is here says how to feed it. What needs a whole model (sharpness, a loss
along a line between two checkpoints) is a plain function too, but no `Metric`: no tensor could be handed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from picolm.errors import PicoLMError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Takes = Literal[
    "matrix", "spectrum", "activations", "activation_pair", "matrix_pair", "pattern", "unembedding", "gradients"
]
"""What a metric must be given; all leading dimensions are layers, heads or checkpoints, done at once.

=================  ====================================================================================
`matrix`           weights, a gradient or an update [..., m, n]
`spectrum`         a matrix too, or its `Spectrum`, which is made once for all metrics that take it; that of a product
                   (OV, QK) is made from its factors
`matrix_pair`      the same matrix at this step and at the step compared with, both [..., m, n]
`activations`      [..., n, d], a row for each token
`activation_pair`  the same n tokens at this step [..., n, d] and at the step compared with [..., n, d']
`pattern`          attention probabilities [..., T, T], queries by keys
`unembedding`      the output matrix [..., V, d]
`gradients`        of n examples or micro-batches, flattened [..., n, p]
=================  ====================================================================================
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and what is said about it in tables, on the command line and on figures."""

    name: str
    """In tables and on the command line: `effective_rank`."""
    takes: Takes
    function: Callable[..., Tensor | Mapping[str, Tensor]]
    """A plain function of what it takes, batched over leading dimensions; a mapping gives several values by name."""
    range: tuple[float, float]
    """Within which values lie; NaN stands for what is not defined."""
    summary: str
    """One sentence."""

    @property
    def compares(self) -> bool:
        """Whether it takes two things: of this step, and of the one that it is compared with."""
        return self.takes in ("matrix_pair", "activation_pair")


REGISTRY: dict[str, str] = {
    "mean_cosine": "picolm.analysis.anisotropy:MEAN_COSINE",
    "centred_mean_cosine": "picolm.analysis.anisotropy:CENTRED_MEAN_COSINE",
    "cosine_without_outliers": "picolm.analysis.anisotropy:COSINE_WITHOUT_OUTLIERS",
    "iso_score": "picolm.analysis.anisotropy:ISO_SCORE",
    "attention_entropy": "picolm.analysis.attention:ATTENTION_ENTROPY",
    "sink_mass": "picolm.analysis.attention:SINK_MASS",
    "attended_distance": "picolm.analysis.attention:ATTENDED_DISTANCE",
    "own_and_previous_mass": "picolm.analysis.attention:OWN_AND_PREVIOUS_MASS",
    "head_distance": "picolm.analysis.attention:HEAD_DISTANCE",
    "intrinsic_dimension": "picolm.analysis.dimension:INTRINSIC_DIMENSION",
    "noise_scale": "picolm.analysis.noise:NOISE_SCALE",
    "dormant_units": "picolm.analysis.plasticity:DORMANT_UNITS",
    "relative_change": "picolm.analysis.plasticity:RELATIVE_CHANGE",
    "update_cosine": "picolm.analysis.plasticity:UPDATE_COSINE",
    "effective_rank": "picolm.analysis.rank:EFFECTIVE_RANK",
    "per": "picolm.analysis.rank:PER",
    "stable_rank": "picolm.analysis.rank:STABLE_RANK",
    "participation_ratio": "picolm.analysis.rank:PARTICIPATION_RATIO",
    "srank": "picolm.analysis.rank:SRANK",
    "numerical_rank": "picolm.analysis.rank:NUMERICAL_RANK",
    "per_over_noise": "picolm.analysis.random_matrices:PER_OVER_NOISE",
    "condition_number": "picolm.analysis.conditioning:CONDITION_NUMBER",
    "full_condition_number": "picolm.analysis.conditioning:FULL_CONDITION_NUMBER",
    "frobenius_norm": "picolm.analysis.norms:FROBENIUS_NORM",
    "spectral_norm": "picolm.analysis.norms:SPECTRAL_NORM",
    "nuclear_norm": "picolm.analysis.norms:NUCLEAR_NORM",
    "max_abs": "picolm.analysis.norms:MAX_ABS",
    "power_law": "picolm.analysis.power_law:POWER_LAW",
    "gini": "picolm.analysis.distribution:GINI",
    "hoyer": "picolm.analysis.distribution:HOYER",
    "sparsity": "picolm.analysis.distribution:SPARSITY",
    "rank_me": "picolm.analysis.activation_rank:RANK_ME",
    "activation_participation_ratio": "picolm.analysis.activation_rank:ACTIVATION_PARTICIPATION_RATIO",
    "cka": "picolm.analysis.cka:CKA",
    "biased_cka": "picolm.analysis.cka:BIASED_CKA",
    "biased_cka_chance": "picolm.analysis.chance:BIASED_CKA_CHANCE",
    "rbf_cka": "picolm.analysis.kernel_cka:RBF_CKA",
    "cca": "picolm.analysis.cca:CCA",
    "svcca": "picolm.analysis.cca:SVCCA",
    "pwcca": "picolm.analysis.cca:PWCCA",
    "procrustes": "picolm.analysis.procrustes:PROCRUSTES",
    "rsa": "picolm.analysis.rsa:RSA",
    "mutual_knn": "picolm.analysis.neighbours:MUTUAL_KNN",
    "cknna": "picolm.analysis.neighbours:CKNNA",
}
"""Where each metric stands, as `module:CONSTANT`; loaded when it is asked for."""

FAMILIES: dict[str, str] = {"per_top_": "picolm.analysis.rank:per_of_top"}
"""Metrics whose names end with a number (`per_top_64`): what makes one, as `module:function`."""


def metric(name: str) -> Metric:
    """Look up a metric.

    Args:
        name: one of `REGISTRY`, or of `FAMILIES` with a number behind.

    Raises:
        PicoLMError: there is none of that name; the nearest is named.
    """
    for stem, place in FAMILIES.items():
        number = name.removeprefix(stem)
        if name.startswith(stem) and number.isdecimal() and int(number) > 0:
            module, _, function = place.partition(":")
            made = getattr(import_module(module), function)(int(number))
            assert isinstance(made, Metric) and made.name == name, f"{place} does not make the metric '{name}'"
            return made
    if name not in REGISTRY:
        raise PicoLMError(f"there is no metric '{name}'{nearest(name, REGISTRY)}")
    module, _, constant = REGISTRY[name].partition(":")
    found = getattr(import_module(module), constant)
    assert isinstance(found, Metric) and found.name == name, f"{REGISTRY[name]} is not the metric '{name}'"
    return found
