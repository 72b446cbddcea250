"""From the model as it is trained to the model as it is saved: plain, with everything merged that was added."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.model.interface import LanguageModel
from picolm.model.transformer import Transformer
from picolm.seams import Intervention
from picolm.training.state import MODEL
from picolm.training.writer import host_copy


@dataclass(frozen=True, slots=True)
class Exported:
    """A model to save.

    Attributes:
        parameters: by our names, on the CPU.
        has_twin: whether a Hugging Face class equals it; else these are the parameters of its live form.
    """

    parameters: dict[str, Tensor]
    has_twin: bool = True


def exports(intervention: Intervention) -> bool:
    """Whether an intervention has an `export` of its own."""
    return type(intervention).export is not Intervention.export


def export(model: LanguageModel, parameters: Mapping[str, Tensor], interventions: Sequence[Intervention]) -> Exported:
    """Export a model with these values; what is trained stays as it is.

    Args:
        model: the structure.
        parameters: of the objective, by name, on the CPU.
        interventions: in the order in which they built the structure.

    Raises:
        PicoLMError: what was exported is no model of the base class.
    """
    values = {name.removeprefix(MODEL): tensor for name, tensor in parameters.items() if name.startswith(MODEL)}
    changing = [item for item in interventions if exports(item)]
    if not changing:
        return Exported(values)
    plain: LanguageModel | None = copy.deepcopy(model)
    assert plain is not None
    plain.cpu().load_state_dict(values, strict=True)
    with torch.no_grad():
        for item in reversed(changing):
            plain = item.export(plain)
            if plain is None:
                return Exported(values, has_twin=False)
    exported = {name: tensor.detach().clone() for name, tensor in plain.state_dict().items()}
    with torch.device("meta"):
        base = set(Transformer(model.config).state_dict())
    if exported.keys() != base:
        odd = min(exported.keys() ^ base)
        raise PicoLMError(f"what the interventions export is no plain model: it differs in the parameter {odd}")
    return Exported(exported)


def saved_form(
    model: LanguageModel,
    interventions: Sequence[Intervention],
    wanted: Callable[[str], bool] = lambda name: True,
) -> dict[str, Tensor]:
    """The parameters that a checkpoint of this moment would hold, by our names, on the host and shared with nothing.

    Args:
        model: the structure, with its values.
        interventions: as in `export`.
        wanted: which of them, by name.

    Raises:
        PicoLMError: as `export`.
    """
    state = model.state_dict()
    if not any(map(exports, interventions)):
        return host_copy({name: tensor for name, tensor in state.items() if wanted(name)})
    # What is merged into a parameter may be anything that the model holds.
    whole = export(model, host_copy({f"{MODEL}{name}": tensor for name, tensor in state.items()}), interventions)
    return {name: tensor for name, tensor in whole.parameters.items() if wanted(name)}


def saved_shapes(model: LanguageModel, interventions: Sequence[Intervention]) -> dict[str, tuple[int, ...]]:
    """The shapes of what `saved_form` gives; nothing is copied where no intervention exports.

    Raises:
        PicoLMError: as `export`.
    """
    plain = not any(map(exports, interventions))
    parameters = model.state_dict() if plain else saved_form(model, interventions)
    return {name: tuple(tensor.shape) for name, tensor in parameters.items()}
