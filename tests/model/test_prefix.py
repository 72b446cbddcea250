"""A prefix is seen whole, what follows it from behind only."""

from __future__ import annotations

import torch

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.prefix import Prefix

SIZES = {"vocab_size": 20, "d_model": 8, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ffn": 12, "max_length": 16}
CAUSAL = schema.Model.model_validate(SIZES)
BOTH = schema.Model.model_validate({**SIZES, "attention": "bidirectional"})


def test_no_prefix_is_causal_and_a_whole_one_bidirectional() -> None:
    causal, both = build_model(CAUSAL, 0).double(), build_model(BOTH, 0).double()
    ids = torch.randint(0, 20, (3, 7))
    torch.testing.assert_close(causal(ids, prefix=torch.zeros(3)), causal(ids), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(causal(ids, prefix=torch.full((3,), 7)), both(ids), rtol=1e-12, atol=1e-12)


def test_each_row_has_its_own() -> None:
    causal = build_model(CAUSAL, 0).double()
    ids = torch.randint(0, 20, (2, 7))
    whole = causal(ids, prefix=torch.tensor([3, 5]))
    for row, n in enumerate((3, 5)):
        changed = ids[row : row + 1].clone()
        changed[0, n - 1] = (changed[0, n - 1] + 1) % 20
        other = causal(changed, prefix=torch.tensor([n]))
        # The last of the prefix is seen from the first place.
        assert not torch.allclose(other[0, 0], whole[row, 0])
        changed = ids[row : row + 1].clone()
        changed[0, n] = (changed[0, n] + 1) % 20
        other = causal(changed, prefix=torch.tensor([n]))
        torch.testing.assert_close(other[0, :n], whole[row, :n], rtol=1e-12, atol=1e-12)


def test_the_pattern_is_what_the_mix_does() -> None:
    kernel = build_model(CAUSAL, 0).layers[0].attention.kernel
    query, value = torch.randn(2, 4, 6, 8, dtype=torch.float64), torch.randn(2, 2, 6, 8, dtype=torch.float64)
    key, mix = torch.randn(2, 2, 6, 8, dtype=torch.float64), Prefix(torch.tensor([2, 5]), 6)
    mixed = kernel.pattern(query, key, None, mix) @ value.repeat_interleave(2, dim=1)
    torch.testing.assert_close(kernel(query, key, value, None, mix), mixed, rtol=1e-10, atol=1e-12)
