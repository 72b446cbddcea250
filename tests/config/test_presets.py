import pytest

from picolm.config.loading import load_config, preset_names
from picolm.model.size import count_parameters, flops_per_token

# specs/pico.md 1.4
PICO = {
    "tiny": (96, 384, 8, 11_282_784, 1_624_416),
    "small": (384, 1536, 32, 64_595_328, 25_961_856),
    "medium": (768, 3072, 64, 181_095_168, 103_828_224),
    "large": (1536, 6144, 128, 569_808_384, 415_274_496),
}


@pytest.mark.parametrize("name", PICO)
def test_pico_presets_have_the_published_dimensions_and_counts(name: str) -> None:
    config = load_config(name)
    d_model, d_ffn, head_dim, total, not_embedding = PICO[name]
    model = config.model
    assert (model.d_model, model.d_ffn, model.head_dim) == (d_model, d_ffn, head_dim)
    assert (model.n_layers, model.n_heads, model.n_kv_heads) == (12, 12, 4)
    assert (model.vocab_size, model.max_length, model.rope_theta, model.norm_eps) == (50304, 2048, 10000.0, 1e-6)
    count = count_parameters(model, 50304)
    assert (count.total, count.not_embedding) == (total, not_embedding)


@pytest.mark.parametrize("name", PICO)
def test_pico_presets_have_the_published_recipe(name: str) -> None:
    config = load_config(name)
    assert config.training.batch_size * config.data.sequence_length == 2_097_152
    assert config.training.steps == 200_000
    assert (config.optimizer.learning_rate, config.optimizer.betas) == (3e-4, (0.9, 0.999))
    assert (config.optimizer.weight_decay, config.optimizer.decay) == (0.01, "all")
    assert (config.schedule.kind, config.schedule.warmup_steps, config.schedule.final_fraction) == ("linear", 2500, 0)
    assert config.training.gradient_clip is None
    assert (config.model.init.scheme, config.model.tied) == ("pico", False)


def test_all_presets_load() -> None:
    assert preset_names() == ["demo", "large", "medium", "small", "tiny"]
    for name in preset_names():
        load_config(name)


def test_flops_equal_six_per_product_parameter_and_the_causal_half_of_attention() -> None:
    model = load_config("tiny").model
    # Per token, multiply-adds of every matrix, summed by hand: q, o, k, v, gate, up, down, then the output matrix.
    products = 12 * (2 * 96 * 96 + 2 * 96 * 32 + 3 * 96 * 384) + 50304 * 96
    attention = 12 * 2 * (2 * 2048 * 96) / 2  # scores and mixing: 2 T D each, halved by causality
    assert flops_per_token(model, 50304, 2048) == 3 * (2 * products + attention)
    both_ways = model.model_copy(update={"attention": "bidirectional"})
    assert flops_per_token(both_ways, 50304, 2048) == 3 * (2 * products + 2 * attention)
