"""The logit lens: what a model would predict if it stopped after each layer.

A function of a whole model's residual stream, so no `Metric`. L layers, so L + 1 places in the stream; D width, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.model.interface import LanguageModel
from picolm.model.sites import matching, recorded, sites_of
from picolm.model.size import loss_rows
from picolm.seams import IGNORE


@dataclass(frozen=True, slots=True)
class Lens:
    """What each place in the residual stream predicts, position by position; NaN where there is no target.

    Attributes:
        divergence: KL(final || here) in nats [L + 1, ...], from 0 up; 0 at the last place.
        surprisal: -log probability of the target, nats [L + 1, ...].
        rank: of the target among all tokens [L + 1, ...], 1: the most probable; equal ones share their mean rank.
        depth: prediction depth [...]: the first place from which on the most probable token is the final one, 0 to L.
    """

    divergence: Tensor
    surprisal: Tensor
    rank: Tensor
    depth: Tensor


@torch.no_grad()
def logit_lens(stream: Sequence[Tensor], targets: Tensor, *, read_out: Callable[[Tensor], Tensor]) -> Lens:
    """Read the residual stream after each layer as if it were the last.

    Early layers write in another basis than the one the output matrix reads, so a large divergence there may be the
    lens's fault, not the model's (Belrose et al. 2023 train a correction: the tuned lens). What is compared should be
    late layers, or one layer over time.

    Args:
        stream: the residual stream [..., D] at each place, from the embedding to the last layer (`residual_stream`).
        targets: token ids [...], or `IGNORE`.
        read_out: from the stream [N, D] to logits [N, V] as the model itself does it, its last norm included:
            `lambda x: model.logits(model.output_norm(x))`. Without the norm the lens shows nothing.

    Returns:
        The readings, float64, computed in float32 at least: divergences to about 1e-6. NaN where logits are not finite.

    Raises:
        PicoLMError: the stream has fewer than two places, or its positions are not those of the targets.

    Source:
        nostalgebraist 2020; depth: Baldock et al. 2021 (arXiv 2106.09647). (L + 1) times the cost of the logits; two
        layers' logits of some positions are held at a time, never those of all.
    """
    if len(stream) < 2 or any(place.shape[:-1] != targets.shape for place in stream):
        raise PicoLMError(
            "the logit lens needs a residual stream of two places or more, each at all positions of the targets"
        )
    wanted = targets.flatten()
    scored = (wanted != IGNORE).nonzero()[:, 0]
    flat = [place.reshape(-1, place.shape[-1]) for place in stream]
    readings = torch.full((4, len(stream), len(wanted)), torch.nan, dtype=torch.float64, device=targets.device)
    if len(scored):
        vocab_size = read_out(flat[-1][scored[:1]]).shape[-1]
        for some in torch.split(scored, loss_rows(vocab_size, flat[0].shape[-1], targets.device.type)):
            readings[..., some] = _readings([place[some] for place in flat], wanted[some], read_out)
    divergence, surprisal, rank, agrees = readings.view(4, len(stream), *targets.shape)
    # The places from which on all agree are counted from the end.
    depth = len(stream) - agrees.flip(0).cumprod(0).sum(0)
    return Lens(divergence, surprisal, rank, depth)


def _readings(places: Sequence[Tensor], targets: Tensor, read_out: Callable[[Tensor], Tensor]) -> Tensor:
    """Divergence, surprisal, rank and whether the most probable token is the final one, [4, L + 1, N]."""
    final = _log_probabilities(read_out(places[-1]))
    probabilities, choice = final.exp(), final.argmax(-1)
    found = []
    for number, place in enumerate(places):
        here = final if number == len(places) - 1 else _log_probabilities(read_out(place))
        of_target = here.gather(-1, targets[:, None])
        greater, equal = (here > of_target).sum(-1), (here == of_target).sum(-1)
        divergence = (probabilities * (final - here)).sum(-1, dtype=torch.float64).clamp(min=0.0)
        rank, agrees = greater + (equal + 1) / 2, here.argmax(-1) == choice
        reading = torch.stack([divergence, -of_target[:, 0].double(), rank.double(), agrees.double()])
        # Nothing is greater than NaN: a comparison with it would look like an answer.
        found.append(torch.where(of_target[:, 0].isnan(), torch.nan, reading))
    return torch.stack(found, dim=1)


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


@torch.no_grad()
def residual_stream(model: LanguageModel, input_ids: Tensor, *, attention_mask: Tensor | None = None) -> list[Tensor]:
    """The residual stream of some rows, [B, T, D] at each place; the model runs uncompiled and without dropout.

    Args:
        model: left as it is, its mode too.
        input_ids: token ids [B, T].
        attention_mask: True at tokens, False at padding [B, T], which stands at the end of a row.

    Returns:
        L + 1 tensors: the embedding, then after each layer.

    Raises:
        PicoLMError: the model names no residual stream, or padding stands before tokens.
    """
    sites = sites_of(model)
    names = matching(["residual.*"], sites, key="logit lens")
    if attention_mask is not None and (attention_mask[:, 1:] & ~attention_mask[:, :-1]).any():
        raise PicoLMError(
            "padding must stand at the end of each row: elsewhere the model moves it, and the stream with it"
        )
    seen: dict[str, Tensor] = {}
    chosen = {name: sites[name] for name in names}
    # Each module by itself: a part may be in another mode than the whole.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with (
            torch.compiler.set_stance("force_eager"),
            recorded(model, chosen, lambda name, tensor, _: seen.__setitem__(name, tensor.detach())),
        ):
            model(input_ids, attention_mask=attention_mask)
    finally:
        for module, mode in modes:
            module.training = mode
    return [seen[name] for name in names]
