"""How large a model is and what it costs, from its configuration alone (nothing here loads torch)."""

from __future__ import annotations

from dataclasses import dataclass

from picolm.config.schema import Model


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of parameters."""

    total: int
    embedding: int
    """Rows of the embedding and, where it is not tied, of the output matrix."""

    @property
    def not_embedding(self) -> int:
        """Parameters of the blocks and the last norm."""
        return self.total - self.embedding


def count_parameters(model: Model, vocab_size: int) -> ParameterCount:
    """Count the parameters of a Transformer.

    N = (1 or 2) V D + L (2 D^2 + 2 D K C + 3 D F + 2 D [+ 2 C]) + D, with K key heads of width C and inner width F.

    Args:
        model: its configuration.
        vocab_size: rows of the embedding.
    """
    width, head_dim = model.d_model, model.head_dim
    attention = 2 * width * width + 2 * width * model.n_kv_heads * head_dim
    norms = 2 * width + (2 * head_dim if model.qk_norm else 0)
    blocks = model.n_layers * (attention + 3 * width * model.d_ffn + norms)
    embedding = vocab_size * width * (1 if model.tied else 2)
    return ParameterCount(total=embedding + blocks + width, embedding=embedding)


def flops_per_token(model: Model, vocab_size: int, length: int) -> int:
    """Floating-point operations to train on one token: forward and backward, matrix products only.

    6 per parameter that multiplies (the embedding is a look-up, the output matrix is a product), and for attention
    12 L T D, or half of it where the mask is causal (Chowdhery et al. 2022, PaLM, appendix B).

    Args:
        model: its configuration.
        vocab_size: rows of the output matrix.
        length: positions per sequence, T.
    """
    norms = model.n_layers * 2 * (model.d_model + (model.head_dim if model.qk_norm else 0)) + model.d_model
    products = count_parameters(model, vocab_size).not_embedding - norms + vocab_size * model.d_model
    attention = 12 * model.n_layers * length * model.d_model
    return 6 * products + (attention // 2 if model.attention == "causal" else attention)
