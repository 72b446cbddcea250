import math

import pytest
import torch

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.size import count_parameters

CONFIG = schema.Model(vocab_size=512, d_model=96, n_layers=3, n_heads=4, n_kv_heads=2, d_ffn=256)


def changed(**values: object) -> schema.Model:
    return schema.Model.model_validate({**CONFIG.model_dump(), **values})


@pytest.mark.parametrize(
    "config",
    [CONFIG, changed(tied=True), changed(qk_norm=True), changed(attention="bidirectional"), changed(n_kv_heads=4)],
)
def test_the_formula_counts_the_parameters(config: schema.Model) -> None:
    model = build_model(config, seed=0)
    count = count_parameters(config, 512)
    assert sum(p.numel() for p in model.parameters()) == count.total
    embeddings = [p for name, p in model.named_parameters() if "embedding" in name]
    assert sum(p.numel() for p in embeddings) == count.embedding


def test_depth_scaled_has_the_standard_deviations_of_its_table() -> None:
    model = build_model(CONFIG, seed=0)
    for name, parameter in model.named_parameters():
        if model.role(name) == "norm":
            assert (parameter == 1).all()
            continue
        residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        std = 0.02 / math.sqrt(6) if residual else 0.02
        n = parameter.numel()
        assert abs(parameter.std().item() / std - 1) < 5 / math.sqrt(2 * n), name
        assert abs(parameter.mean().item()) < 5 * std / math.sqrt(n), name


def test_pico_scheme_is_pytorchs_default() -> None:
    model = build_model(changed(init={"scheme": "pico"}), seed=0)
    assert abs(model.embedding.weight.std().item() - 1) < 0.02
    for name, parameter in model.named_parameters():
        if model.role(name) == "matrix":
            bound = 1 / math.sqrt(parameter.shape[1])
            assert bound * 0.99 < parameter.abs().max().item() <= bound, name
            assert abs(parameter.std().item() / (bound / math.sqrt(3)) - 1) < 5 / math.sqrt(parameter.numel()), name


def test_values_depend_on_seed_and_name_alone() -> None:
    torch.manual_seed(5)
    first = dict(build_model(CONFIG, seed=3).named_parameters())
    torch.manual_seed(6)
    again = dict(build_model(CONFIG, seed=3).named_parameters())
    deeper = dict(build_model(changed(qk_norm=True), seed=3).named_parameters())
    other = dict(build_model(CONFIG, seed=4).named_parameters())
    for name, parameter in first.items():
        assert torch.equal(parameter, again[name])
        assert torch.equal(parameter, deeper[name]), "a module that was added shifted another's values"
        if not name.endswith("norm.weight"):
            assert not torch.equal(parameter, other[name])
    assert not torch.equal(first["layers.0.attention.q_proj.weight"], first["layers.1.attention.q_proj.weight"])


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    build_model(CONFIG, seed=0)
    assert torch.equal(torch.rand(3), expected)
