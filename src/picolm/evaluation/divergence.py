"""How far a model's distributions are from those of n-grams: KL(reference || model) at every position.

A model's logits are h W^T, so the mean logit under a reference p is the product of h with the mean row of W under p,
and with it KL(p || model) = log Z - h (p W) - H(p): exact, although no sum over the vocabulary is made at a position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from picolm.evaluation.ngrams import NGrams


class Divergences:
    """Divergences of the uniform distribution, and of n-grams where there are any.

    Args:
        matrix: the model's output matrix, rows of the tokenizer's vocabulary only, W [V, D].
        references: n-grams of that vocabulary; None: the uniform distribution alone.
        device: where hidden states are.

    Attributes:
        names: of the references, in their order.
    """

    def __init__(self, matrix: Tensor, references: NGrams | None, device: torch.device) -> None:
        dtype = torch.promote_types(matrix.dtype, torch.float32)
        rows = matrix.detach().cpu().double()
        # The mean row under each reference: one for all positions, or one for each token before.
        means, entropies = [rows.mean(0)], [torch.tensor(math.log(len(rows)), dtype=torch.float64)]
        if references is not None:
            unigram = torch.from_numpy(references.unigram)
            means += [unigram @ rows, references.expected_rows(rows)]
            entropies += [-(unigram @ unigram.log()), torch.from_numpy(references.bigram_entropies())]
        self.names = ("uniform", "unigram", "bigram")[: len(means)]
        self._means = [mean.to(device, dtype) for mean in means]
        self._entropies = [entropy.to(device, dtype) for entropy in entropies]

    def at(self, hidden: Tensor, log_z: Tensor, before: Tensor) -> list[Tensor]:
        """KL(reference || model) in nats [N] for each reference.

        Args:
            hidden: states [N, D].
            log_z: log of the sum of exponentials of their logits [N].
            before: the token read last [N].
        """
        found = []
        for mean, entropy in zip(self._means, self._entropies, strict=True):
            own, known = (mean, entropy) if mean.dim() == 1 else (mean[before], entropy[before])
            found.append(log_z - (hidden.to(own.dtype) * own).sum(-1) - known)
        return found
