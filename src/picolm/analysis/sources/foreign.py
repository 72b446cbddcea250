"""Models that only `transformers` computes, as subjects: GPT-NeoX, GPT-2, BERT, RoBERTa, and Llamas that ours is not.

The classes are those of the installed `transformers`; no code of a checkpoint is run. The weights come through the
same readers and names as everywhere else, in float32, and attention is computed eagerly, so that patterns are seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from picolm.analysis.geometry import Geometry
from picolm.analysis.naming import Slot
from picolm.analysis.probe import Probe
from picolm.analysis.sources.architectures import Architecture, slots_of
from picolm.analysis.sources.own import by_head
from picolm.analysis.sources.store import Store
from picolm.analysis.subject import Keep, Subject
from picolm.errors import PicoLMError

_Read = Callable[[tuple[Any, ...], Mapping[str, Any], Any], Tensor]
"""(a module's arguments, its named arguments, its output) -> an activation."""

_LAYER = re.compile(r"(.+?\.\d+)\.")
_HEAD = ("head.", "unembedding")
# What these modules give is not seen by every token of every row, or not while hidden states are made.
_NO_SITES = ("position_embedding", "segment_embedding", *_HEAD)


class ForeignSubject(Subject):
    """A model of `transformers` for causal or masked language modelling, with eager attention."""

    def __init__(
        self, module: nn.Module, architecture: Architecture, geometry: Geometry, *, predicts: bool = True
    ) -> None:
        """Take a model in float32 or more, on the host.

        Args:
            module: the model.
            architecture: how its parameters are named.
            geometry: how its heads are cut.
            predicts: whether its head is trained; one that was not stored predicts nothing.
        """
        self.module, self.geometry, self._predicts = module, geometry, predicts
        self._base = architecture.prefix.removesuffix(".")
        (self._head,) = (child for name, child in module.named_children() if name != self._base)
        # Not without duplicates: a tied matrix has two names.
        names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
        self._slots = slots_of(names, architecture, geometry, tied=False)
        self._sites = dict(_sites(self._slots, geometry, self._base))

    @property
    def sites(self) -> Collection[str]:
        """As `Subject.sites`."""
        return self._sites

    @property
    def slots(self) -> Mapping[str, Slot]:
        """As `Subject.slots`."""
        return self._slots

    @contextmanager
    def recorded(self, names: Sequence[str], keep: Keep) -> Iterator[None]:
        """As `Subject.recorded`."""

        def show(name: str, read: _Read, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            keep(name, read(args, kwargs, output))

        with ExitStack() as stack:
            for name in names:
                path, read = self._sites[name]
                seen = self.module.get_submodule(path)
                stack.callback(seen.register_forward_hook(partial(show, name, read), with_kwargs=True).remove)
            yield

    def hidden(self, rows: Probe) -> Tensor:
        """As `Subject.hidden`."""
        if rows.documents is not None:
            raise PicoLMError("attention within documents is computed for PicoLM's own models only")
        # Left out, the mask would be guessed by some classes from their padding token.
        real = rows.real.to(torch.int64)
        try:
            output = self.module.get_submodule(self._base)(rows.input_ids, attention_mask=real)
        # Of an embedding; the tokens themselves are known to be in the vocabulary.
        except IndexError:
            length = rows.input_ids.shape[1]
            raise PicoLMError(f"the model has no positions for rows of {length} tokens: give it shorter ones") from None
        return _first((), {}, output)

    def logits(self, hidden: Tensor) -> Tensor:
        """As `Subject.logits`."""
        if not self._predicts:
            raise PicoLMError("the checkpoint stores no head that predicts tokens, so there is no loss and no gradient")
        logits: Tensor = self._head(hidden)
        return logits


def foreign_subject(
    origin: Path, values: Mapping[str, Any], architecture: Architecture, geometry: Geometry, store: Store
) -> ForeignSubject:
    """Build a model of `transformers` and give it stored weights.

    Args:
        origin: what errors call it.
        values: its `config.json`.
        architecture: how its tensors are named.
        geometry: how its heads are cut.
        store: holds its weights.

    Raises:
        PicoLMError: `transformers` is missing, or the weights are not those of its class.
    """
    try:
        import transformers
    except ImportError:
        raise PicoLMError(
            f"activations and gradients of '{origin}' need transformers: pip install 'picolm[transformers]'"
        ) from None
    plain = {key: value for key, value in values.items() if key not in ("dtype", "torch_dtype", "auto_map")}
    auto: Any = transformers.AutoModelForCausalLM if geometry.causal else transformers.AutoModelForMaskedLM
    # Building draws initial values, which are all replaced: nothing else may see that.
    with torch.random.fork_rng(devices=[]):
        config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(plain)
        module: nn.Module = auto.from_config(config, attn_implementation="eager").float().eval()
    unfilled = _fill(module, origin, architecture, geometry, store, tied=values.get("tie_word_embeddings"))
    missing = [name for name in unfilled if not name.startswith(_HEAD)]
    if missing:
        raise PicoLMError(f"'{origin}' lacks '{missing[0]}', which the {type(module).__name__} of transformers has")
    return ForeignSubject(module, architecture, geometry, predicts=not unfilled)


def _fill(
    module: nn.Module,
    origin: Path,
    architecture: Architecture,
    geometry: Geometry,
    store: Store,
    *,
    tied: bool | None,
) -> list[str]:
    """Give each parameter its stored tensor; return the canonical names of those that are not stored."""
    stored = slots_of(store.shapes, architecture, geometry, tied=tied)
    places: dict[str, list[nn.Parameter]] = {}
    unfilled = []
    for name, parameter in module.named_parameters():
        # Fused in the file and in the module alike: any of the parts leads from one to the other.
        ours = next(iter(slots_of([name], architecture, geometry, tied=False)))
        if ours not in stored:
            unfilled.append(ours)
            continue
        places.setdefault(stored[ours].stored, []).append(parameter)
        if store.shapes[stored[ours].stored] != tuple(parameter.shape):
            raise PicoLMError(f"'{origin}': '{ours}' has another shape than its configuration says")
    with torch.no_grad():
        for name, tensor in store.read(places).items():
            for parameter in places[name]:
                parameter.copy_(tensor)
    return unfilled


def _sites(slots: Mapping[str, Slot], geometry: Geometry, base: str) -> Iterator[tuple[str, tuple[str, _Read]]]:
    """Canonical names of activations, with the module that shows each and how."""
    paths = {name: slot.stored.rpartition(".")[0] for name, slot in slots.items() if not name.endswith(".bias")}
    for name, path in paths.items():
        if not name.startswith(_NO_SITES):
            yield name, (path, partial(_part, slots[name]))
    for layer in range(geometry.n_layers):
        at = f"layers.{layer}"
        query, value, output = (paths[f"{at}.attention.{letter}_proj"] for letter in "qvo")
        match = _LAYER.match(output)
        assert match is not None
        if layer == 0:
            yield "residual.0", (match[1], _input)
        yield at, (match[1], _first)
        yield f"residual.{layer + 1}", (match[1], _first)
        yield f"{at}.attention", (output, _first)
        yield f"{at}.attention.value", (value, partial(_values, slots[f"{at}.attention.v_proj"], geometry.head_dim))
        yield f"{at}.attention.mixed", (output, partial(_heads_of_input, geometry.head_dim))
        yield f"{at}.attention.pattern", (query.rpartition(".")[0], _second)
        yield f"{at}.mlp", (paths[f"{at}.mlp.down_proj"], _first)
    yield "hidden", (base, _first)


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor:
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    return first


def _second(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor:
    pattern: Tensor = output[1]
    return pattern


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor:
    given: Tensor = args[0] if args else kwargs["hidden_states"]
    return given


def _part(slot: Slot, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor:
    # Norms of queries and keys see them head by head.
    return by_head(slot.cut_output(_first(args, kwargs, output)), positions=1)


def _values(slot: Slot, head_dim: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor:
    return _heads(_part(slot, args, kwargs, output), head_dim)


def _heads_of_input(head_dim: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor:
    return _heads(_input(args, kwargs, output), head_dim)


def _heads(activation: Tensor, head_dim: int) -> Tensor:
    """[R, T, heads * C] as [R, heads, T, C]."""
    return activation.reshape(*activation.shape[:2], -1, head_dim).transpose(1, 2)
