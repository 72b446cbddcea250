"""The logit lens against logits written out, and that its last reading is the model itself."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from picolm.analysis.lens import logit_lens, residual_stream
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.initialization import build_model
from picolm.model.transformer import Transformer
from picolm.objective.cross_entropy import linear_cross_entropies
from picolm.seams import IGNORE

ROWS, LENGTH, VOCABULARY, LAYERS = 3, 9, 40, 3


def model(**changes: object) -> Transformer:
    config = schema.Model.model_validate(
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": LAYERS, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 24}
        | {"init": {"std": 0.3}, **changes}
    )
    return build_model(config, seed=0).eval()


def tokens(seed: int = 1) -> Tensor:
    return torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(seed))


def test_every_reading_is_that_of_logits_written_out() -> None:
    net = model().double()
    targets = tokens(2)
    with torch.no_grad():
        stream = residual_stream(net, tokens())
        found = logit_lens(stream, targets, read_out=lambda x: net.logits(net.output_norm(x)))
        assert len(stream) == LAYERS + 1
        log_q = torch.stack([net.logits(net.output_norm(place)).log_softmax(-1) for place in stream])
        log_p = net.logits(net(tokens())).log_softmax(-1)
    divergence = F.kl_div(log_q, log_p.expand_as(log_q), log_target=True, reduction="none").sum(-1)
    assert torch.allclose(found.divergence, divergence, atol=1e-12)
    of_target = log_q.gather(-1, targets.expand(LAYERS + 1, -1, -1)[..., None])[..., 0]
    assert torch.allclose(found.surprisal, -of_target, atol=1e-12)
    order = log_q.argsort(dim=-1, descending=True)
    assert torch.equal(found.rank, (order == targets[..., None]).double().argmax(-1) + 1.0)
    choices = log_q.argmax(-1)
    for b in range(ROWS):
        for t in range(LENGTH):
            depth = next(i for i in range(LAYERS + 1) if (choices[i:, b, t] == choices[-1, b, t]).all())
            assert found.depth[b, t] == depth
    assert len(found.depth.unique()) > 1


def test_the_last_reading_is_the_model_itself_exactly() -> None:
    net = model()
    targets = tokens(2)
    targets[0, 0] = IGNORE
    stream = residual_stream(net, tokens())
    with torch.no_grad():
        assert torch.equal(net.logits(net.output_norm(stream[-1])), net.logits(net(tokens())))
        losses = linear_cross_entropies(net(tokens()), net.output_matrix, targets)
    found = logit_lens(stream, targets, read_out=lambda x: net.logits(net.output_norm(x)))
    assert torch.equal(found.divergence[-1].nan_to_num(), torch.zeros(ROWS, LENGTH).double())
    assert torch.allclose(found.surprisal[-1], losses.double(), atol=1e-6, equal_nan=True)
    assert (found.divergence[:-1].nan_to_num(1.0) > 0).all()
    assert (found.depth.nan_to_num() <= LAYERS).all()


def test_ignored_positions_are_nan_and_change_no_other() -> None:
    net, targets = model(), tokens(2)
    stream = residual_stream(net, tokens())

    def read_out(x: Tensor) -> Tensor:
        return net.logits(net.output_norm(x))

    some = targets.clone()
    some[:, ::2] = IGNORE
    found, full = logit_lens(stream, some, read_out=read_out), logit_lens(stream, targets, read_out=read_out)
    for name in ("divergence", "surprisal", "rank", "depth"):
        one, other = getattr(found, name), getattr(full, name)
        assert one[..., ::2].isnan().all()
        assert torch.allclose(one[..., 1::2], other[..., 1::2], atol=1e-5)
    nothing = logit_lens(stream, torch.full_like(targets, IGNORE), read_out=read_out)
    assert nothing.depth.isnan().all() and nothing.rank.isnan().all()


def test_logits_are_never_held_for_all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    net, targets = model(), tokens(2)
    stream = residual_stream(net, tokens())
    rows: list[int] = []

    def read_out(x: Tensor) -> Tensor:
        rows.append(len(x))
        return net.logits(net.output_norm(x))

    whole = logit_lens(stream, targets, read_out=read_out)
    monkeypatch.setattr("picolm.analysis.lens.loss_rows", lambda vocabulary, width, device: 4)
    rows.clear()
    parts = logit_lens(stream, targets, read_out=read_out)
    assert max(rows) == 4 and sum(rows) == (LAYERS + 1) * ROWS * LENGTH + 1
    assert torch.allclose(parts.divergence, whole.divergence, atol=1e-6) and torch.equal(parts.depth, whole.depth)


def test_ranks_and_depth_by_hand() -> None:
    # One position, three places, a vocabulary of 4; the read-out takes the stream for the logits.
    stream = [
        torch.tensor([[0.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[1.0, 9.0, 2.0, 2.0]]),
        torch.tensor([[1.0, 4.0, 2.0, 8.0]]),
    ]
    found = logit_lens(stream, torch.tensor([2]), read_out=lambda x: x)
    # All alike: the mean of ranks 1 to 4; one above and one alike: 2 and 3; two above.
    assert found.rank[:, 0].tolist() == [2.5, 2.5, 3.0]
    assert found.surprisal[0, 0].item() == pytest.approx(math.log(4))
    assert found.depth.tolist() == [2.0]
    p = stream[2][0].softmax(0)
    assert found.divergence[0, 0].item() == pytest.approx(float((p * (p * 4).log()).sum()), rel=1e-6)
    # Agreement that is lost again does not count.
    back = logit_lens([stream[2], stream[1], stream[2], stream[2]], torch.tensor([2]), read_out=lambda x: x)
    assert back.depth.tolist() == [2.0]


def test_logits_that_are_not_finite_are_nan_and_spoil_no_other_position() -> None:
    stream = [torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[math.nan, 0.0], [0.0, 1.0]]), torch.eye(2)]
    found = logit_lens(stream, torch.tensor([0, 1]), read_out=lambda x: x)
    for reading in (found.divergence, found.surprisal, found.rank):
        assert reading[:, 0].isnan().tolist() == [False, True, False] and reading[:, 1].isfinite().all()
    assert found.depth[0].isnan() and found.depth[1] == 1


def test_padding_at_the_end_changes_nothing_before_it() -> None:
    for attention in ("causal", "bidirectional"):
        net = model(attention=attention).double()
        mask = torch.ones(ROWS, LENGTH, dtype=torch.bool)
        mask[1, 4:] = False
        stream = residual_stream(net, tokens(), attention_mask=mask)
        alone = residual_stream(net, tokens()[1:2, :4])
        for padded, short in zip(stream, alone, strict=True):
            assert torch.allclose(padded[1, :4], short[0], atol=1e-12)
    with pytest.raises(PicoLMError, match="end of each row"):
        residual_stream(net, tokens(), attention_mask=~mask)


def test_no_trace_is_left() -> None:
    net = model(dropout=0.5)
    net.train()
    net.layers[1].eval()
    modes = [module.training for module in net.modules()]
    state = torch.get_rng_state()
    first, second = residual_stream(net, tokens()), residual_stream(net, tokens())
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in net.modules())
    assert all(not place.requires_grad for place in first)


def test_errors_say_what_is_needed() -> None:
    stream = residual_stream(model(), tokens())
    with pytest.raises(PicoLMError, match="two places"):
        logit_lens(stream[:1], tokens(), read_out=lambda x: x)
    with pytest.raises(PicoLMError, match="all positions of the targets"):
        logit_lens(stream, tokens()[:, 1:], read_out=lambda x: x)
