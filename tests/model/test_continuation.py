from itertools import pairwise

import pytest
import torch

from picolm.config import schema
from picolm.model.continuation import Continuation, continue_texts
from picolm.model.generation import Sampling
from picolm.model.initialization import build_model
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer

GREEDY = Sampling(0.0)
STORY = "the cat sat. ENDING: naïve café"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe([STORY, "the cat sat", "the END", "sat. E"] * 5, 300)


@pytest.fixture(scope="module")
def parrot(tokenizer: Tokenizer) -> Transformer:
    """A model that says the story, whatever the prompt, and then ends the document: each token predicts the next."""
    ids = [tokenizer.separator_id, *tokenizer.encode(STORY).tolist(), tokenizer.separator_id]
    assert len(set(ids)) == len(ids) - 1, "a token that comes twice would have two successors"
    config = schema.Model(
        vocab_size=tokenizer.vocab_size, d_model=320, n_layers=1, n_heads=2, n_kv_heads=1, d_ffn=2, max_length=64
    )
    model = build_model(config, seed=0)
    for name, parameter in model.named_parameters():
        if name.startswith("layers") and "norm" not in name:
            parameter.data.zero_()
    model.embedding.weight.data = torch.eye(tokenizer.vocab_size, 320)
    model.output_matrix.data.zero_()
    for token, successor in pairwise(ids):
        model.output_matrix.data[successor, token] = 1.0
    return model


def said(parrot: Transformer, tokenizer: Tokenizer, *stop: str, prompts: tuple[str, ...] = ("",)) -> list[Continuation]:
    return continue_texts(parrot, tokenizer, prompts, max_tokens=60, sampling=GREEDY, seed=0, stop=stop, batch_size=2)


def test_a_text_ends_with_its_document_or_after_enough_tokens(parrot: Transformer, tokenizer: Tokenizer) -> None:
    (made,) = said(parrot, tokenizer)
    assert made == Continuation("", STORY, 0, "document")
    (short,) = continue_texts(parrot, tokenizer, [""], max_tokens=3, sampling=GREEDY, seed=0)
    assert short.ended == "max_tokens" and STORY.startswith(short.text) and short.text


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_stop_string_may_begin_and_end_anywhere(parrot: Transformer, tokenizer: Tokenizer, length: int) -> None:
    whole = {tokenizer.decode([token]) for token in tokenizer.encode(STORY)}
    assert max(map(len, whole)) > 2, "tokens of several characters, or nothing begins inside of one"
    for start in range(len(STORY) - length + 1):
        stop = STORY[start : start + length]
        (made,) = said(parrot, tokenizer, stop)
        assert made == Continuation("", STORY[: STORY.index(stop)], 0, "stop")


def test_each_row_of_each_batch_stops_by_itself(parrot: Transformer, tokenizer: Tokenizer) -> None:
    prompts = ("", "the cat", STORY, "", "the")
    texts = said(parrot, tokenizer, "END", prompts=prompts)
    alone = [said(parrot, tokenizer, "END", prompts=(prompt,))[0] for prompt in prompts]
    assert texts == alone
    assert [made.ended for made in texts] == ["stop", "stop", "document", "stop", "stop"]
    assert texts[1].text == " sat. " and texts[2].text == ""


def test_what_is_told_on_the_way_is_never_taken_back(parrot: Transformer, tokenizer: Tokenizer) -> None:
    told: list[str] = []
    (made,) = continue_texts(
        parrot,
        tokenizer,
        [""],
        max_tokens=60,
        sampling=GREEDY,
        seed=0,
        stop=["ENDING:"],
        on_text=lambda _, text: told.append(text),
    )
    assert made.text == "the cat sat. "
    assert len(set(told)) > 2 and all(made.text.startswith(text) for text in told)
