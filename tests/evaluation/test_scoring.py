import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.evaluation.batching import bucketed
from picolm.evaluation.masked import Hiding, MaskedScorer, word_numbers
from picolm.evaluation.scoring import CausalScorer, FirstToken, score_passages
from picolm.evaluation.trees import Passage, grow
from picolm.evaluation.windows import windows
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

from .conftest import TEXTS, engine


def by_hand(model: Transformer, tokens: list[int], first: int = 1) -> list[float]:
    """Each token's log p from its own forward over nothing but what stands before it."""
    found = []
    with torch.no_grad():
        for place in range(first, len(tokens)):
            logits = model.logits(model(torch.tensor([tokens[:place]])))[0, -1]
            found.append(float(logits.log_softmax(-1)[tokens[place]]))
    return found


@pytest.mark.parametrize("first_token", ["bos", "none"])
@pytest.mark.parametrize("batch_tokens", [1, 40, 100_000])
def test_causal_scores_equal_a_computation_token_by_token(
    causal: Transformer, tokenizer: Tokenizer, first_token: FirstToken, batch_tokens: int
) -> None:
    scorer = CausalScorer(engine(causal, batch_tokens=batch_tokens), tokenizer, first_token=first_token)
    scores = scorer.score(TEXTS)
    for number, text in enumerate(TEXTS):
        prefix = [tokenizer.separator_id] if first_token == "bos" else []
        wanted = by_hand(causal, prefix + tokenizer.encode(text).tolist())
        np.testing.assert_allclose(scores.per_token[number], wanted, rtol=0, atol=1e-10)
        assert scores.log_p[number] == pytest.approx(sum(wanted), abs=1e-9)
        assert scores.tokens[number] == len(wanted)
        assert scores.bytes[number] == len(text.encode())
    assert scores.tokens[2] == (1 if first_token == "bos" else 0)
    assert np.isfinite(scores.mean()).all()


def test_scores_in_float32_are_within_a_ten_thousandth(causal: Transformer, tokenizer: Tokenizer) -> None:
    exact = CausalScorer(engine(causal), tokenizer).score(TEXTS)
    single = CausalScorer(engine(copy.deepcopy(causal).float()), tokenizer).score(TEXTS)
    np.testing.assert_allclose(single.log_p, exact.log_p, rtol=0, atol=1e-4)


@pytest.mark.parametrize("first_token", ["bos", "none"])
def test_pairs_share_the_tokens_with_which_both_begin(
    causal: Transformer, tokenizer: Tokenizer, first_token: FirstToken
) -> None:
    good = [*TEXTS, "The cats are", "The", "b", "The same"]
    bad = [*reversed(TEXTS), "The cats", "The cats are", "c", "The same"]
    scorer = CausalScorer(engine(causal, batch_tokens=64), tokenizer, first_token=first_token)
    for shared, alone in zip(scorer.score_pairs(good, bad), (scorer.score(good), scorer.score(bad)), strict=True):
        np.testing.assert_allclose(shared.log_p, alone.log_p, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(shared.tokens, alone.tokens)
    of_good, of_bad = scorer.score_pairs(good, bad)
    assert of_good.log_p[-1] == of_bad.log_p[-1], "equal texts are equal to the last bit"


@settings(max_examples=15)
@given(order=st.permutations(range(len(TEXTS))), batch_tokens=st.integers(1, 300))
def test_order_and_batch_size_change_no_sum(
    causal: Transformer, tokenizer: Tokenizer, order: list[int], batch_tokens: int
) -> None:
    usual = CausalScorer(engine(causal), tokenizer).score(TEXTS).log_p
    other = CausalScorer(engine(causal, batch_tokens=batch_tokens), tokenizer).score([TEXTS[i] for i in order]).log_p
    np.testing.assert_allclose(other, usual[order], rtol=0, atol=1e-9)


def test_apart_leaves_out_what_both_begin_with(causal: Transformer, tokenizer: Tokenizer) -> None:
    good = ["The cats are", "The", "b", "The same", "The cats are"]
    bad = ["The cats", "The cats are", "c", "The same", "The cats is"]
    scorer = CausalScorer(engine(causal), tokenizer)
    whole, parts = scorer.score_pairs(good, bad), scorer.score_pairs(good, bad, apart=True)
    differences = [one.log_p - other.log_p for one, other in (whole, parts)]
    np.testing.assert_allclose(differences[0], differences[1], rtol=0, atol=1e-9)
    assert differences[1][3] == 0.0 and parts[0].tokens[3] == 0
    np.testing.assert_array_equal(whole[0].tokens - parts[0].tokens, whole[1].tokens - parts[1].tokens)
    assert parts[0].tokens[4] < whole[0].tokens[4]


PASSAGES = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(1, 4)), min_size=1, max_size=25
)


