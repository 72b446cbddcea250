"""Trajectories of tokens: what is kept is what a direct forward gives, and the table says where each token stands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import picolm
from picolm.data.prepared import TokenData
from picolm.errors import PicoLMError
from picolm.evaluation.forgetting import forgetting
from picolm.evaluation.located import form_of, words_of
from picolm.evaluation.ngrams import NGrams
from picolm.evaluation.task import Figure, Subject, parse_task
from picolm.evaluation.tokens import STEPS_PER_NAT, packed, unpacked
from picolm.evaluation.trajectories import TokenTrajectories, ngram_distances, read_trajectories
from picolm.evaluation.windows import windows
from picolm.model.transformer import Transformer
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import Evaluated
from picolm.text.tokenizer import Tokenizer

from .conftest import TEXTS, engine, material

ODD = [*TEXTS, "  two  spaces\tand\n\ntabs ", "\u3000全角　空白", "🙂👩‍👩‍👧 é\u0301"]
WINDOW, STRIDE = 24, 9
STEP = 0.5 / STEPS_PER_NAT


def log_p_of(model: Transformer, tokens: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of tokens from `first` on by a direct forward, and whether each is the likeliest."""
    with torch.no_grad():
        logits = model.logits(model(torch.from_numpy(tokens[None, :-1])))[0, first - 1 :].double()
    targets = torch.from_numpy(tokens[first:])
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0].numpy(), (logits.argmax(-1) == targets).numpy()


@pytest.fixture(scope="module")
def followed(trained: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Evaluated]]:
    """The held-out documents at three checkpoints."""
    out = tmp_path_factory.mktemp("tokens") / "eval"
    task = f"tokens tokens_per_domain=0 window={WINDOW} stride={STRIDE} name=followed"
    return out, picolm.evaluate(trained.path, [task], checkpoints="all", out=out)


def value(rows: list[Evaluated], step: int, metric: str, subset: str = "all") -> float:
    (found,) = [row.value for row in rows if (row.step, row.metric, row.subset) == (step, metric, subset)]
    return found


def held_out(run: RunDirectory) -> TokenData:
    return TokenData.open(run.identity["data"]["directory"], verify="sizes")


def test_each_token_of_long_and_short_documents_is_as_in_a_direct_forward(
    trained: RunDirectory, followed: tuple[Path, list[Evaluated]]
) -> None:
    found = read_trajectories(followed[0])
    assert found.steps.tolist() == [0, 4, 8]
    split = held_out(trained).split("validation")
    documents = [split.tokens(start, stop - 1) for start, stop in map(split.document_span, range(split.n_documents))]
    assert found.tokens["token"].to_pylist() == np.concatenate(documents).tolist()
    assert max(map(len, documents)) > WINDOW > min(map(len, documents)), "windows are needed, but not by all"
    for row, step in enumerate(found.steps.tolist()):
        model, tokenizer = picolm.open_model(trained.checkpoint_path(step))
        assert isinstance(model, Transformer)
        parts = [
            log_p_of(model, passage.tokens, passage.first)
            for tokens in documents
            for passage in windows(np.array([tokenizer.separator_id, *tokens]), WINDOW, STRIDE)
        ]
        wanted, right = (np.concatenate(own) for own in zip(*parts, strict=True))
        np.testing.assert_allclose(found.surprisal[row], -wanted, atol=STEP + 1e-5)
        np.testing.assert_array_equal(found.right[row], right)


def test_figures_are_means_of_what_is_kept(followed: tuple[Path, list[Evaluated]]) -> None:
    out, rows = followed
    found = read_trajectories(out)
    domains = np.array(found.tokens["domain"].to_pylist())
    for row, step in enumerate(found.steps.tolist()):
        for subset, own in [("all", domains != ""), ("domain/up", domains == "up"), ("domain/down", domains == "down")]:
            assert value(rows, step, "surprisal", subset) == pytest.approx(found.surprisal[row, own].mean(), abs=STEP)
            assert value(rows, step, "right", subset) == pytest.approx(100 * found.right[row, own].mean())
    assert value(rows, 8, "surprisal") < value(rows, 0, "surprisal")


