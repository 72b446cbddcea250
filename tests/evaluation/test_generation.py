import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import picolm
from picolm.errors import PicoLMError
from picolm.evaluation.diversity import distinct, ngrams, repetition
from picolm.evaluation.generation import Sample, sample_figures
from picolm.evaluation.task import Found, Subject, parse_task
from picolm.model.generation import Sampling, generate
from picolm.model.transformer import Transformer
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import read_evaluations
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, material, tiny_model

PROMPTS = ["one two", "The cats", "A: Where"]
LISTED = "prompts='[one two, The cats, \"A: Where\"]'"


def found(model: Transformer, tokenizer: Tokenizer, words: str, **changes: Any) -> tuple[Found, list[dict[str, Any]]]:
    task = parse_task(words)
    task.prepare(material(model, tokenizer))
    made = task.measure(Subject(engine(model, **changes)))
    return made, [json.loads(line) for line in made.files["texts.jsonl"].decode().splitlines()]


def values(made: Found) -> dict[str, float]:
    return {figure.metric: figure.value for figure in made.figures}


def test_texts_are_those_of_generate(trained: RunDirectory, tmp_path: Path) -> None:
    words = "generation prompts='[zero one, seven]' count=2 max_tokens=9 temperature=0.9 top_k=50 top_p=0.9 seed=3"
    rows = picolm.evaluate(trained.path, [words], checkpoints=[0, 8], out=tmp_path)
    assert {row.step for row in rows} == {0, 8}
    for step in (0, 8):
        (file,) = (tmp_path / "files").glob(f"step-{step:08d}.generation.*.texts.jsonl")
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        wanted = picolm.generate_texts(
            trained.checkpoint_path(step),
            ["zero one", "seven"],
            count=2,
            max_tokens=9,
            sampling=Sampling(0.9, 50, 0.9),
            seed=3,
        )
        assert [(line["prompt"], line["key"], line["text"], line["ended"]) for line in lines] == [
            (made.prompt, made.key, made.text, made.ended) for made in wanted
        ]
    assert read_evaluations(tmp_path).num_rows == len(rows)


def test_the_same_seed_gives_the_same_bytes(causal: Transformer, tokenizer: Tokenizer) -> None:
    words = f"generation {LISTED} count=7 max_tokens=6"
    first, second = (found(causal, tokenizer, words)[0] for _ in range(2))
    assert first.files == second.files and first.figures == second.figures
    assert found(causal, tokenizer, f"{words} seed=1")[0].files != first.files


def test_a_text_depends_on_its_own_prompt_alone(causal: Transformer, tokenizer: Tokenizer) -> None:
    _, lines = found(causal, tokenizer, f"generation {LISTED} count=7 max_tokens=6")
    _, alone = found(causal, tokenizer, "generation prompts='[The cats]' count=3 max_tokens=6")
    assert alone == [line for line in lines if line["prompt"] == "The cats"][:3]


@pytest.mark.parametrize("max_tokens", [5, 120], ids=["within the window", "beyond it"])
def test_log_probabilities_are_those_of_what_was_drawn(
    causal: Transformer, tokenizer: Tokenizer, max_tokens: int
) -> None:
    made, lines = found(causal, tokenizer, f"generation {LISTED} max_tokens={max_tokens} temperature=1.5")
    total, n_drawn = 0.0, 0
    for line in lines:
        ids = [tokenizer.separator_id, *tokenizer.encode(line["prompt"]).tolist()]
        drawing, stop = Sampling(1.5, 0, 0.95), tokenizer.separator_id
        draws = list(generate(causal, ids, max_tokens=max_tokens, sampling=drawing, seed=0, stop=stop))
        assert tokenizer.decode(draws) == line["text"] and len(draws) == line["tokens"]
        draws += [tokenizer.separator_id] * (line["ended"] == "document")
        sums = 0.0
        for token in draws:
            seen = torch.tensor([ids[-causal.config.max_length :]])
            with torch.no_grad():
                sums += float(causal.logits(causal(seen))[0, -1].log_softmax(-1)[token])
            ids.append(token)
        assert line["log_p"] == pytest.approx(sums, abs=1e-5)
        total, n_drawn = total + sums, n_drawn + len(draws)
    (figure,) = [figure for figure in made.figures if figure.metric == "mean_log_p"]
    assert figure.value == pytest.approx(total / n_drawn) and figure.n == n_drawn


def test_figures_are_those_of_the_texts(causal: Transformer, tokenizer: Tokenizer) -> None:
    made, lines = found(causal, tokenizer, f"generation {LISTED} count=4 max_tokens=40 temperature=1.2")
    figures = values(made)
    assert figures["tokens"] == pytest.approx(np.mean([line["tokens"] for line in lines]))
    assert figures["ended"] == pytest.approx(100 * np.mean([line["ended"] == "document" for line in lines]))
    words = [line["text"].split() for line in lines]
    assert figures["distinct_1"] == len({word for own in words for word in own}) / sum(map(len, words))
    assert {"distinct_2", "distinct_3", "repetition_4"} <= figures.keys()


