import torch

from picolm.config import schema
from picolm.model.initialization import build_model


def test_each_path_is_read_as_if_it_stood_alone() -> None:
    config = schema.Model(
        vocab_size=50, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ffn=48, init=schema.Init(std=0.3)
    )
    model = build_model(config, seed=0).double().eval()
    # Two beginnings; the first parts at 1 and again at 4; then a chain, and filling.
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [*range(10)], [4, 5, 0, 0, 0, 0, 0, 0, 0, 0]])
    parents = torch.tensor([[-1, 0, 1, 0, 3, 4, 4, -1, 7, 5], [*range(-1, 9)], [-1, 0, *[-1] * 8]])
    paths = [[0, 1, 2], [0, 3, 4, 5, 9], [0, 3, 4, 6], [7, 8]]
    with torch.no_grad():
        found = model(ids, parents=parents)
        for path in paths:
            alone = model(ids[0, path][None])[0]
            torch.testing.assert_close(found[0, path], alone, rtol=0, atol=1e-12)
        torch.testing.assert_close(found[1], model(ids[1:2])[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[2, :2], model(torch.tensor([[4, 5]]))[0], rtol=0, atol=1e-12)
