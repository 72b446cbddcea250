"""Recipes of a convergence analysis: how alike, how settled and how large a rank is said to be.

Diehl Martinez, Lesci & Buttery 2024 (arXiv 2410.11451) compare what each layer writes to the residual stream with what
it writes at the end of training. The published recipe is theirs; the corrected one asks the same with estimators that
do not depend on the width of the model or the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from picolm.analysis.geometry import Geometry
from picolm.errors import PicoLMError, nearest


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is measured, and what counts as settled.

    Attributes:
        name: on the command line and in tables.
        similarity: the metric whose curve settles.
        level: at or above which it must stay.
        early_share: the share of training at which a layer is early or not (`published`); None: none is.
    """

    name: str
    similarity: str
    level: float
    early_share: float | None = None

    def rank(self, geometry: Geometry) -> str:
        """The metric of rank that convergence is set beside."""
        return "per_over_noise" if self.early_share is None else f"per_top_{geometry.head_dim}"

    def metrics(self, geometry: Geometry) -> list[str]:
        """All that is measured; the chance level of the biased similarity is beside it in either recipe."""
        similarities = dict.fromkeys([self.similarity, "biased_cka", "biased_cka_chance"])
        return [*similarities, *dict.fromkeys(["per", self.rank(geometry)])]


RECIPES = {
    "corrected": Recipe("corrected", "cka", 0.9),
    # 13,000 of 143,000 steps.
    "published": Recipe("published", "biased_cka", 0.45, early_share=13 / 143),
}
HIGH_WEIGHT_PER = 0.95
"""Published: a layer whose weights' PER at the end is at least this has a high rank."""
HIGH_GRADIENT_SHARE = 0.9
"""Published: so has one whose gradient's PER at the end is at least this share of the best layer's."""


def recipe(name: str) -> Recipe:
    """Look up a recipe.

    Raises:
        PicoLMError: there is none of that name; the nearest is named.
    """
    if name not in RECIPES:
        raise PicoLMError(f"there is no recipe '{name}'{nearest(name, RECIPES)}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
