"""The geometry of a model: the numbers by which its matrices are cut into heads and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from picolm.config import schema
from picolm.errors import PicoLMError


@dataclass(frozen=True, slots=True)
class Geometry:
    """What every source says of its model."""

    architecture: str = field(compare=False)
    """As `config.json` calls it: `llama`, `gpt_neox`, ...; `picolm` where a run says so. One run may have both."""
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    causal: bool
    rotary_dim: int
    """How many entries of each head the rotary positions turn, the first ones; 0: positions are learned vectors."""

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.n_heads // self.n_kv_heads

    def check(self, shapes: Mapping[str, tuple[int, ...]], origin: object) -> None:
        """Compare with the matrices' shapes, so that none is cut at a wrong place.

        Raises:
            PicoLMError: they are of another model.
        """
        expected = {
            "embedding": (self.vocab_size, self.d_model),
            f"layers.{self.n_layers - 1}.attention.q_proj": (self.n_heads * self.head_dim, self.d_model),
            f"layers.{self.n_layers - 1}.attention.k_proj": (self.n_kv_heads * self.head_dim, self.d_model),
            f"layers.{self.n_layers - 1}.attention.v_proj": (self.n_kv_heads * self.head_dim, self.d_model),
            f"layers.{self.n_layers - 1}.attention.o_proj": (self.d_model, self.n_heads * self.head_dim),
        }
        for name, shape in expected.items():
            if name not in shapes:
                raise PicoLMError(f"'{origin}' lacks the matrix '{name}' that its configuration promises")
            if shapes[name] != shape:
                raise PicoLMError(
                    f"'{origin}': '{name}' has shape {list(shapes[name])}, its configuration says {list(shape)}"
                )
        if f"layers.{self.n_layers}.attention.q_proj" in shapes:
            raise PicoLMError(f"'{origin}' has more layers than the {self.n_layers} of its configuration")


def geometry_of(config: schema.Model, architecture: str) -> Geometry:
    """The geometry of a Transformer of ours."""
    assert config.vocab_size is not None
    return Geometry(
        architecture=architecture,
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        causal=config.attention == "causal",
        rotary_dim=config.head_dim,
    )