@settings(max_examples=25, deadline=None)
@given(drawn=PASSAGES, usual=st.integers(1, 30), as_trees=st.booleans())
def test_passages_that_begin_alike_equal_a_computation_token_by_token(
    causal: Transformer, drawn: list[tuple[list[int], int]], usual: int, as_trees: bool
) -> None:
    passages = [Passage(np.array(tokens), first) for tokens, first in drawn]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("picolm.evaluation.scoring._WORTHWHILE", 2.0 if as_trees else 0.0)
        patched.setattr("picolm.evaluation.trees.USUAL_ROW", usual)
        counted: list[int] = []
        found = score_passages(engine(causal, batch_tokens=20), passages, counted.append)
    assert sum(counted) == len(passages)
    for log_p, (tokens, first) in zip(found, drawn, strict=True):
        np.testing.assert_allclose(log_p, by_hand(causal, tokens, first), rtol=0, atol=1e-10)


@given(drawn=PASSAGES, usual=st.integers(1, 30))
def test_trees_hold_each_passage_once_and_nothing_twice(drawn: list[tuple[list[int], int]], usual: int) -> None:
    passages = [Passage(np.array(tokens), first) for tokens, first in drawn]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("picolm.evaluation.trees.USUAL_ROW", usual)
        trees = list(grow(passages, range(len(passages))))
    assert sorted(number for tree in trees for number, _ in tree.members) == list(range(len(passages)))
    for tree in trees:
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
        assert len(set(paths)) == len(paths), "a beginning is read once"
        scored = [(paths[place], target) for place, target in zip(tree.places, tree.targets, strict=True)]
        assert len(set(scored)) == len(scored), "a token behind a beginning is scored once"
        for number, own in tree.members:
            tokens, first = drawn[number]
            wanted = [(tuple(tokens[:place]), tokens[place]) for place in range(first, len(tokens))]
            assert [scored[place] for place in own] == wanted


def test_choices_behind_a_long_beginning_share_it() -> None:
    context = np.arange(150)
    passages = [Passage(np.concatenate([context, [200 + n, 300 + n]]), 150) for n in range(4)]
    (tree,) = grow(passages, range(4))
    assert len(tree.tokens) == 150 + 4 and len(tree.targets) == 8


def test_a_bos_of_its_own_is_put_first(causal: Transformer, tokenizer: Tokenizer) -> None:
    scores = CausalScorer(engine(causal), tokenizer, bos=7).score(["The dog"])
    assert scores.log_p[0] == pytest.approx(sum(by_hand(causal, [7, *tokenizer.encode("The dog")])), abs=1e-9)


def test_a_completion_is_scored_behind_its_prefix(causal: Transformer) -> None:
    passages = [Passage(np.array([1, 5, 9, 11, 3]), 3), Passage(np.array([4, 2]), 1), Passage(np.array([4]), 1)]
    found = score_passages(engine(causal), passages)
    np.testing.assert_allclose(found[0], by_hand(causal, [1, 5, 9, 11, 3], first=3), atol=1e-10)
    assert [len(log_p) for log_p in found] == [2, 1, 0]


def hidden_by_hand(
    model: Transformer, tokenizer: Tokenizer, text: str, hiding: Hiding, first_token: str
) -> list[float]:
    """One forward for each token, unbatched and without any padding."""
    (ids, spans) = tokenizer.encode_spans([text])[0]
    border = [tokenizer.separator_id] if first_token == "bos" else []
    words = word_numbers(text, spans)
    found = []
    for place, token in enumerate(ids.tolist()):
        row = [*border, *ids.tolist(), *border]
        for other in range(place, len(ids)):
            if other == place or (hiding == "within_word_l2r" and words[other] == words[place]):
                assert tokenizer.mask_id is not None
                row[len(border) + other] = tokenizer.mask_id
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([row])))[0, len(border) + place]
        found.append(float(logits.log_softmax(-1)[token]))
    return found


@pytest.mark.parametrize("hiding", ["original", "within_word_l2r"])
@pytest.mark.parametrize(("first_token", "batch_tokens"), [("bos", 1), ("bos", 100), ("none", 100_000)])
def test_masked_scores_equal_a_computation_token_by_token(
    masked: Transformer, tokenizer: Tokenizer, hiding: Hiding, first_token: FirstToken, batch_tokens: int
) -> None:
    scorer = MaskedScorer(engine(masked, batch_tokens=batch_tokens), tokenizer, first_token=first_token, hiding=hiding)
    scores = scorer.score(TEXTS)
    for number, text in enumerate(TEXTS):
        wanted = hidden_by_hand(masked, tokenizer, text, hiding, first_token)
        np.testing.assert_allclose(scores.per_token[number], wanted, rtol=0, atol=1e-10)