def test_divergences_are_those_of_whole_distributions(
    trained: RunDirectory, followed: tuple[Path, list[Evaluated]]
) -> None:
    out, rows = followed
    found = read_trajectories(out)
    references = NGrams.of_training(held_out(trained).split("train"), 300, 0)
    model, tokenizer = picolm.open_model(trained.checkpoint_path(8))
    assert isinstance(model, Transformer)
    split = held_out(trained).split("validation")
    spans = map(split.document_span, range(split.n_documents))
    log_q, before = [], []
    for start, stop in spans:
        whole = np.array([tokenizer.separator_id, *split.tokens(start, stop - 1)])
        for passage in windows(whole, WINDOW, STRIDE):
            with torch.no_grad():
                logits = model.logits(model(torch.from_numpy(passage.tokens[None, :-1])))[0, passage.first - 1 :]
            log_q.append(logits.double().log_softmax(-1).numpy())
            before.append(passage.tokens[passage.first - 1 : -1])
    q, u = np.concatenate(log_q), np.concatenate(before)
    everything = np.arange(300)
    table = np.stack([np.exp(-references.bigram_surprisal(np.full(300, one), everything)) for one in range(300)])
    for name, p in (
        ("uniform", np.full((1, 300), 1 / 300)),
        ("unigram", references.unigram[None]),
        ("bigram", table[u]),
    ):
        assert value(rows, 8, f"kl_{name}") == pytest.approx(float((p * (np.log(p) - q)).sum(1).mean()), rel=1e-4)
    bigram = found.tokens["bigram"].to_numpy()
    np.testing.assert_allclose(bigram, references.bigram_surprisal(u, found.tokens["token"].to_numpy()), rtol=1e-6)
    assert value(rows, 0, "kl_uniform") < value(rows, 8, "kl_uniform"), "a model begins at the uniform"


def test_distances_by_surprisal_follow_their_definitions(followed: tuple[Path, list[Evaluated]]) -> None:
    out, rows = followed
    found = read_trajectories(out)
    for name, distance in ngram_distances(found).items():
        reference = found.tokens[name].to_numpy().astype(np.float64)
        for row, step in enumerate(found.steps.tolist()):
            own = found.surprisal[row].astype(np.float64)
            assert distance.correlation[row] == pytest.approx(np.corrcoef(own, reference)[0, 1])
            assert distance.difference[row] == pytest.approx(np.abs(own - reference).mean())
            assert value(rows, step, f"correlation_{name}") == pytest.approx(distance.correlation[row], abs=1e-4)
    some = np.array(found.tokens["domain"].to_pylist()) == "up"
    part = found.where(some)
    assert part.surprisal.shape == (3, some.sum()) and part.tokens.num_rows == some.sum()


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_the_table_says_where_tokens_stand(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], kind: str, tmp_path: Path
) -> None:
    """Also of a character whose bytes are several tokens, and of several spaces."""
    if kind == "characters":
        tokenizer = Tokenizer.characters(ODD)
    file = write_jsonl([{"text": text, "id": f"t{number}"} for number, text in enumerate(ODD)])
    task = parse_task(f"tokens:{file} tokens_per_domain=0")
    task.prepare(material(causal, tokenizer))
    rows = read(task.shared_files()["tokens.parquet"])
    for number, text in enumerate(ODD):
        own = [row for row in rows if row["document"] == number]
        assert [row["token"] for row in own] == tokenizer.encode(text).tolist()
        assert [row["position"] for row in own] == list(range(len(own))) and {row["id"] for row in own} == {
            f"t{number}"
        }
        words = [text[start:stop] for start, stop in words_of(text).tolist()]
        covered = set()
        for row in own:
            assert row["string"] == text[row["start"] : row["stop"]]
            assert text.encode()[row["start_byte"] : row["stop_byte"]].decode() == row["string"]
            covered |= set(range(row["start"], row["stop"]))
            if row["word_number"] < len(words):
                assert row["word"] == form_of(words[row["word_number"]])
                assert row["string"].strip() in words[row["word_number"]]
            else:
                assert row["string"].isspace() and row["word"] == ""
        assert covered == set(range(len(text)))


def read(content: bytes) -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, object]] = pq.read_table(pa.BufferReader(content)).to_pylist()
    return rows


@given(st.lists(st.floats(0, 100), min_size=1))
def test_what_is_kept_is_near_what_was_found(values: list[float]) -> None:
    surprisal = np.array(values)
    kept = unpacked(packed(surprisal))
    below = surprisal < 32 - STEP
    assert (np.abs(kept - surprisal)[below] <= STEP * 1.001).all()
    assert (kept[~below] > 31.99).all()


