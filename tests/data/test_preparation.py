import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers import models

from picolm.config import schema
from picolm.data import encoding, preparation, selection
from picolm.data.preparation import cached, prepare
from picolm.data.prepared import TokenData
from picolm.errors import PicoLMError
from picolm.text import world
from picolm.text.tagging import UPOS

Prepare = Callable[..., TokenData]

CHARACTERS = schema.Tokenizer(kind="characters")
BPE = schema.Tokenizer(vocab_size=300)


def write(path: Path, texts: list[str], **fields: object) -> str:
    path.write_text("".join(json.dumps({"text": text, **fields}) + "\n" for text in texts))
    return str(path)


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def texts_of(data: TokenData, name: Any) -> list[str]:
    split, tokenizer = data.split(name), data.tokenizer()
    return [tokenizer.decode(split.tokens(*split.document_span(i))) for i in range(split.n_documents)]


def embedded_source(path: Path, count: int) -> str:
    records = (
        {"id": document.id, "text": document.text, "domain": document.domain} for document in world.documents(1, count)
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_each_domain_is_split_by_documents(prepared: Prepare) -> None:
    texts = {"a": [f"a{n}" for n in range(40)], "b": [f"b{n}" for n in range(7)], "c": ["alone"]}
    data = prepared(texts, validation_fraction=0.1)
    train, held_out = texts_of(data, "train"), texts_of(data, "validation")
    assert sorted(train + held_out) == sorted(text for members in texts.values() for text in members)
    assert Counter(text[0] for text in held_out) == {"a": 4, "b": 1}
    assert "alone" in train


def test_the_split_does_not_depend_on_order_and_hardly_on_additions(prepared: Prepare) -> None:
    texts = [f"text {n}" for n in range(100)]
    held_out = set(texts_of(prepared({"a": texts}, "one"), "validation"))
    assert len(held_out) == 5
    assert set(texts_of(prepared({"a": texts[::-1]}, "two"), "validation")) == held_out
    assert len(held_out - set(texts_of(prepared({"a": [*texts, "new"]}, "three"), "validation"))) <= 1


def test_copies_of_a_text_stay_on_one_side(prepared: Prepare) -> None:
    texts = [f"text {n % 10}" for n in range(60)]
    data = prepared({"a": texts}, validation_fraction=0.3)
    train, held_out = texts_of(data, "train"), texts_of(data, "validation")
    assert not set(train) & set(held_out)
    assert (len(train), len(held_out)) == (42, 18)


def test_documents_keep_what_is_known_about_them(tmp_path: Path) -> None:
    source = tmp_path / "d.jsonl"
    records = [{"id": n, "text": f"é{n}", "domain": "x", "age": n, "tags": ["ü"]} for n in range(9)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"text": " "}\n')
    data = prepare(schema.Data(sources=(str(source),)), CHARACTERS, tmp_path / "out")
    rows = [row for name in ("train", "validation") for row in data.split(name).documents().to_pylist()]  # type: ignore[arg-type]
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": str(n), "domain": "x", "source": "d.jsonl", "bytes": 3, "characters": 2}
        | {"metadata": json.dumps({"age": n, "tags": ["ü"]})}
        for n in range(9)
    ]
    assert data.manifest.dropped_documents == 1


def test_the_tokenizer_sees_training_documents_only(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["abab abab"] * 5)
    held_out = write(tmp_path / "held.jsonl", ["xyz"])
    data = prepare(schema.Data(sources=(train,), validation_sources=(held_out,)), CHARACTERS, tmp_path / "out")
    tokenizer = data.tokenizer()
    assert tokenizer.vocab_size == 4 + 3
    assert data.split("validation").tokens(0, 5).tolist() == [0, 3, 3, 3, 0]
    assert texts_of(data, "train") == ["abab abab"] * 5


def test_special_tokens_in_a_text_are_not_separators(prepared: Prepare) -> None:
    texts = [f"{n} <eos> <pad>" for n in range(10)]
    data = prepared({"a": texts}, validation_fraction=0.0)
    assert texts_of(data, "train") == texts
    split = data.split("train")
    assert split.tokens(0, split.n_tokens).tolist().count(0) == 11
    assert data.split("validation").n_documents == 0


@pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE], ids=["characters", "bpe"])
def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: schema.Tokenizer
) -> None:
    monkeypatch.setattr(preparation, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", 5000)
    source = embedded_source(tmp_path / "d.jsonl", 100)
    found = []
    for workers in (1, 2, 3):
        config = schema.Data(sources=(source,), preparation_workers=workers)
        found.append(content(prepare(config, tokenizer, tmp_path / f"out{workers}").directory))
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == {
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        *(
            f"{s}/{f}"
            for s in ("train", "validation")
            for f in ("tokens-00000.bin", "offsets.npy", "documents.parquet")
        ),
    }


def test_equal_content_has_an_equal_fingerprint(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(50)]
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        source = write(tmp_path / name / "d.jsonl", texts)
        found.append(prepare(schema.Data(sources=(source,)), CHARACTERS, tmp_path / name / "out").fingerprint)
    assert found[0] == found[1]
    source = write(tmp_path / "one" / "d.jsonl", [*texts, "text 50"])
    assert prepare(schema.Data(sources=(source,)), CHARACTERS, tmp_path / "three").fingerprint != found[0]


def test_preparing_again_does_nothing(tmp_path: Path) -> None:
    data = schema.Data(sources=(write(tmp_path / "d.jsonl", ["a", "b", "c"]),))
    first = prepare(data, CHARACTERS, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in first.directory.rglob("*")}
    calls: list[str] = []
    again = prepare(data, CHARACTERS, tmp_path / "out", progress=lambda phase, done, total: calls.append(phase))
    assert again.fingerprint == first.fingerprint
    assert not calls
    assert {path: path.stat().st_mtime_ns for path in first.directory.rglob("*")} == before


def test_other_data_is_never_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", ["a", "b", "c"])
    out = tmp_path / "out"
    before = content(prepare(schema.Data(sources=(source,)), CHARACTERS, out).directory)
    with pytest.raises(PicoLMError, match=r"other settings \(validation_fraction\) .* choose another --out"):
        prepare(schema.Data(sources=(source,), validation_fraction=0.5), CHARACTERS, out)
    with pytest.raises(PicoLMError, match=r"other settings \(tokenizer\)"):
        prepare(schema.Data(sources=(source,)), BPE, out)
    write(tmp_path / "d.jsonl", ["a", "b", "d"])
    with pytest.raises(PicoLMError, match=r"other settings \(sources\)"):
        prepare(schema.Data(sources=(source,)), CHARACTERS, out)
    assert content(out) == before
    with pytest.raises(PicoLMError, match=r"exists and is not prepared data: choose another --out"):
        prepare(schema.Data(sources=(source,)), CHARACTERS, tmp_path)


def test_the_cache_is_keyed_by_content_and_settings(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", ["a", "b", "c"])
    cache = str(tmp_path / "cache")
    one = cached(schema.Data(sources=(source,), cache=cache), CHARACTERS)
    calls: list[str] = []
    two = cached(
        schema.Data(sources=(source,), cache=cache, sequence_length=9, preparation_workers=1),
        CHARACTERS,
        progress=lambda phase, done, total: calls.append(phase),
    )
    assert two.directory == one.directory
    assert not calls
    assert cached(schema.Data(sources=(source,), cache=cache), BPE).directory != one.directory
    write(tmp_path / "d.jsonl", ["a", "b", "d"])
    assert cached(schema.Data(sources=(source,), cache=cache), CHARACTERS).directory != one.directory
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_what_another_process_made_meanwhile_is_used(tmp_path: Path) -> None:
    data = schema.Data(sources=(write(tmp_path / "d.jsonl", ["a", "b", "c"]),))
    out = tmp_path / "out"
    others: list[TokenData] = []

    def progress(phase: str, done: int, total: int) -> None:
        if not others:
            others.append(prepare(data, CHARACTERS, tmp_path / "theirs"))
            others[0].directory.rename(out)
            (out / "mark").touch()

    assert prepare(data, CHARACTERS, out, progress=progress).fingerprint == others[0].fingerprint
    assert (out / "mark").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "out"]


def test_progress_counts_bytes_to_the_end(tmp_path: Path) -> None:
    source = embedded_source(tmp_path / "d.jsonl", 40)
    calls: list[tuple[str, int, int]] = []
    prepare(schema.Data(sources=(source,)), BPE, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert list(dict.fromkeys(phase for phase, _, _ in calls)) == ["reading", "training the tokenizer", "tokenizing"]
    for phase in ("reading", "training the tokenizer", "tokenizing"):
        done = [done for name, done, _ in calls if name == phase]
        (total,) = {total for name, _, total in calls if name == phase}
        assert done == sorted(done)
        assert done[-1] == total
    assert calls[0][2] == Path(source).stat().st_size


@pytest.mark.parametrize(
    ("texts", "data", "message"),
    [
        (["one"], {}, "1 document was found .*txt_documents=paragraphs, name data.validation_sources, or set"),
        (["one", "one"], {}, "2 documents, one distinct text per domain, were found"),
        (["one", "two"], {"validation_fraction": 1.0}, "nothing would be left to train on: all 2 documents"),
        ([" ", "\n"], {}, "no document with text was found in"),
    ],
)
def test_a_side_without_documents_is_explained(
    tmp_path: Path, texts: list[str], data: dict[str, Any], message: str
) -> None:
    source = write(tmp_path / "d.jsonl", texts)
    with pytest.raises(PicoLMError, match=message):
        prepare(schema.Data(sources=(source,), **data), CHARACTERS, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


def test_validation_sources_must_be_others_and_hold_text(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", ["one", "two"])
    blank = write(tmp_path / "blank.jsonl", [" "])
    with pytest.raises(PicoLMError, match=r"both in data.sources and in data.validation_sources"):
        prepare(schema.Data(sources=(source,), validation_sources=(source,)), CHARACTERS, tmp_path / "out")
    with pytest.raises(PicoLMError, match=r"the data.validation_sources hold no document with text"):
        prepare(schema.Data(sources=(source,), validation_sources=(blank,)), CHARACTERS, tmp_path / "out")


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", ["one", "two", "three"])

    def progress(phase: str, done: int, total: int) -> None:
        if phase == "reading":
            write(tmp_path / "d.jsonl", ["one", "two", "three", "four"])

    with pytest.raises(PicoLMError, match=r"d.jsonl was changed while it was read"):
        prepare(schema.Data(sources=(source,)), CHARACTERS, tmp_path / "out", progress=progress)
    assert not (tmp_path / "out").exists()


def test_a_worker_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", 1)
    source = write(tmp_path / "d.jsonl", [f"text {n}" for n in range(200)])

    def progress(phase: str, done: int, total: int) -> None:
        if phase == "tokenizing":
            for worker in multiprocessing.active_children():
                worker.kill()

    with pytest.raises(PicoLMError, match=r"a process that tokenizes died .*data.preparation_workers=1"):
        prepare(schema.Data(sources=(source,), preparation_workers=2), CHARACTERS, tmp_path / "out", progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tokenizer_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(preparation, "PARALLEL_BYTES", 0)
    words = tokenizers.Tokenizer(models.WordLevel({"known": 0, "</s>": 1}, unk_token="<unk>"))
    words.save(str(tmp_path / "tokenizer.json"))
    source = write(tmp_path / "d.jsonl", ["known", "unknown"])
    tokenizer = schema.Tokenizer(kind="file", path=str(tmp_path))
    with pytest.raises(PicoLMError, match=r"the tokenizer cannot encode a text: .*Missing"):
        prepare(schema.Data(sources=(source,), preparation_workers=workers), tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


SCRIPT = """
import sys, time
from pathlib import Path
from picolm.config import schema
from picolm.data.preparation import prepare

def progress(phase, done, total):
    if phase == "tokenizing" and done > total // 2:
        print("halfway", flush=True)
        time.sleep(60)

prepare(schema.Data(sources=(sys.argv[1],)), schema.Tokenizer(vocab_size=300), Path(sys.argv[2]), progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_after_a_kill_the_same_directory_is_made(tmp_path: Path) -> None:
    source = embedded_source(tmp_path / "d.jsonl", 60)
    out = tmp_path / "out"
    killed = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, source, str(out)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "halfway\n"
        killed.send_signal(signal.SIGKILL)
    assert not out.exists()
    (partial,) = tmp_path.glob(".out.partial-*")
    assert (partial / "train" / "tokens-00000.bin").exists()

    data = schema.Data(sources=(source,))
    prepare(data, BPE, out)
    assert not partial.exists()
    assert content(out) == content(prepare(data, BPE, tmp_path / "whole").directory)


def test_the_work_of_a_live_process_is_left_alone(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", ["one", "two"])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = tmp_path / f".out.partial-{platform.node()}-{other.pid}-ab"
        theirs.mkdir()
        elsewhere = tmp_path / ".out.partial-another-machine-999999999-ab"
        elsewhere.mkdir()
        prepare(schema.Data(sources=(source,)), CHARACTERS, tmp_path / "out")
        assert theirs.is_dir()
        assert elsewhere.is_dir()
        other.communicate(b"\n")


def test_real_text(shared_data: Path, tmp_path: Path) -> None:
    shakespeare = shared_data / "tinyshakespeare" / "input.txt"
    stories = shared_data / "corpus_en" / "val.jsonl.gz"
    data = prepare(schema.Data(sources=(str(shakespeare), str(stories))), CHARACTERS, tmp_path / "out")
    train, held_out = data.split("train"), data.split("validation")
    assert train.n_documents + held_out.n_documents > 708 + 100
    assert len(held_out.domains) == 9
    characters = sum(sum(split.documents()["characters"].to_pylist()) for split in (train, held_out))
    assert train.n_tokens + held_out.n_tokens == characters + train.n_documents + held_out.n_documents + 2
    texts, whole = texts_of(data, "train"), shakespeare.read_text()
    assert all(texts[index] in whole for index in train.domain_documents("input").tolist())


def test_a_dataset_is_streamed_once_and_known_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "train.jsonl", [f"text {n}" for n in range(30)])
    data = schema.Data(sources=(f"hf:{tmp_path}/mine",), cache=str(tmp_path / "cache"))
    calls: list[str] = []
    whole = selection.read_documents

    def counted(source: Any, config: schema.Data) -> Any:
        calls.append(source.name)
        return whole(source, config)

    monkeypatch.setattr(selection, "read_documents", counted)
    one = cached(data, BPE)
    assert sorted(texts_of(one, "train") + texts_of(one, "validation")) == sorted(f"text {n}" for n in range(30))
    assert cached(data, BPE).directory == one.directory
    assert calls == ["hf:mine@train"]
    (read,) = one.manifest.sources_read
    assert (read.name, read.documents) == ("hf:mine@train", 30)
    write(tmp_path / "mine" / "train.jsonl", [f"text {n}" for n in range(29)] + ["other"])
    two = cached(data, BPE)
    assert two.directory != one.directory
    assert two.manifest.sources_read[0].sha256 != read.sha256


def test_all_formats_stand_in_one_list(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first")
    write(tmp_path / "b.jsonl", ["second"])
    pq.write_table(pa.table({"text": ["third"], "domain": ["tables"]}), tmp_path / "c.parquet")
    row = "\t_\tNOUN" + "\t_" * 6 + "\n\n"
    (tmp_path / "d.conllu").write_text("1\tfourth" + row)
    data = prepare(schema.Data(sources=(str(tmp_path),), validation_fraction=0.0), CHARACTERS, tmp_path / "out")
    assert texts_of(data, "train") == ["first", "second", "third", "fourth"]
    assert sorted(data.split("train").domains) == ["a", "b", "d", "tables"]
    assert [source.documents for source in data.manifest.sources_read] == [1, 1, 1, 1]
    split = data.split("train")
    assert set(split.tags(*split.document_span(3)).tolist()) == {0, UPOS.index("NOUN") + 1}
