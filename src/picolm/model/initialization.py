"""Initial values: every parameter is drawn by (seed, its name), so adding a module changes no other's values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.model.interface import LanguageModel
from picolm.model.transformer import Transformer
from picolm.randomness import derive_seed

RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight")


def build_model(config: schema.Model, seed: int) -> Transformer:
    """Make a Transformer with initial values drawn from `seed` (on the CPU, so they are the same for every device)."""
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    initialize(model, config, seed)
    return model


def initialize(model: LanguageModel, config: schema.Model, seed: int) -> None:
    """Draw every parameter anew.

    ==============  ============  ==============================  =================
    scheme          norms         embedding                       other matrices
    ==============  ============  ==============================  =================
    depth_scaled    1             N(0, std)                       N(0, std), residual outputs N(0, std / sqrt(2 L))
    pico            1             N(0, 1)                         U(-1/sqrt(fan_in), 1/sqrt(fan_in))
    ==============  ============  ==============================  =================

    Sources: Radford et al. 2019 (GPT-2) for the depth scaling; PyTorch's defaults, which pico-train keeps, for pico.
    """
    for name, parameter in model.named_parameters():
        role = model.role(name)
        if role == "norm":
            nn.init.ones_(parameter)
            continue
        generator = torch.Generator().manual_seed(derive_seed(seed, "init", name))
        if config.init.scheme == "pico":
            _draw_pico(parameter, role == "embedding", generator)
        else:
            residual = name.endswith(RESIDUAL_OUTPUTS)
            std = config.init.std / math.sqrt(2 * config.n_layers) if residual else config.init.std
            nn.init.normal_(parameter, std=std, generator=generator)


def _draw_pico(parameter: Tensor, is_embedding: bool, generator: torch.Generator) -> None:
    if is_embedding:
        nn.init.normal_(parameter, generator=generator)
    else:
        bound = 1 / math.sqrt(parameter.shape[1])
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
