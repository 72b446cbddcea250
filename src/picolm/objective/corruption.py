"""Corrupting tokens that are to be predicted, and gathering what is predicted."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import numpy.typing as npt

from picolm.seams import IGNORE, IntArray

BoolArray = npt.NDArray[np.bool_]
Rates = float | npt.NDArray[np.float64]
"""With which probability a token is chosen: one for all, or one for each."""


class Corruption:
    """Chooses ordinary tokens and puts the mask, a random ordinary token or nothing in their place.

    Args:
        mask_id: the mask token.
        special_ids: tokens that are never chosen nor drawn.
        vocab_size: entries of the tokenizer.
    """

    def __init__(self, *, mask_id: int, special_ids: Set[int], vocab_size: int) -> None:
        self.mask_id = mask_id
        self.ordinary = np.array([token for token in range(vocab_size) if token not in special_ids], dtype=np.int64)
        self.special = np.array(sorted(special_ids), dtype=np.int64)

    def chosen(self, tokens: IntArray, real: BoolArray, rates: Rates, draw: np.random.Generator) -> BoolArray:
        """Which of the tokens of a row are to be predicted, bool [T].

        Args:
            tokens: [T].
            real: which are no padding [T].
            rates: one for all, or [T].
            draw: of the row.
        """
        return (draw.random(len(tokens)) < rates) & real & ~np.isin(tokens, self.special)

    def corrupted(
        self,
        tokens: IntArray,
        chosen: BoolArray,
        draw: np.random.Generator,
        *,
        mask_fraction: float,
        random_fraction: float,
    ) -> IntArray:
        """The row as it is shown, int64 [T]; what is neither masked nor random stays.

        Args:
            tokens: [T].
            chosen: [T].
            draw: the one that has chosen, which goes on.
            mask_fraction: of the chosen ones, how many become the mask token.
            random_fraction: how many become a random ordinary token.
        """
        fate = draw.random(len(tokens))
        random_tokens = self.ordinary[draw.integers(len(self.ordinary), size=len(tokens))]
        masked = fate < mask_fraction
        randomised = ~masked & (fate < mask_fraction + random_fraction)
        return np.where(chosen & masked, self.mask_id, np.where(chosen & randomised, random_tokens, tokens))


def gathered(chosen: BoolArray, wanted: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the chosen places and what is wanted there, left-aligned in [R, P]; `IGNORE` fills up short rows.

    Args:
        chosen: [R, T].
        wanted: [R, T].
    """
    n_chosen = chosen.sum(axis=1)
    # At least one column, so that a row (or a whole view) with nothing chosen still has a shape.
    n_columns = max(int(n_chosen.max(initial=0)), 1)
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :n_columns]
    filled = np.arange(n_columns)[None] < n_chosen[:, None]
    positions = np.where(filled, order, 0).astype(np.int64)
    targets = np.where(filled, np.take_along_axis(wanted, order, axis=1), IGNORE)
    return positions, targets