def test_a_model_that_repeats_itself_is_seen_to() -> None:
    texts = ["a b a b a b a b", "the same words", "the same words"]
    samples = [Sample("", key, text, 8, key == 1, np.array([-1.0, -3.0])) for key, text in enumerate(texts)]
    figures = {figure.metric: figure for figure in sample_figures(samples)}
    # 5 different words of 14; a b, b a, the same, same words of 11; of 4-grams a b a b, b a b a among 5.
    assert figures["distinct_1"].value == pytest.approx(5 / 14) and figures["distinct_2"].value == pytest.approx(4 / 11)
    assert figures["repetition_4"].value == pytest.approx(1 - 2 / 5) and figures["repetition_4"].n == 1
    assert figures["ended"].value == pytest.approx(100 / 3) and figures["mean_log_p"].value == -2.0
    assert figures["ended"].se == pytest.approx(100 * math.sqrt(2 / 9 * 3 / 2 / 3))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=5), st.integers(1, 4))
def test_diversity_by_brute_force(texts: list[list[str]], n: int) -> None:
    runs = [[tuple(own[i : i + n]) for i in range(len(own) - n + 1)] for own in texts]
    assert [ngrams(own, n) for own in texts] == runs
    everything = [run for own in runs for run in own]
    assert distinct(texts, n) == (len(set(everything)) / len(everything) if everything else None)
    for own, its in zip(texts, runs, strict=True):
        repeated = sum(run in its[:place] for place, run in enumerate(its))
        assert repetition(own, n) == (pytest.approx(repeated / len(its)) if its else None)


def test_texts_of_one_word_have_no_longer_ngrams() -> None:
    figures = {figure.metric for figure in sample_figures([Sample("", 0, "word", 1, True, np.array([-1.0]))])}
    assert "distinct_1" in figures and not figures & {"distinct_2", "distinct_3", "repetition_4"}
    empty = {figure.metric for figure in sample_figures([Sample("", 0, "", 0, True, np.array([-1.0]))])}
    assert empty == {"tokens", "ended", "mean_log_p"}


def test_without_prompts_new_documents_begin(causal: Transformer, tokenizer: Tokenizer) -> None:
    _, lines = found(causal, tokenizer, "generation count=3 max_tokens=4")
    assert [(line["prompt"], line["key"]) for line in lines] == [("", 0), ("", 1), ("", 2)]


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.txt.gz", "prompts.jsonl", "prompts.jsonl.gz"])
def test_prompts_may_stand_in_a_file(causal: Transformer, tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS] if "jsonl" in name else PROMPTS
    content = "\n\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    made, _ = found(causal, tokenizer, f"generation:{tmp_path / name} max_tokens=5")
    listed, _ = found(causal, tokenizer, f"generation {LISTED} max_tokens=5")
    assert made.files == listed.files and made.figures == listed.figures


def test_the_model_is_left_as_it_was(tokenizer: Tokenizer) -> None:
    model = tiny_model(tokenizer)
    model.train()
    model.blocks[0].eval()
    modes = [part.training for part in model.modules()]
    found(model, tokenizer, "generation max_tokens=3", precision="bf16")
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_masked_models_are_refused(masked: Transformer, tokenizer: Tokenizer) -> None:
    with pytest.raises(PicoLMError, match="is a masked model, which generates no text"):
        found(masked, tokenizer, "generation")


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("p.txt", b"a\n", "prompts=[b]", r"takes prompts=\[...\] or a file, not both"),
        ("p.txt", b"\n \n", "", "p.txt holds no prompt: write one in each line"),
        ("p.txt", b"a\n\xff\n", "", "p.txt, line 2: byte 0xff"),
        ("p.txt", b"a\nb\na\n", "", "the prompt 'a' stands twice and would be continued alike: ask for count=2"),
        ("p.jsonl", b'{"text": "a"}', "", "line 1 has no field 'prompt'"),
        ("p.jsonl", b'{"prompt": 3}', "", "line 1 has a number in its 'prompt', which must be a string"),
        ("p.jsonl", b"", "", "p.jsonl is empty: it has no prompts"),
        ("p.csv", b"a", "", "p.csv must be a .txt file with a prompt in each line, or a .jsonl file"),
        ("p.txt.gz", b"a", "", "not valid gzip"),
    ],
)
def test_bad_prompts_are_named(
    causal: Transformer, tokenizer: Tokenizer, tmp_path: Path, name: str, content: bytes, settings: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PicoLMError, match=message):
        found(causal, tokenizer, f"generation:{tmp_path / name} {settings}")
