"""Circuits of an attention head, as pairs of factors: what it moves (OV) and what it looks for (QK).

Elhage et al. (2021), A Mathematical Framework for Transformer Circuits. Of a head h whose key and value head is g:

    OV_h = W_O[:, h] W_V[g]      [D, D], what the token that is looked at adds to the stream, for a weight of 1
    QK_h = W_Q[h]^T W_K[g]       [D, D], x_query^T QK_h x_key is the score before it is divided by sqrt(C)

Both have rank C at most and are kept as factors: their spectra never need the D x D product.

What the products leave out: biases (a value's bias adds one constant vector, those of queries and keys add terms of one
token), gains of the norms in front, and norms of queries and keys. Where positions are rotary, QK is the score at
distance 0; at another distance a rotation stands between the factors. OV has no positions.

Shapes: D model width, C head width, H query heads, K key and value heads, r rank, T positions, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.analysis.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Factors:
    """A matrix as a product that need not be formed."""

    left: Tensor
    """[..., m, r]."""
    right: Tensor
    """[..., r, n]."""

    def product(self) -> Tensor:
        """The matrix itself [..., m, n], in the factors' precision."""
        return self.left @ self.right

    def core(self) -> Tensor:
        """A small matrix with the same singular values, but for zeros, in float64.

        With left = Q_1 R_1 and right^T = Q_2 R_2 it is R_1 R_2^T: orthonormal Q change no singular value. So norms,
        effective rank and all that follows from singular values alone are those of the product.

        Returns:
            [..., min(m, r), min(r, n)]. Cost: O((m + n) r^2).
        """
        _, first = torch.linalg.qr(self.left.to(torch.float64), mode="r")
        _, second = torch.linalg.qr(self.right.mT.to(torch.float64), mode="r")
        core: Tensor = first @ second.mT
        return core


def ov_circuit(v_proj: Tensor, o_proj: Tensor, geometry: Geometry, head: int) -> Factors:
    """What a head moves: W_O[:, h] W_V[g].

    Args:
        v_proj: [..., K C, D].
        o_proj: [..., D, H C].
        geometry: of the model.
        head: h, a query head; those of a group share a value head.

    Returns:
        Factors [..., D, C] and [..., C, D].
    """
    return Factors(o_proj[..., :, _entries(head, geometry)], v_proj[..., _shared(head, geometry), :])


def ov_concatenated(v_proj: Tensor, o_proj: Tensor, geometry: Geometry) -> Factors:
    """All heads of a layer at once, W_O W_V, as in Diehl Martinez et al. (2024): the sum of the heads' OV circuits.

    It is what attention would do if every head looked at the same token. Query heads that share a value head are added
    up first: the product is the same, and its factors say what its rank can be.

    Args:
        v_proj: [..., K C, D].
        o_proj: [..., D, H C].
        geometry: of the model.

    Returns:
        Factors [..., D, K C] and [..., K C, D].
    """
    if geometry.group == 1:
        return Factors(o_proj, v_proj)
    # Sums in half precision would be rounded once more.
    heads = _precise(o_proj).reshape(*o_proj.shape[:-1], geometry.n_kv_heads, geometry.group, geometry.head_dim)
    return Factors(heads.sum(-2).flatten(-2), _precise(v_proj))


def qk_circuit(q_proj: Tensor, k_proj: Tensor, geometry: Geometry, head: int) -> Factors:
    """What a head looks for: W_Q[h]^T W_K[g].

    Args:
        q_proj: [..., H C, D].
        k_proj: [..., K C, D].
        geometry: of the model.
        head: h, a query head; those of a group share a key head.

    Returns:
        Factors [..., D, C] and [..., C, D].
    """
    return Factors(q_proj[..., _entries(head, geometry), :].mT, k_proj[..., _shared(head, geometry), :])


def first_order(at: Factors, change: Factors) -> Factors:
    """How a product changes when its factors do, to first order: dL R + L dR.

    With gradients for changes it is what Diehl Martinez et al. (2024) call the gradient of the OV circuit.

    Args:
        at: the factors L and R.
        change: dL and dR, of the same shapes.

    Returns:
        Factors of twice the rank.
    """
    return Factors(torch.cat([change.left, at.left], dim=-1), torch.cat([at.right, change.right], dim=-2))


def difference(after: Tensor | Factors, before: Tensor | Factors) -> Tensor | Factors:
    """What a matrix has become less what it was, in float32 at least; of factors, factors of twice the rank.

    Args:
        after: a matrix [..., m, n], or one as factors.
        before: the same at another time.
    """
    if isinstance(after, Factors) and isinstance(before, Factors):
        left = torch.cat([_precise(after.left), -_precise(before.left)], dim=-1)
        return Factors(left, torch.cat([_precise(after.right), _precise(before.right)], dim=-2))
    assert isinstance(after, Tensor) and isinstance(before, Tensor)
    return _precise(after) - _precise(before)


def values_through_output(values: Tensor, o_proj: Tensor, geometry: Geometry, head: int | None) -> Tensor:
    """What each token would add to the stream if it were looked at with a weight of 1: its value through W_O.

    No attention is applied and no output bias added, as in Diehl Martinez et al. (2024).

    Args:
        values: activations of `v_proj` [..., K C]; a bias of it is in them.
        o_proj: [D, H C].
        geometry: of the model.
        head: of one query head; None: all heads together.

    Returns:
        [..., D].
    """
    matrix = o_proj.to(values.dtype)
    if head is not None:
        return values[..., _shared(head, geometry)] @ matrix[:, _entries(head, geometry)].mT
    return _repeated(values[..., None], geometry)[..., 0] @ matrix.mT


def _entries(head: int, geometry: Geometry) -> slice:
    """Which of H C entries are a query head's."""
    return slice(head * geometry.head_dim, (head + 1) * geometry.head_dim)


def _shared(head: int, geometry: Geometry) -> slice:
    """Which of K C entries are those of the key and value head that a query head uses."""
    return _entries(head // geometry.group, geometry)


def _repeated(values: Tensor, geometry: Geometry) -> Tensor:
    """[..., K C, n] as [..., H C, n]: each value head once for each query head that uses it."""
    heads = values.reshape(*values.shape[:-2], geometry.n_kv_heads, geometry.head_dim, values.shape[-1])
    return heads.repeat_interleave(geometry.group, dim=-3).flatten(-3, -2)


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