def test_a_first_token_that_stands_alone_is_left_out(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl([{"text": text} for text in TEXTS])
    counts = []
    for policy in ("bos", "none"):
        task = parse_task(f"tokens:{file} first_token={policy}")
        task.prepare(material(causal, tokenizer))
        (surprisal,) = [
            figure for figure in task.measure(Subject(engine(causal))).figures if figure[:2] == ("all", "surprisal")
        ]
        counts.append(surprisal.n)
        assert len(read(task.shared_files()["tokens.parquet"])) == surprisal.n
    assert counts[0] - counts[1] == len(TEXTS), "also of a text of one token"
    task = parse_task(f"tokens:{write_jsonl([{'text': 'a'}], 'short.jsonl')} first_token=none")
    with pytest.raises(PicoLMError, match="no token that is scored: with first_token=none a text needs two"):
        task.prepare(material(causal, tokenizer))


def test_without_training_tokens_there_is_no_ngram(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    task = parse_task(f"tokens:{write_jsonl([{'text': text} for text in TEXTS])}")
    assert task.prepare(material(causal, tokenizer))["counted"] is None
    figures: list[Figure] = list(task.measure(Subject(engine(causal))).figures)
    assert {figure.metric for figure in figures} == {"surprisal", "right", "kl_uniform"}
    table = pa.Table.from_pylist(read(task.shared_files()["tokens.parquet"]))
    alone = TokenTrajectories(np.array([1]), np.zeros((1, 3), np.float32), np.ones((1, 3), bool), table, 300)
    with pytest.raises(PicoLMError, match="there is no n-gram to compare with"):
        ngram_distances(alone)


# Reading.


def test_what_cannot_be_read_says_so(
    trained: RunDirectory, followed: tuple[Path, list[Evaluated]], tmp_path: Path, model_directory: Path
) -> None:
    with pytest.raises(PicoLMError, match="has no evaluation by the task tokens"):
        read_trajectories(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(followed[0], copy)
    picolm.evaluate(trained.path, ["tokens tokens_per_domain=100 name=short"], checkpoints=[4], out=copy)
    with pytest.raises(PicoLMError, match=r"has several evaluations by tokens: .*'short' \(\w{16}\)"):
        read_trajectories(copy)
    assert read_trajectories(copy, "short").steps.tolist() == [4]
    (part,) = [json.loads(file.read_text()) for file in copy.glob("*.json") if '"short"' in file.read_text()]
    assert read_trajectories(copy, part["hash"][:10]).steps.tolist() == [4]
    with pytest.raises(PicoLMError, match="has no tokens named 'shorter'; did you mean 'short'"):
        read_trajectories(copy, "shorter")
    damaged = next((copy / "files").glob("step-00000008.tokens.*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert read_trajectories(copy, "followed").steps.tolist() == [0, 4], "only what is whole"
    source = tmp_path / "text.jsonl"
    source.write_text(json.dumps({"text": "one two three"}))
    picolm.evaluate(model_directory, [f"tokens:{source}"], out=tmp_path / "model")
    with pytest.raises(PicoLMError, match="is of a model whose step is not known"):
        read_trajectories(tmp_path / "model")


def test_what_has_no_surprisal_says_so(
    causal: Transformer, masked: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl([{"text": "one two"}])
    with pytest.raises(PicoLMError, match="masked model, which has no surprisal"):
        parse_task(f"tokens:{file}").prepare(material(masked, tokenizer))
    with pytest.raises(PicoLMError, match="no held-out documents: name a source"):
        parse_task("tokens").prepare(material(causal, tokenizer))
    with pytest.raises(PicoLMError, match="window=97 is larger than the model's own, 96"):
        parse_task(f"tokens:{file} window=97").prepare(material(causal, tokenizer))
    with pytest.raises(PicoLMError, match="there is no text in it"):
        parse_task(f"tokens:{write_jsonl([{'text': ' '}], 'blank.jsonl')}").prepare(material(causal, tokenizer))


# Forgetting.


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8))
def test_forgetting_is_counted_as_by_a_walk(columns: list[list[bool]]) -> None:
    known = np.array(columns).T
    found = forgetting(known)
    for place, own in enumerate(columns):
        learned, events, relearned, is_known = -1, 0, 0, False
        for step, now in enumerate(own):
            events += is_known and not now
            relearned += now and not is_known and learned >= 0
            learned = step if now and learned < 0 else learned
            is_known = now
        got = (found.learned_at[place], found.events[place], found.relearned[place])
        assert got == (learned, events, relearned)
        assert found.unforgettable[place] == (learned >= 0 and all(own[learned:]))
