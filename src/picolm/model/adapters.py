"""Linear layers with something low-rank beside their weight, which keeps its name; and the way back to plain layers.

Shapes in comments and names: O outputs, I inputs, R rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolm.errors import PicoLMError

_ADAPTER = re.compile(r"\.adapter_(?:[ab]\d+|scale)$")
_ROW_NORM = 1 / math.sqrt(3)
"""Expected norm of a row that is uniform in +-1/sqrt(I): other first values of A have the same."""


class AdaptedLinear(nn.Linear):
    """y = x W^T + s dropout(x) A^T B^T + bias, with W [O, I] frozen, A [R, I] and B [O, R] (Hu et al. 2022, LoRA).

    A and B have the rank in their names, because what has another shape is another parameter. They are zero until
    `begin`.
    """

    def __init__(self, base: nn.Linear, rank: int, *, scale: float | None, dropout: float = 0.0) -> None:
        """Put an adapter beside a layer.

        Args:
            base: the layer, whose weight and bias go on to be the same parameters.
            rank: R.
            scale: s; None: tanh of a trained number that begins at 1.
            dropout: probability, on what goes into A.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.weight.requires_grad_(False)
        self.rank, self.dropout, self.fixed_scale = rank, dropout, scale
        self.register_parameter(f"adapter_a{rank}", nn.Parameter(self.weight.new_zeros(rank, self.in_features)))
        self.register_parameter(f"adapter_b{rank}", nn.Parameter(self.weight.new_zeros(self.out_features, rank)))
        if scale is None:
            self.adapter_scale = nn.Parameter(self.weight.new_ones(()))

    @property
    def a(self) -> Tensor:
        """A [R, I]."""
        return cast(Tensor, getattr(self, f"adapter_a{self.rank}"))

    @property
    def b(self) -> Tensor:
        """B [O, R]."""
        return cast(Tensor, getattr(self, f"adapter_b{self.rank}"))

    @property
    def scale(self) -> float | Tensor:
        """s: a number, or a scalar that is trained."""
        return self.adapter_scale.tanh() if self.fixed_scale is None else self.fixed_scale

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """The parameters of the adapter."""
        learned = ("adapter_scale",) if self.fixed_scale is None else ()
        return (f"adapter_a{self.rank}", f"adapter_b{self.rank}", *learned)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., O] for x [..., I]."""
        inner = F.linear(F.dropout(x, self.dropout, self.training), self.a)
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(inner, self.b)

    @torch.no_grad()
    def delta(self) -> Tensor:
        """What the adapter adds to the weight, s B A [O, I]."""
        return self.scale * (self.b @ self.a)

    @torch.no_grad()
    def merge(self, delta: Tensor) -> None:
        """Add to the weight [O, I], in its own precision."""
        self.weight.add_(delta)

    @torch.no_grad()
    def begin(self, a: Tensor) -> None:
        """Begin anew: A as given [R, I], B zero, so that the layer is that of its weight alone."""
        self.a.copy_(a)
        self.b.zero_()
        if self.fixed_scale is None:
            # Not zero: with B = 0 as well neither would have a gradient again.
            self.adapter_scale.fill_(1.0)


class ProjectedLinear(nn.Linear):
    """A plain layer with room for a step within a subspace of its weight; the room is empty whenever the layer runs."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        """Take over a layer; `core` is [R, I] where O <= I, else [O, R]."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        wide = self.out_features <= self.in_features
        shape = (rank, self.in_features) if wide else (self.out_features, rank)
        self.core = nn.Parameter(self.weight.new_zeros(shape))


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The layers with adapters, by path."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, AdaptedLinear)}


def projected_layers(model: nn.Module) -> dict[str, ProjectedLinear]:
    """The layers with a subspace, by path."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, ProjectedLinear)}


def is_adapter(name: str) -> bool:
    """Whether the named parameter is one of an adapter."""
    return _ADAPTER.search(name) is not None


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that can be changed, by path: all linear ones that are called, so not the output matrix."""
    output = getattr(model, "output_matrix", None)
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight is not output
    }


def replace_layers(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put layers in the place of those of the same paths."""
    for path, layer in layers.items():
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)


def plain_layer(layer: nn.Linear) -> nn.Linear:
    """A plain layer with the weight and the bias of another one."""
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain


def merge_adapters(model: nn.Module) -> None:
    """Merge every adapter into its weight, and leave plain layers that are trained again."""
    layers = adapted_layers(model)
    for layer in layers.values():
        layer.merge(layer.delta())
        layer.weight.requires_grad_(True)
    replace_layers(model, {path: plain_layer(layer) for path, layer in layers.items()})


@torch.no_grad()
def first_a(kind: str, layer: AdaptedLinear, generator: torch.Generator, past: Tensor | None = None) -> Tensor:
    """First values of A [R, I], whose rows have about the norm of uniform ones in +-1/sqrt(I).

    ============  ======================================================================================
    kaiming       uniform in +-1/sqrt(I) (He et al. 2015 with a = sqrt 5, as LoRA has it)
    orthogonal    a random orthonormal basis
    weight        the first right singular vectors of W
    complement    a random orthonormal basis of what is orthogonal to the rows of `past`, as far as there is room
    ============  ======================================================================================

    Args:
        kind: one of these.
        layer: whose adapter begins.
        generator: on the CPU.
        past: the change of W so far [O, I], for `complement`; None: none.

    Raises:
        PicoLMError: there are not so many orthogonal directions.
    """
    rank, width = layer.a.shape
    if kind == "kaiming":
        bound = 1 / math.sqrt(width)
        return torch.empty(rank, width).uniform_(-bound, bound, generator=generator)
    if rank > width:
        raise PicoLMError(f"init {kind} needs {rank} orthogonal directions in {width} dimensions: use init=kaiming")
    if kind == "weight":
        if rank > min(layer.weight.shape):
            raise PicoLMError(f"init weight needs {rank} singular vectors of a matrix {list(layer.weight.shape)}")
        basis: Tensor = torch.linalg.svd(layer.weight.double(), full_matrices=False).Vh[:rank]
        return _ROW_NORM * basis
    rows = torch.empty(rank, width, dtype=torch.float64).normal_(generator=generator)
    if kind == "complement" and past is not None:
        _, sizes, vectors = torch.linalg.svd(past.double().cpu(), full_matrices=False)
        # Where the past leaves no room for R more, its least directions are used again.
        used = min(int((sizes > 1e-4 * sizes[0]).sum()), width - rank)
        rows = rows - (rows @ vectors[:used].mT) @ vectors[:used]
    basis = torch.linalg.qr(rows.mT).Q.mT
    return _ROW_NORM * basis
