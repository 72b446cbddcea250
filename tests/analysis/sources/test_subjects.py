"""What a probe shows of a model: what transformers itself says, whichever way it is computed, without a trace."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from picolm.analysis.geometry import Geometry
from picolm.analysis.opening import open_source
from picolm.analysis.probe import NO_TARGET, Probe, token_rows
from picolm.analysis.sources.architectures import architecture_of
from picolm.analysis.sources.directory import StoredSnapshot
from picolm.analysis.sources.foreign import ForeignSubject, foreign_subject
from picolm.analysis.sources.own import OwnSubject
from picolm.analysis.subject import Subject, look
from picolm.errors import PicoLMError

Saved = Callable[[str], tuple[Path, nn.Module]]
FOREIGN = ["gpt_neox", "gpt_neox_sequential", "gpt2", "bert", "bert_decoder", "roberta"]
FOREIGN += ["llama_biased", "qwen2", "qwen3"]
OWN = ["llama", "mistral", "qwen3_square", "eurobert"]


def snapshot_of(saved: Saved, name: str) -> StoredSnapshot:
    source = open_source(saved(name)[0])
    snapshot = source.snapshot(source.steps[-1])
    assert isinstance(snapshot, StoredSnapshot)
    return snapshot


def by_transformers(snapshot: StoredSnapshot) -> ForeignSubject:
    architecture = architecture_of(snapshot.config, snapshot.path)
    return foreign_subject(snapshot.path, snapshot.config, architecture, snapshot.geometry, snapshot.store)


def probe_of(tokens: Tensor, geometry: Geometry) -> Probe:
    """Next tokens; for a bidirectional model, some of the tokens of some rows."""
    if geometry.causal:
        return Probe.causal(tokens)
    inputs = tokens[:, :-1].contiguous()
    return Probe(inputs, inputs.masked_fill(torch.arange(inputs.shape[1]) % 3 != 1, NO_TARGET))


def same(seen: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*FOREIGN, *OWN])
def test_activations_equal_what_transformers_tells(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot, model = snapshot_of(saved, name), saved(name)[1]
    subject, probe = snapshot.subject(), Probe(tokens[:, :-1].contiguous())
    assert isinstance(subject, OwnSubject if name in OWN else ForeignSubject)
    seen = look(subject, probe, activations=list(subject.sites), batch_size=2).activations
    with torch.no_grad():
        told = model(probe.input_ids, output_hidden_states=True, output_attentions=True)
    # The last of transformers' hidden states is the one after the last norm, where there is one.
    has_output_norm = "output_norm" in snapshot.shapes
    for layer in range(3 if has_output_norm else 4):
        same(seen[f"residual.{layer}"], told.hidden_states[layer])
    same(seen["hidden"], told.hidden_states[-1])
    if has_output_norm:
        same(seen["output_norm"], told.hidden_states[-1])
    for layer in range(3):
        same(seen[f"layers.{layer}.attention.pattern"], told.attentions[layer])
    same(subject.logits(seen["hidden"]), told.logits)
    same(subject.last_norm(seen["residual.3"]), seen["hidden"])


@pytest.mark.parametrize("name", [*FOREIGN, *OWN])
def test_activations_fit_together(name: str, saved: Saved, tokens: Tensor) -> None:
    """Projections are their matrices, values are mixed by patterns, and blocks add what attention and mlp give."""
    snapshot = snapshot_of(saved, name)
    subject, at, g = snapshot.subject(), "layers.1.attention", snapshot.geometry
    seen = look(subject, Probe(tokens[:, :-1].contiguous()), activations=list(subject.sites)).activations
    weights = snapshot.read(snapshot.shapes)

    def projected(matrix: str, x: Tensor) -> Tensor:
        return x @ weights[matrix].T + weights.get(f"{matrix}.bias", torch.zeros(()))

    is_post_norm = g.architecture in ("bert", "roberta")
    given = seen["residual.1"] if is_post_norm else seen["layers.1.attention_norm"]
    for letter in "qkv":
        same(seen[f"{at}.{letter}_proj"], projected(f"{at}.{letter}_proj", given))
    values = seen[f"{at}.v_proj"].unflatten(-1, (g.n_kv_heads, g.head_dim)).transpose(1, 2)
    same(seen[f"{at}.value"], values)
    if f"{at}.q_norm" in seen:
        queries = seen[f"{at}.q_proj"].unflatten(-1, (g.n_heads, g.head_dim)).transpose(1, 2)
        scale = (queries.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        same(seen[f"{at}.q_norm"], queries * scale * weights[f"{at}.q_norm"])
    same(seen[f"{at}.mixed"], seen[f"{at}.pattern"] @ values.repeat_interleave(g.group, dim=1))
    same(seen[f"{at}.o_proj"], projected(f"{at}.o_proj", seen[f"{at}.mixed"].transpose(1, 2).flatten(2)))
    assert torch.equal(seen[at], seen[f"{at}.o_proj"]) and torch.equal(seen["layers.1"], seen["residual.2"])
    assert torch.equal(seen["layers.1.mlp"], seen["layers.1.mlp.down_proj"])
    added = seen["residual.1"] + seen[at]
    if is_post_norm:
        same(
            torch.nn.functional.layer_norm(
                added, (32,), weights["layers.1.attention_norm"], weights["layers.1.attention_norm.bias"], 1e-12
            ),
            seen["layers.1.attention_norm"],
        )
    else:
        same(added + seen["layers.1.mlp"], seen["residual.2"])


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "bert", "llama_biased", "llama", "eurobert"])
def test_gradients_are_those_of_the_mean_loss_whatever_the_batch(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot, model = snapshot_of(saved, name), saved(name)[1]
    subject = snapshot.subject()
    probe = probe_of(tokens, snapshot.geometry)
    assert probe.targets is not None
    wanted = [matrix for matrix in subject.slots if not matrix.startswith("segment")]
    seen = look(subject, probe, gradients=wanted, token_losses=True, batch_size=2)
    model.zero_grad()
    losses = nn.functional.cross_entropy(model(probe.input_ids).logits.flatten(0, 1), probe.targets.flatten())
    losses.backward()
    assert seen.token_losses is not None
    same(seen.token_losses.nanmean(), losses.detach())
    assert torch.equal(seen.token_losses.isnan(), probe.targets == NO_TARGET)
    # Cut out of the fused parameters' gradients as the weights are cut out of the parameters.
    theirs = dict(model.named_parameters(remove_duplicate=False))
    reference = {name: slot.cut(_gradient(theirs[slot.stored])) for name, slot in _slots(snapshot, model).items()}
    assert set(reference) >= set(wanted)
    for matrix in wanted:
        same(seen.gradients[matrix], reference[matrix])
        assert seen.gradients[matrix].shape == snapshot.shapes[matrix]
    again = look(subject, probe, gradients=wanted, batch_size=5)
    for matrix in wanted:
        torch.testing.assert_close(again.gradients[matrix], seen.gradients[matrix], rtol=1e-4, atol=1e-6)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _slots(snapshot: StoredSnapshot, model: nn.Module) -> dict[str, object]:
    architecture = architecture_of(snapshot.config, snapshot.path)
    return dict(ForeignSubject(model, architecture, snapshot.geometry).slots)


@pytest.mark.parametrize("name", OWN)
def test_our_transformer_shows_what_transformers_shows(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot = snapshot_of(saved, name)
    ours, theirs, probe = snapshot.subject(), by_transformers(snapshot), probe_of(tokens, snapshot.geometry)
    # Rotated queries and keys are seen in ours only.
    shared = [site for site in ours.sites if site in theirs.sites]
    assert set(theirs.sites) <= set(ours.sites) and len(shared) > 40
    matrices = list(theirs.slots)
    seen, expected = (look(one, probe, activations=shared, gradients=matrices) for one in (ours, theirs))
    for site in shared:
        same(seen.activations[site], expected.activations[site])
    for matrix in matrices:
        same(seen.gradients[matrix], expected.gradients[matrix])


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "bert", "roberta", "llama", "eurobert"])
def test_padding_changes_nothing_at_real_tokens(name: str, saved: Saved, tokens: Tensor) -> None:
    subject = snapshot_of(saved, name).subject()
    short = Probe(tokens[:2, :7].contiguous())
    # What stands at padding is another token than anything that is there, but for roberta, whose padding is token 1.
    padded = torch.cat([short.input_ids, torch.ones(2, 4, dtype=torch.int64)], dim=1)
    masked = Probe(padded, mask=torch.arange(11)[None].expand(2, 11) < 7)
    sites = ["residual.0", "residual.3", "hidden", "layers.2.attention.mixed"]
    alone, beside = (look(subject, probe, activations=sites).activations for probe in (short, masked))
    for site in sites:
        same(token_rows(beside[site], masked.real), token_rows(alone[site], short.real))
    if not subject.geometry.causal:
        blind = look(subject, Probe(padded), activations=sites).activations
        assert (blind["hidden"][:, :7] - alone["hidden"]).abs().max() > 1e-3


def state_of(module: nn.Module) -> list[object]:
    return [
        [(name, tensor.clone()) for name, tensor in module.state_dict().items()],
        [parameter.grad for parameter in module.parameters()],
        [part.training for part in module.modules()],
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
        torch.get_rng_state(),
    ]


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "bert", "llama"])
def test_looking_leaves_no_trace(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot = snapshot_of(saved, name)
    generators = torch.get_rng_state()
    subject = snapshot.subject()
    assert torch.equal(torch.get_rng_state(), generators)
    subject.module.train()
    # Parts are in other modes than the whole, and one draws numbers even when nothing is dropped.
    part = next(part for path, part in subject.module.named_modules() if "norm" in path.lower() or "ln_" in path)
    part.eval()

    def draw(*seen: object) -> None:
        torch.rand(3)

    part.register_forward_hook(draw)
    probe, before = probe_of(tokens, snapshot.geometry), state_of(subject.module)
    sites = list(subject.sites)
    seen = look(subject, probe, activations=sites, gradients=["layers.0.attention.v_proj"], token_losses=True)
    after = state_of(subject.module)
    for (one, first), (other, second) in zip(before[0], after[0], strict=True):  # type: ignore[call-overload]
        assert one == other and torch.equal(first, second)
    assert before[1:4] == after[1:4] and torch.equal(before[4], after[4])  # type: ignore[arg-type]
    # Dropout was off although the model was training: the same as of one that is not, to the bit.
    still = look(snapshot.subject(), probe, activations=sites)
    assert all(torch.equal(seen.activations[site], still.activations[site]) for site in sites)

    def fail(name: str, tensor: Tensor) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), subject.recorded(sites[:3], fail):
        subject.hidden(probe)
    assert state_of(subject.module)[3] == before[3]


def test_gradients_of_shared_matrices_are_found_under_both_names(saved: Saved, tokens: Tensor) -> None:
    subject = snapshot_of(saved, "gpt2").subject()
    seen = look(subject, Probe.causal(tokens), gradients=["embedding", "unembedding"]).gradients
    assert torch.equal(seen["embedding"], seen["unembedding"]) and seen["embedding"].abs().sum() > 0


def test_a_model_that_has_diverged_has_no_gradient(saved: Saved, tokens: Tensor) -> None:
    subject = snapshot_of(saved, "gpt_neox").subject()
    with torch.no_grad():
        subject.module.get_input_embeddings().weight[int(tokens[0, 0])] = torch.nan  # type: ignore[operator]
    name = "layers.0.mlp.up_proj"
    seen = look(subject, Probe.causal(tokens), gradients=[name], token_losses=True)
    assert seen.gradients[name].isnan().all() and seen.token_losses is not None and seen.token_losses.isnan().any()


def test_what_cannot_be_shown_is_said_in_a_sentence(saved: Saved, tokens: Tensor) -> None:
    subject: Subject = snapshot_of(saved, "gpt_neox").subject()
    probe = Probe.causal(tokens)
    with pytest.raises(
        PicoLMError, match=r"no activation 'layers\.0\.attention\.o_prj'; did you mean 'layers\.0\.attention\.o_proj'"
    ):
        look(subject, probe, activations=["layers.0.attention.o_prj"])
    with pytest.raises(PicoLMError, match=r"no matrix 'layers\.0\.mlp\.gate_proj'; did you mean"):
        look(subject, probe, gradients=["layers.0.mlp.gate_proj"])
    with pytest.raises(PicoLMError, match="need a probe with targets"):
        look(subject, Probe(tokens), gradients=["embedding"])
    with pytest.raises(PicoLMError, match="holds the token 61, the model knows those from 0 to 60"):
        look(subject, Probe(tokens + 61 - tokens.max()), activations=["hidden"])
    with pytest.raises(PicoLMError, match="holds the token -1,"):
        look(subject, Probe(tokens - tokens.min() - 1), activations=["hidden"])
    with pytest.raises(PicoLMError, match="the probe has no tokens"):
        look(subject, Probe(tokens[:0]), activations=["hidden"])
    with pytest.raises(PicoLMError, match="no positions for rows of 70 tokens"):
        look(snapshot_of(saved, "gpt2").subject(), Probe(torch.full((1, 70), 5)), activations=["hidden"])
    with pytest.raises(PicoLMError, match="within documents"):
        look(subject, Probe(tokens, documents=tokens), activations=["hidden"])


def test_a_model_without_a_head_shows_its_inside_only(tmp_path: Path, saved: Saved, tokens: Tensor) -> None:
    model = saved("bert")[1]
    model.get_submodule("bert").save_pretrained(tmp_path / "bare")  # type: ignore[operator]
    subject = open_source(tmp_path / "bare").snapshot(0).subject()
    with torch.no_grad():
        expected = model(tokens, output_hidden_states=True).hidden_states
    same(look(subject, Probe(tokens), activations=["residual.3"]).activations["residual.3"], expected[3])
    with pytest.raises(PicoLMError, match="stores no head that predicts tokens"):
        look(subject, Probe(tokens, tokens), token_losses=True)


def test_causal_probes_predict_the_next_real_token() -> None:
    tokens = torch.tensor([[5, 6, 7, 8], [5, 6, 1, 1], [5, 1, 1, 1]])
    probe = Probe.causal(tokens, torch.tensor([4, 2, 1]))
    assert probe.input_ids.tolist() == [[5, 6, 7], [5, 6, 1], [5, 1, 1]]
    assert probe.targets is not None and probe.mask is not None
    assert probe.targets.tolist() == [[6, 7, 8], [6, -100, -100], [-100, -100, -100]]
    assert probe.mask.tolist() == [[True, True, True], [True, True, False], [True, False, False]]
    activation = torch.arange(9.0).view(3, 3, 1)
    assert token_rows(activation, probe.real).flatten().tolist() == [0, 1, 2, 3, 4, 6]
    by_head = torch.stack([activation, activation + 100], dim=1)
    assert token_rows(by_head, probe.real).shape == (2, 6, 1)
    assert token_rows(by_head, probe.real)[1].flatten().tolist() == [100, 101, 102, 103, 104, 106]


def test_probes_are_told_apart_by_what_a_model_is_shown(tokens: Tensor) -> None:
    probes = [
        Probe(tokens),
        Probe(tokens[:, :-1]),
        Probe(tokens.flip(0)),
        Probe(tokens, tokens),
        Probe(tokens, None, torch.ones_like(tokens, dtype=torch.bool)),
        Probe(tokens, None, None, torch.ones_like(tokens)),
    ]
    assert len({probe.digest for probe in probes}) == len(probes)
    assert Probe(tokens.clone()).digest == Probe(tokens).digest
