"""`torch.compile`, block by block and in place: names, hooks outside the blocks and the eager twin stay as they are."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import nn

from picolm.errors import PicoLMError


def compile_blocks(blocks: nn.ModuleList) -> None:
    """Compile each block; equal blocks share one compilation.

    The model is the same object with the same parameter names afterwards. Under
    `torch.compiler.set_stance("force_eager")` it runs uncompiled: the eager twin, on which validation and probes run.

    Raises:
        PicoLMError: there is no C++ compiler.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise PicoLMError("training.compile needs a C++ compiler: install g++, or set training.compile=false")
    dynamo: Any = torch._dynamo.config
    # Otherwise a run that meets ever new shapes goes on uncompiled, with a warning that nobody reads.
    dynamo.fail_on_recompile_limit_hit = True
    for block in blocks:
        block.compile(dynamic=False)