def test_hiding_differs_only_where_a_word_has_several_tokens(masked: Transformer, tokenizer: Tokenizer) -> None:
    texts = ["The dog", "unbelievably"]
    original, l2r = (
        MaskedScorer(engine(masked), tokenizer, hiding=hiding).score(texts)
        for hiding in ("original", "within_word_l2r")
    )
    for number, text in enumerate(texts):
        words = word_numbers(text, tokenizer.encode_spans([text])[0][1])
        last = [place for place, word in enumerate(words) if place + 1 == len(words) or words[place + 1] != word]
        np.testing.assert_allclose(original.per_token[number][last], l2r.per_token[number][last], atol=1e-10)
    assert abs(original.log_p[1] - l2r.log_p[1]) > 1e-6


@pytest.mark.parametrize(
    ("text", "spans", "wanted"),
    [
        ("The dog", [(0, 3), (3, 7)], [0, 1]),
        ("undoing it", [(0, 2), (2, 7), (7, 10)], [0, 0, 1]),
        ("Ada, 12", [(0, 3), (3, 4), (4, 6), (6, 7)], [0, 1, 2, 2]),
        ("don't", [(0, 3), (3, 5)], [0, 1]),
        (" a b", [(0, 1), (1, 2), (2, 3), (3, 4)], [0, 0, 1, 1]),
        ("The dog", [(0, 3), (4, 7)], [0, 1]),
        ("é", [(0, 1), (0, 1)], [0, 0]),
        ("猫が", [(0, 1), (0, 1), (1, 2)], [0, 0, 0]),
    ],
)
def test_words_are_found_from_the_characters_of_tokens(
    text: str, spans: list[tuple[int, int]], wanted: list[int]
) -> None:
    assert word_numbers(text, np.array(spans, dtype=np.int32)) == wanted


def test_words_agree_with_those_of_the_library(tokenizer: Tokenizer) -> None:
    for text in TEXTS[:3] + TEXTS[5:]:
        encoding = tokenizer._inner.encode(text, add_special_tokens=False)
        theirs = encoding.word_ids
        ours = word_numbers(text, tokenizer.encode_spans([text])[0][1])
        assert [a == b for a, b in pairwise(ours)] == [a == b for a, b in pairwise(theirs)], text


def test_a_text_beyond_the_window_is_refused_with_its_place(causal: Transformer, tokenizer: Tokenizer) -> None:
    long = "one two " * 60
    with pytest.raises(
        PicoLMError, match=r"pairs.jsonl, line 3 has \d+ tokens, but the model's window has room for 96"
    ):
        CausalScorer(engine(causal), tokenizer).score([long], ["pairs.jsonl, line 3"])


def test_a_text_as_long_as_the_window_is_scored(causal: Transformer) -> None:
    tokens = np.arange(97) % 50
    (found,) = score_passages(engine(causal), [Passage(tokens, 1)])
    assert len(found) == 96


def test_a_masked_model_without_a_mask_token_is_refused(masked: Transformer) -> None:
    import tokenizers
    from tokenizers import models

    inner = tokenizers.Tokenizer(models.BPE({"</s>": 0, "a": 1}, []))
    with pytest.raises(PicoLMError, match="mask token"):
        MaskedScorer(engine(masked), Tokenizer(inner, "</s>"))


def test_scoring_leaves_the_model_as_it_was(causal: Transformer, tokenizer: Tokenizer) -> None:
    causal.train()
    causal.layers[0].eval()
    state = torch.random.get_rng_state()
    CausalScorer(engine(causal), tokenizer).score(TEXTS)
    assert causal.training and not causal.layers[0].training and causal.layers[1].training
    assert torch.equal(state, torch.random.get_rng_state())
    causal.eval()


@given(lengths=st.lists(st.integers(1, 50), max_size=60), budget=st.integers(1, 200))
def test_batches_hold_every_sequence_once_and_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(bucketed(lengths, budget))
    assert sorted(np.concatenate([np.empty(0, dtype=np.int64), *batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= budget


@given(n=st.integers(1, 80), window=st.integers(1, 20), data=st.data())
def test_windows_score_each_token_once_with_enough_before_it(n: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    tokens = np.arange(n)
    scored: list[int] = []
    for passage in windows(tokens, window, stride):
        assert len(passage.tokens) <= window + 1 and passage.first >= 1
        np.testing.assert_array_equal(np.diff(passage.tokens), 1)
        for place in range(passage.first, len(passage.tokens)):
            token = int(passage.tokens[place])
            assert place == token or place >= window - stride + 1, "all before it, or at least that much"
            scored.append(token)
    assert scored == list(range(1, n))


def test_bf16_is_near_float32(tokenizer: Tokenizer, causal: Transformer) -> None:
    model = copy.deepcopy(causal).float()
    exact = CausalScorer(engine(model), tokenizer).score(TEXTS).mean()
    rounded = CausalScorer(engine(model, precision="bf16"), tokenizer).score(TEXTS).mean()
    assert 0 < np.abs(exact - rounded).max() < 0.1
