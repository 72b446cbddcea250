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
    norms: int
    """Weights of the norms."""

    @property
    def not_embedding(self) -> int:
        """Parameters of the blocks and the last norm."""
        return self.total - self.embedding

    @property
    def hidden_matrices(self) -> int:
        """Parameters of the matrices inside the blocks."""
        return self.not_embedding - self.norms


def count_parameters(model: Model, vocab_size: int) -> ParameterCount:
    """Count the parameters of a Transformer.

    N = (1 or 2) V D + L (2 D^2 + 2 D K C + 3 D F + 2 D [+ 2 C]) + D, with K key heads of width C and inner width F.

    Args:
        model: its configuration.
        vocab_size: rows of the embedding.
    """
    width, head_dim = model.d_model, model.head_dim
    attention = 2 * width * width + 2 * width * model.n_kv_heads * head_dim
    norms = model.n_layers * (2 * width + (2 * head_dim if model.qk_norm else 0)) + width
    matrices = model.n_layers * (attention + 3 * width * model.d_ffn)
    embedding = vocab_size * width * (1 if model.tied else 2)
    return ParameterCount(total=embedding + matrices + norms, embedding=embedding, norms=norms)


def flops_per_token(model: Model, vocab_size: int, length: int) -> int:
    """Floating-point operations to train on one token: forward and backward, matrix products only.

    6 per parameter that multiplies (the embedding is a look-up, the output matrix is a product), and for attention
    12 L T D, or half of it where the mask is causal (Chowdhery et al. 2022, PaLM, appendix B).

    Args:
        model: its configuration.
        vocab_size: rows of the output matrix.
        length: positions per sequence, T.
    """
    products = count_parameters(model, vocab_size).hidden_matrices + vocab_size * model.d_model
    attention = 12 * model.n_layers * length * model.d_model
    return 6 * products + (attention // 2 if model.attention == "causal" else attention)


def activation_bytes(model: Model, n_tokens: int, *, bf16: bool) -> int:
    """What the forward of the Transformer keeps for its backward, without the loss; eager, with fused attention.

    Per token and layer, in numbers: 4 D in float32 (both residual sums, both normed sums) and, in the precision of the
    products, 5 D + 2 K C + 4 F (inputs of the products, queries, keys, values, the attended, the sides of the gate) and
    3 D more in bf16, which casts an input anew for each product; one float32 per head and norm. bf16 also keeps a copy
    of the matrices. With qk-norm, 2 (D + K C) in float32; with dropout, masks of 2 D numbers.

    Args:
        model: its configuration.
        n_tokens: positions of one micro-batch.
        bf16: whether products run in bfloat16.
    """
    width, keys = model.d_model, model.n_kv_heads * model.head_dim
    size = 2 if bf16 else 4
    products = 5 * width + 2 * keys + 4 * model.d_ffn + (3 * width if bf16 else 0)
    layer = 4 * (4 * width + model.n_heads + 2) + size * products
    if model.qk_norm:
        layer += 4 * (2 * (width + keys) + model.n_heads + model.n_kv_heads)
    if model.dropout:
        layer += size * 2 * width
    ends = 4 * (2 * width + 1) + (4 * width if model.dropout else 0)
    copies = 2 * count_parameters(model, vocab_size=0).hidden_matrices if bf16 else 0
    return n_tokens * (model.n_layers * layer + ends) + copies


def backward_bytes(model: Model, n_tokens: int, *, bf16: bool) -> int:
    """Gradients that one block's backward holds at once: those of the gate's four sides and of two residual sums."""
    return n_tokens * (4 * model.d_ffn * (2 if bf16 else 4) + 8 * model.d_model)


# A chunk of logits should stay near the cache of a CPU, and keep a GPU busy. Measured in benchmarks/loss.py.
_CHUNK_BYTES = {"cpu": 2**24}
_CHUNK_BYTES_ELSEWHERE = 2**28
_LEAST_ROWS = 128


def loss_rows(vocab_size: int, width: int, device: str) -> int:
    """How many rows of logits the linear cross-entropy computes at once.

    Every chunk adds V x D numbers to the output matrix's gradient: with fewer rows than D that would outweigh the
    logits.

    Args:
        vocab_size: rows of the output matrix, V.
        width: of the residual stream, D.
        device: `cpu`, or where else the model lives.
    """
    return max(_CHUNK_BYTES.get(device, _CHUNK_BYTES_ELSEWHERE) // (4 * vocab_size), width, _LEAST_ROWS)


def loss_bytes(n_targets: int, vocab_size: int, width: int, *, bf16: bool, device: str) -> int:
    """What the linear cross-entropy holds at once, beside the gradients that stay.

    Whole logits where there is but one chunk: log-probabilities and two gradients of their shape, in float32. Else
    three arrays of a chunk's shape, and two of each gradient's (the sum, and what it is scaled to).

    Args:
        n_targets: scored positions of one micro-batch.
        vocab_size: rows of the output matrix.
        width: of the residual stream.
        bf16: whether the logits, and so their gradient, exist in bfloat16 too.
        device: where the model lives.
    """
    rows = loss_rows(vocab_size, width, device)
    if n_targets <= rows:
        return n_targets * vocab_size * (3 * 4 + (2 if bf16 else 0))
    return 12 * rows * vocab_size + 8 * (vocab_size + n_targets) * width
