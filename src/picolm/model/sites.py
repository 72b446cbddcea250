"""Sites: what can be looked at inside a model, by one name across architectures.

==============================================  ================================================================
`layers.3.mlp.down_proj`, any module's path     its output
`residual.0` ... `residual.L`                   the residual stream: the embedding, then after each block
`hidden`                                        what the model returns: hidden states after the last norm
`layers.3.attention.query`, `.key`, `.value`    what attention mixes by: rotated queries and keys, and values
`layers.3.attention.mixed`                      the mixed values, head by head
`layers.3.attention.pattern`                    the probabilities they were mixed with
==============================================  ================================================================

A pattern matches name by name, part by part: in `layers.*.attention.o_proj` the star is one part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn

from picolm.errors import PicoLMError, nearest
from picolm.model.interface import LanguageModel
from picolm.model.kernel import Kernel

Read = Callable[[nn.Module, tuple[Any, ...], Any], Tensor]
"""(module, its arguments, its output) -> the tensor of a site."""

# Those that only hold others are never called, and those that are called several times in a forward (dropout) or change
# nothing have no output of their own.
_NO_SITES = (nn.ModuleList, nn.ModuleDict, nn.Dropout, nn.Identity, Kernel)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a tensor is seen."""

    path: str
    """The module whose call shows it; the empty path is the model."""
    read: Read
    positions: int = 1
    """Which dimension counts positions (of queries, in a pattern); dimension 0 counts rows."""


def sites_of(model: LanguageModel) -> dict[str, Site]:
    """All sites of a model by name, in the order of its modules."""
    sites: dict[str, Site] = {}
    for path, module in model.named_modules():
        if isinstance(module, Kernel):
            # `layers.3.attention.kernel` shows `layers.3.attention.query`.
            parent = path.rpartition(".")[0]
            sites |= {f"{parent}.{name}": Site(path, read, positions=2) for name, read in _KERNEL.items()}
        elif path and not isinstance(module, _NO_SITES) and not _is_output_matrix(module, model):
            sites[path] = Site(path, _output)
    sites |= {f"residual.{number}": Site(path, _output) for number, path in enumerate(model.residual)}
    return sites | {"hidden": Site("", _output)}


def matching(
    patterns: Iterable[str], names: Collection[str], *, key: str, what: str = "site", strict: bool = True
) -> list[str]:
    """The names that any pattern matches, in the order of `names`.

    Args:
        patterns: dotted, with `*`, `?` and `[...]` inside a part.
        names: what there is.
        key: who asks, for the error.
        what: what the names are, for the error.
        strict: whether each pattern must match something.

    Raises:
        PicoLMError: a pattern matches nothing.
    """
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if _matches(pattern, name)}
        if strict and not matches:
            raise PicoLMError(f"{key}: the model has no {what} '{pattern}'{nearest(pattern, _in_general(names))}")
        found |= matches
    return [name for name in names if name in found]


def layer_of(name: str) -> int | None:
    """The number in a name (`layers.3.mlp`, `residual.3`: 3); None where it has none."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


@contextmanager
def recorded(
    model: LanguageModel, sites: Mapping[str, Site], keep: Callable[[str, Tensor, int], None]
) -> Iterator[None]:
    """Hand each site's tensor to `keep(name, tensor, positions)` while the model runs; nothing is changed or left.

    The tensors are the model's own, still in its graph: detach what is kept. Blocks that are compiled must run under
    `torch.compiler.set_stance("force_eager")`: compiled code knows no hooks.
    """
    with ExitStack() as stack:
        for name, site in sites.items():
            hook = model.get_submodule(site.path).register_forward_hook(partial(_show, keep, name, site))
            stack.callback(hook.remove)
        yield


def _is_output_matrix(module: nn.Module, model: LanguageModel) -> bool:
    # Losses multiply by it; the module that holds it is never called.
    return isinstance(module, nn.Linear) and module.weight is model.output_matrix


def _show(
    keep: Callable[[str, Tensor, int], None],
    name: str,
    site: Site,
    module: nn.Module,
    arguments: tuple[Any, ...],
    output: Any,
) -> None:
    keep(name, site.read(module, arguments, output), site.positions)


def _output(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
    assert isinstance(output, Tensor), f"{type(module).__name__} returns no tensor, so it is no site"
    return output


def _argument(place: int, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
    tensor: Tensor = arguments[place]
    return tensor


def _pattern(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
    assert isinstance(module, Kernel)
    query, key, _, key_mask, mix = arguments
    return module.pattern(query, key, key_mask, mix)


_KERNEL: dict[str, Read] = {
    "query": partial(_argument, 0),
    "key": partial(_argument, 1),
    "value": partial(_argument, 2),
    "mixed": _output,
    "pattern": _pattern,
}


def _matches(pattern: str, name: str) -> bool:
    wanted, parts = pattern.split("."), name.split(".")
    return len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))


def _in_general(names: Iterable[str]) -> list[str]:
    """The names with stars for numbers: a dozen to choose from, not hundreds."""
    return sorted({".".join("*" if part.isdecimal() else part for part in name.split(".")) for name in names})
