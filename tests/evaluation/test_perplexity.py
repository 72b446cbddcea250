import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from picolm.errors import PicoLMError
from picolm.evaluation.perplexity import PICO
from picolm.evaluation.task import Figure, Subject, parse_task
from picolm.evaluation.texts import tinsy_texts
from picolm.model.transformer import Transformer
from picolm.text.document import Document
from picolm.text.tokenizer import Tokenizer

from .conftest import TEXTS, engine, material

Table = Mapping[tuple[str, str], Figure]
RECORDS = [{"text": text, "domain": "odd" if number % 2 else "even"} for number, text in enumerate(TEXTS)]


def measured(model: Transformer, tokenizer: Tokenizer, words: str) -> Table:
    task = parse_task(words)
    task.prepare(material(model, tokenizer))
    return {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}


def losses_of(model: Transformer, tokens: list[int]) -> list[float]:
    with torch.no_grad():
        log_p = model.logits(model(torch.tensor([tokens[:-1]])))[0].log_softmax(-1)
    return (-log_p.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]).tolist()


def test_three_averages_equal_a_computation_document_by_document(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    found = measured(causal, tokenizer, f"perplexity:{write_jsonl(RECORDS)}")
    losses = [losses_of(causal, [tokenizer.separator_id, *tokenizer.encode(text).tolist()]) for text in TEXTS]
    domains = {"even": range(0, len(TEXTS), 2), "odd": range(1, len(TEXTS), 2)}
    corpus = sum(map(sum, losses)) / sum(map(len, losses))
    assert found["all", "loss"].value == pytest.approx(corpus, rel=1e-10)
    assert found["all", "perplexity"].value == pytest.approx(math.exp(corpus), rel=1e-10)
    assert found["all", "loss"].n == sum(map(len, losses))
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert found["all", "bits_per_byte"].value == pytest.approx(sum(map(sum, losses)) / math.log(2) / n_bytes)
    assert found["all", "bits_per_byte"].n == n_bytes
    each = [sum(sum(losses[i]) for i in own) / sum(len(losses[i]) for i in own) for own in domains.values()]
    for name, loss in zip(domains, each, strict=True):
        assert found[f"domain/{name}", "loss"].value == pytest.approx(loss, rel=1e-10)
        assert found[f"domain/{name}", "texts"].value == 4
    assert found["all", "macro_perplexity"].value == pytest.approx(np.exp(each).mean(), rel=1e-10)
    assert found["all", "macro_loss"].value == pytest.approx(np.mean(each), rel=1e-10)


def test_picos_figure_follows_its_definition(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    """Mean over texts of exp(mean loss), without a token in front; one-token texts have none."""
    words = f"perplexity:{write_jsonl(RECORDS)} window=12"
    found = measured(causal, tokenizer, words)
    ids = [tokenizer.encode(text).tolist()[:12] for text in TEXTS]
    wanted = [math.exp(np.mean(losses_of(causal, one))) for one in ids if len(one) > 1]
    assert found["all", PICO].value == pytest.approx(np.mean(wanted), rel=1e-10)
    assert found["all", PICO].n == len(wanted) == len(TEXTS) - 1
    assert ("all", PICO) not in measured(causal, tokenizer, f"{words} pico_figure=false")


def test_windows_equal_a_computation_by_hand(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    text = TEXTS[5]
    tokens = [tokenizer.separator_id, *tokenizer.encode(text).tolist()]
    window, stride = 8, 3
    found = measured(causal, tokenizer, f"perplexity:{write_jsonl([{'text': text}])} window={window} stride={stride}")
    total = sum(losses_of(causal, tokens[: window + 1]))
    end = window
    while end < len(tokens) - 1:
        new = min(stride, len(tokens) - 1 - end)
        end += new
        total += sum(losses_of(causal, tokens[end - window : end + 1])[-new:])
    assert found["all", "loss"].value == pytest.approx(total / (len(tokens) - 1), rel=1e-10)
    assert found["all", "loss"].n == len(tokens) - 1, "each token once"


def test_a_stride_decides_nothing_where_texts_fit(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl(RECORDS)
    one, other = (
        measured(causal, tokenizer, f"perplexity:{file} stride={stride}")["all", "loss"] for stride in (1, 96)
    )
    assert one.value == pytest.approx(other.value, rel=1e-12)


def test_palomas_form_means_over_the_domains_of_each_source(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    places = [("m2d2", "art"), ("m2d2", "art"), ("m2d2", "maths"), ("c4", "c4"), ("c4", "c4"), ("ptb", None)]
    records: list[dict[str, Any]] = []
    for number, (source, inner) in enumerate(places):
        key = "domain" if source == "c4" else "subdomain"
        records.append({"text": TEXTS[number], "source": source, **({key: inner} if inner else {})})
    file = write_jsonl(records, "paloma.jsonl")
    found = measured(causal, tokenizer, f"perplexity:{file} form=paloma")
    of = {subset: figure.value for (subset, metric), figure in found.items() if metric == "perplexity"}
    assert {"domain/m2d2/art", "domain/m2d2/maths", "domain/c4/c4", "domain/ptb/paloma", "source/m2d2"} < of.keys()
    art, maths = of["domain/m2d2/art"], of["domain/m2d2/maths"]
    assert found["source/m2d2", "macro_perplexity"].value == pytest.approx((art + maths) / 2)
    assert found["source/c4", "macro_perplexity"].value == pytest.approx(of["source/c4"])
    everything = (art, maths, of["domain/c4/c4"], of["domain/ptb/paloma"])
    assert found["all", "macro_perplexity"].value == pytest.approx(np.mean(everything))


def test_tinsy_chunks_are_full_and_hold_the_text_in_order(tokenizer: Tokenizer) -> None:
    documents = [
        Document(f"{domain}{number}", f"{TEXTS[5]} {number}", domain) for domain in "ab" for number in range(130)
    ]
    made = tinsy_texts(documents, tokenizer, window=50, chunks=7, seed=42)
    assert [text.domain for text in made] == ["a"] * 7 + ["b"] * 7
    assert all(len(text.tokens) == 50 and text.n_bytes is None for text in made)
    whole = tinsy_texts(documents, tokenizer, window=50, chunks=10**6, seed=42)
    separators = sum(int((text.tokens == tokenizer.separator_id).sum()) for text in whole)
    assert 200 < separators <= 260, "a separator ends each document; the last chunk of each hundred is left out"
    again = tinsy_texts(documents, tokenizer, window=50, chunks=7, seed=42)
    other = tinsy_texts(documents, tokenizer, window=50, chunks=7, seed=43)
    assert all((a.tokens == b.tokens).all() for a, b in zip(made, again, strict=True))
    assert any((a.tokens != b.tokens).any() for a, b in zip(made, other, strict=True))
    with pytest.raises(PicoLMError, match="no domain has enough text"):
        tinsy_texts(documents[:1], tokenizer, window=500, chunks=7, seed=42)


def test_tinsy_is_measured_by_domain(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    found = measured(causal, tokenizer, f"perplexity:{write_jsonl(RECORDS)} form=tinsy window=20")
    assert found["domain/odd", "loss"].n % 20 == 0 and ("all", PICO) in found
    assert ("all", "bits_per_byte") not in found, "chunks are no text, so they have no bytes"


def test_the_error_of_a_loss_is_over_documents(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    found = measured(causal, tokenizer, f"perplexity:{write_jsonl(RECORDS)}")
    losses = [losses_of(causal, [tokenizer.separator_id, *tokenizer.encode(text).tolist()]) for text in TEXTS]
    sums, counts = np.array([sum(x) for x in losses]), np.array([len(x) for x in losses])
    draw = np.random.default_rng(0).integers(0, len(TEXTS), size=(50_000, len(TEXTS)))
    bootstrap = (sums[draw].sum(1) / counts[draw].sum(1)).std()
    # The formula is the first order of what is resampled; eight texts are few.
    assert found["all", "loss"].se == pytest.approx(bootstrap, rel=0.35)
    assert measured(causal, tokenizer, f"perplexity:{write_jsonl(RECORDS[:1])}")["all", "loss"].se is None


def test_documents_are_drawn_while_they_fit(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    records = [{"text": TEXTS[5], "domain": "d"}] * 20
    count = len(tokenizer.encode(TEXTS[5]))
    found = measured(causal, tokenizer, f"perplexity:{write_jsonl(records)} tokens_per_domain={3 * count + 1}")
    assert found["all", "texts"].value == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("window=97", "window=97 is larger than the model's own, 96"),
        ("window=8 stride=9", "stride=9 is larger than the window of 8"),
        ("text_field=body", "has no text field 'body'"),
        ("form=paloma", "has no field 'source', which form=paloma needs"),
        ("form=tinsy window=96", "no domain has enough text for a chunk of 96 tokens"),
    ],
)
def test_mistakes_are_named(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], settings: str, message: str
) -> None:
    file = write_jsonl([{"text": "one two", "domain": "d"}])
    with pytest.raises(PicoLMError) as error:
        measured(causal, tokenizer, f"perplexity:{file} {settings}")
    assert message in str(error.value)


def test_what_has_no_perplexity_says_so(
    causal: Transformer, masked: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    with pytest.raises(PicoLMError, match="masked model, which has no perplexity"):
        measured(masked, tokenizer, f"perplexity:{write_jsonl(RECORDS)}")
    with pytest.raises(PicoLMError, match="a model has no held-out documents: name a source"):
        measured(causal, tokenizer, "perplexity")
    with pytest.raises(PicoLMError, match="form=paloma needs a source"):
        measured(causal, tokenizer, "perplexity form=paloma")


def test_json_lines_with_damage_are_named_by_line(causal: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text(json.dumps({"text": "one"}) + "\n{\n")
    with pytest.raises(PicoLMError, match=r"corpus\.jsonl, line 2 is not valid JSON"):
        measured(causal, tokenizer, f"perplexity:{file}")
