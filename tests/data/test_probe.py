import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from picolm.config import schema
from picolm.data.prepared import TokenData
from picolm.data.probe import ProbeRows, held_out_rows, source_rows
from picolm.errors import PicoLMError

Prepare = Callable[..., TokenData]

TEXTS = {
    "long": [f"{n}: " + "abc defg " * (n % 5 + 1) for n in range(40)],
    "short": [f"w{n} é日" for n in range(60)],
}


@pytest.fixture
def data(prepared: Prepare) -> TokenData:
    return prepared(TEXTS, validation_fraction=0.3)


def stream(rows: ProbeRows, array: np.ndarray) -> list[int]:
    """The one stream that the rows, which overlap by one, were cut from."""
    for before, after in itertools.pairwise(array):
        assert before[-1] == after[0]
    assert rows.valid[:-1].tolist() == [array.shape[1]] * (len(array) - 1)
    return [int(array[0, 0]), *(int(x) for row, n in zip(array, rows.valid, strict=True) for x in row[1:n])]


def test_documents_of_the_domains_come_in_turn(data: TokenData) -> None:
    split = data.split("validation")
    rows = held_out_rows(split, 16, 6)
    assert rows.tokens.shape == (6, 17) and rows.tokens.dtype == np.int64
    tokens, documents = stream(rows, rows.tokens), stream(rows, rows.documents)
    assert tokens[0] == split.separator_id
    order = list(dict.fromkeys(documents))
    table = split.documents().to_pylist()
    assert [table[i]["domain"] for i in order] == ["long", "short"] * (len(order) // 2) + ["long"] * (len(order) % 2)
    expected = [split.separator_id, *(t for i in order for t in split.tokens(*split.document_span(i)).tolist())]
    assert tokens == expected[: len(tokens)]
    assert len(tokens) == 6 * 16 + 1


def test_more_rows_begin_with_the_fewer_ones(data: TokenData) -> None:
    split = data.split("validation")
    few, many = held_out_rows(split, 16, 2), held_out_rows(split, 16, 9)
    for name, array in few.arrays.items():
        np.testing.assert_array_equal(array, many.arrays[name][:2])
    everything = held_out_rows(split, 16, 10**6)
    assert len(everything.tokens) == -(-(split.n_tokens - 1) // 16)
    assert sorted(set(everything.documents.flatten().tolist()) - {-1}) == list(range(split.n_documents))
    n = int(everything.valid[-1])
    assert (everything.tokens[-1, n:] == split.pad_id).all() and (everything.documents[-1, n:] == -1).all()
    assert int((everything.valid - 1).sum()) == split.n_tokens - 1


def test_one_domain_alone(data: TokenData) -> None:
    split = data.split("validation")
    rows = held_out_rows(split, 8, 4, "short")
    assert {split.documents()["domain"][i].as_py() for i in rows.documents.flatten().tolist()} == {"short"}
    with pytest.raises(PicoLMError, match="no domain 'shrt'; did you mean 'short'"):
        held_out_rows(split, 8, 4, "shrt")


def test_sources_are_read_in_turn_and_no_further_than_needed(data: TokenData, tmp_path: Path) -> None:
    files = {}
    for name, texts in {"a": ["abc", "defg", "cab"], "b": ["w1"]}.items():
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with files["a"].open("a") as file:
        file.write("this is not JSON\n")
    tokenizer = data.tokenizer()
    config = schema.Data(sequence_length=4)
    probe = schema.Probe(sources=(str(files["a"]), str(files["b"])), sequences=3)
    rows = source_rows(config, tokenizer, probe, pad_id=0)
    end = tokenizer.separator_id
    whole = [end] + [t for text in ("abc", "w1", "defg", "cab") for t in [*tokenizer.encode(text).tolist(), end]]
    assert stream(rows, rows.tokens) == whole[:13]
    assert stream(rows, rows.documents) == ([0] * 5 + [1] * 3 + [2] * 5 + [3] * 4)[:13]

    only = schema.Probe(sources=(str(files["b"]),), domain="b", sequences=3)
    short = source_rows(config, tokenizer, only, pad_id=0)
    assert short.tokens.tolist() == [[*whole[:1], *tokenizer.encode("w1").tolist(), end, 0]]
    assert short.valid.tolist() == [4] and short.documents.tolist() == [[0, 0, 0, 0, -1]]
    with pytest.raises(PicoLMError, match=r"capture\.probes\.p: the sources have no documents of the domain 'c'"):
        source_rows(config, tokenizer, only.model_copy(update={"domain": "c"}), pad_id=0, name="p")
    with pytest.raises(PicoLMError, match="line 4 is not valid JSON"):
        source_rows(config, tokenizer, probe.model_copy(update={"sequences": 30}), pad_id=0)
