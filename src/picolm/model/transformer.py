"""The Transformer: pre-norm, RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.

Causal, it is Llama (with qk-norm: Qwen3); bidirectional, it is EuroBERT. Shapes in comments and names:
B batch, T positions, D width, H query heads, K key/value heads, C head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolm.config import schema
from picolm.model.cache import KeyValueCache
from picolm.model.interface import LanguageModel, Role
from picolm.model.kernel import Kernel, Mix
from picolm.model.prefix import Prefix
from picolm.model.segments import Segments
from picolm.model.trees import Trees

Rotation = tuple[Tensor, Tensor]
Features = Mapping[str, Tensor]


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight, over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x, computed and given in the weight's precision also where x has less."""
        return F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)


def rotation(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> Rotation:
    """Cosines and sines of the rotary embedding (Su et al. 2021), at least in float32.

    Args:
        positions: [T], or [B, T] where rows differ.
        head_dim: width of a head, C.
        theta: base of the frequencies.
        dtype: precision of the model.

    Returns:
        Two tensors [T, C/2] or [B, 1, T, C/2].
    """
    precise = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, head_dim, 2, device=positions.device).to(precise) / head_dim
    angles = positions[..., None].to(precise) * theta**-exponents
    if positions.dim() == 2:
        angles = angles[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: Rotation) -> Tensor:
    """Rotate each pair (x[..., i], x[..., i + C/2]) by its position's angle: the half-split layout of Hugging Face."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023)."""

    def __init__(self, config: schema.Model) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        kv_width = config.n_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.k_proj = nn.Linear(config.d_model, kv_width, bias=False)
        self.v_proj = nn.Linear(config.d_model, kv_width, bias=False)
        self.o_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.kernel = Kernel(causal=config.attention == "causal")

    def forward(self, x: Tensor, rotary: Rotation, key_mask: Tensor | None, mix: Mix | None = None) -> Tensor:
        """Return the attended values [B, T, D]; `key_mask` [B, 1, 1, T] is True where a key may be looked at."""
        batch, length, width = x.shape
        query = self.q_norm(self.q_proj(x).view(batch, length, self.n_heads, self.head_dim)).transpose(1, 2)
        key = self.k_norm(self.k_proj(x).view(batch, length, self.n_kv_heads, self.head_dim)).transpose(1, 2)
        value = self.v_proj(x).view(batch, length, self.n_kv_heads, self.head_dim).transpose(1, 2)
        # Angles are at least float32, so under bf16 the rotation is exact and its result is rounded once.
        query, key = rotate(query, rotary).to(value.dtype), rotate(key, rotary).to(value.dtype)
        mixed = self.kernel(query, key, value, key_mask, mix)
        attended: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return attended


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: schema.Model) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ffn, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.d_ffn, bias=False)
        self.down_proj = nn.Linear(config.d_ffn, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, D] for x [B, T, D]."""
        projected: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return projected


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: schema.Model) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotary: Rotation,
        key_mask: Tensor | None,
        mix: Mix | None = None,
        features: Features | None = None,
    ) -> Tensor:
        """Return the residual stream [B, T, D] after this block; `features` are for blocks of other classes."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, key_mask, mix))
        x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return x


class Transformer(LanguageModel):
    """A causal or bidirectional Transformer; `config.vocab_size` must be a number by now."""

    def __init__(self, config: schema.Model) -> None:
        super().__init__()
        assert config.vocab_size is not None
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.output_norm = RMSNorm(config.d_model, config.norm_eps)
        self.unembedding = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers."""
        return self.layers

    @property
    def residual(self) -> tuple[str, ...]:
        """The embedding after its dropout, then each block."""
        return ("dropout", *(f"layers.{number}" for number in range(self.config.n_layers)))

    @property
    def output_matrix(self) -> Tensor:
        """The unembedding [V, D]: the embedding itself where the two are tied."""
        matrix: Tensor = self.embedding.weight if self.unembedding is None else self.unembedding.weight
        return matrix

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        parents: Tensor | None = None,
        prefix: Tensor | None = None,
        features: Features | None = None,
    ) -> Tensor:
        """Return hidden states [B, T, D] after the last norm (see `LanguageModel.forward`).

        With a `cache`: the beginnings of its rows at first, whose lengths it knows, then one token each. With
        `documents`, numbers [B, T] on the host: attention and positions begin anew where the number changes; padding
        has a number of its own, so no mask is needed. With `parents`: see `Trees`; with `prefix` [B]: see `Prefix`.
        """
        if cache is not None:
            assert attention_mask is None and documents is None and self.config.attention == "causal"
            mixes = [partial(cache.attend, number) for number in range(self.config.n_layers)]
            hidden = self._hidden(input_ids, cache.begin(input_ids), mixes=mixes, features=features)
            cache.end()
            return hidden
        if parents is not None:
            assert attention_mask is None and documents is None and self.config.attention == "causal"
            trees = Trees(parents, device=input_ids.device)
            mixed: list[Mix] = [trees] * self.config.n_layers
            return self._hidden(input_ids, trees.positions, mixes=mixed, features=features)
        if documents is not None:
            assert attention_mask is None
            segments = Segments(documents, causal=self.config.attention == "causal", device=input_ids.device)
            within: list[Mix] = [segments] * self.config.n_layers
            return self._hidden(input_ids, segments.positions, mixes=within, features=features)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        if prefix is not None:
            assert attention_mask is None
            seen: list[Mix] = [Prefix(prefix, input_ids.shape[1])] * self.config.n_layers
            return self._hidden(input_ids, positions, mixes=seen, features=features)
        if attention_mask is None:
            return self._hidden(input_ids, positions, features=features)
        if self.config.attention == "bidirectional":
            return self._hidden(input_ids, positions, key_mask=attention_mask[:, None, None, :], features=features)
        # Moved behind the real tokens, padding is hidden by causality alone: no T x T mask is needed. Each token keeps
        # its own position, so a gap inside a row counts as in any other implementation.
        order = attention_mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        moved = None if features is None else {name: _in_order(tensor, order) for name, tensor in features.items()}
        hidden = self._hidden(input_ids.gather(1, order), order, features=moved)
        return torch.empty_like(hidden).scatter(1, order[..., None].expand_as(hidden), hidden)

    def _hidden(
        self,
        input_ids: Tensor,
        positions: Tensor,
        *,
        key_mask: Tensor | None = None,
        mixes: Sequence[Mix] | None = None,
        features: Features | None = None,
    ) -> Tensor:
        x = self.dropout(self.embedding(input_ids))
        rotary = rotation(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        for number, block in enumerate(self.layers):
            x = block(x, rotary, key_mask, None if mixes is None else mixes[number], features)
        normed: Tensor = self.output_norm(x)
        return normed

    def role(self, name: str) -> Role:
        """What the named parameter is; a tied matrix counts as an embedding, an untied output matrix as a matrix."""
        if name == "embedding.weight":
            return "embedding"
        return "norm" if name.rpartition(".")[0].endswith("norm") else "matrix"


def _in_order(feature: Tensor, order: Tensor) -> Tensor:
    """A feature [B, T, ...] with its positions in another order [B, T]; one for whole rows [B] stays as it is."""
    if feature.dim() == 1:
        return feature
    return feature.gather(1, order.view(*order.shape, *(1 for _ in feature.shape[2:])).expand_as(feature))
