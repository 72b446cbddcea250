import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.segments import Segments
from picolm.model.transformer import Transformer


def model(attention: str = "causal") -> Transformer:
    config = schema.Model.model_validate(
        {
            "vocab_size": 50,
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 2,
            "d_ffn": 48,
            "attention": attention,
        }
    )
    return build_model(config, seed=0).double()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=12, max_size=12), min_size=1, max_size=4), st.booleans())
def test_each_document_is_as_if_it_were_alone(rows: list[list[int]], causal: bool) -> None:
    net = model("causal" if causal else "bidirectional")
    documents = torch.tensor(rows)
    tokens = torch.randint(0, 50, documents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = net(tokens, documents=documents)
        for row in range(len(rows)):
            borders = [0, *(i for i in range(1, 12) if rows[row][i] != rows[row][i - 1]), 12]
            for start, stop in itertools.pairwise(borders):
                alone = net(tokens[row : row + 1, start:stop])
                torch.testing.assert_close(hidden[row, start:stop], alone[0], rtol=1e-12, atol=1e-12)


def test_gradients_equal_those_of_a_block_diagonal_mask() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [3, 3, 3, 3, 3, 3, 3, 3], [4, 5, 5, 5, 6, 6, 6, 6]])
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, 8, 6), (3, 2, 8, 6), (3, 2, 8, 6)]
    parts = [torch.randn(shape, generator=generator, dtype=torch.double, requires_grad=True) for shape in shapes]
    weights = torch.randn(3, 4, 8, 6, generator=generator, dtype=torch.double)
    allowed = (documents[:, :, None] == documents[:, None, :]) & torch.ones(8, 8).tril().bool()
    dense = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=allowed[:, None], enable_gqa=True)
    ours = Segments(documents, causal=True, device=torch.device("cpu"))(*parts)
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), parts),
        torch.autograd.grad((dense * weights).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_positions_begin_anew() -> None:
    segments = Segments(torch.tensor([[7, 7, 7, 2], [2, 2, 9, 9]]), causal=True, device=torch.device("cpu"))
    assert segments.positions.tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]


def test_transformers_with_a_block_diagonal_mask_gives_the_same_logits(tmp_path) -> None:  # type: ignore[no-untyped-def]
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    from picolm.model.huggingface import SpecialTokens, save_model

    net = model().float().eval()
    save_model(net, tmp_path, SpecialTokens(0, 1, 2))
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.randint(3, 50, (2, 10), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2, 2], [2, 2, 2, 2, 2, 3, 3, 3, 3, 3]])
    allowed = (documents[:, :, None] == documents[:, None, :]) & torch.ones(10, 10).tril().bool()
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[:, None]
    positions = Segments(documents, causal=True, device=torch.device("cpu")).positions
    with torch.no_grad():
        theirs = twin(tokens, attention_mask=mask, position_ids=positions).logits
        torch.testing.assert_close(net.logits(net(tokens, documents=documents)), theirs, rtol=0, atol=1e-5)
