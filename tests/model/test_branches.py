import torch

from picolm.config import schema
from picolm.model.initialization import build_model


def test_each_branch_is_read_as_if_it_alone_followed_the_beginning() -> None:
    config = schema.Model(
        vocab_size=50, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ffn=48, init=schema.Init(std=0.3)
    )
    model = build_model(config, seed=0).double().eval()
    begin, ways = [1, 2, 3], [[4, 5], [6], [7, 8, 9]]
    # A row of three branches and its filling; one without a beginning; one of a beginning alone.
    ids = torch.tensor([[*begin, *ways[0], *ways[1], *ways[2], 0], [4, 5, 7, 8, 9, 0, 0, 0, 0, 0], [*range(10)]])
    numbers = torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3, 3, 3], [1, 1, 2, 2, 2, 2, 2, 2, 2, 2], [0] * 10])
    with torch.no_grad():
        found = model(ids, branches=numbers)
        for way, place in zip(ways, (3, 5, 6), strict=True):
            alone = model(torch.tensor([[*begin, *way]]))[0]
            torch.testing.assert_close(found[0, :3], alone[:3], rtol=0, atol=1e-12)
            torch.testing.assert_close(found[0, place : place + len(way)], alone[3:], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[1, :2], model(torch.tensor([[4, 5]]))[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[1, 2:5], model(torch.tensor([[7, 8, 9]]))[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[2], model(ids[2:])[0], rtol=0, atol=1e-12)
