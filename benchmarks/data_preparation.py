"""Preparing text: PicoLM against a plain pipeline of Hugging Face `datasets`, with the same tokenizer.

The peer is what a careful researcher writes by hand: `load_dataset("json")`, `map` the fast tokenizer in batches on all
cores, `map` the concatenation into blocks, `save_to_disk`; it makes token ids only, no attention masks and no labels.
PicoLM reads the same JSONL, holds documents out, tokenizes, writes shards, a table of documents, and hashes all of it.
Each runs in a process of its own, by turns; seconds count from after the imports. Peak memory is the private memory of
the process and all its children, sampled; pages of mapped files are not counted, for they are no one's in particular.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from picolm.config import schema

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "corpus_en" / "train.jsonl.gz"
TEXT_BYTES = 100_000_000
BLOCK = 1024
ROUNDS = 2


def run() -> list[dict[str, Any]]:
    """Prepare about 100 MB by turns; print and return one row."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        name, n_bytes = _write_text(root / "text.jsonl")
        _train_tokenizer(root)
        rounds = [[_measured(kind, root) for kind in ("picolm", "datasets")] for _ in range(ROUNDS)]
    ratio = statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in rounds)
    ours, theirs = (_median(side) for side in zip(*rounds, strict=True))
    print(f"{'text':<34} {'PicoLM':>14} {'datasets.map':>14} {'ratio':>7}")
    rates = [n_bytes / 1e6 / side["seconds"] for side in (ours, theirs)]
    print(f"{name:<34} {rates[0]:>9.1f} MB/s {rates[1]:>9.1f} MB/s {ratio:>6.2f}x")
    print(f"{'  peak memory':<34} {ours['peak_mb']:>11,.0f} MB {theirs['peak_mb']:>11,.0f} MB", flush=True)
    return [
        {
            "text": name,
            "picolm_megabytes_per_second": round(rates[0], 2),
            "datasets_megabytes_per_second": round(rates[1], 2),
            "picolm_peak_megabytes": round(ours["peak_mb"]),
            "datasets_peak_megabytes": round(theirs["peak_mb"]),
            "ratio": round(ratio, 3),
        }
    ]


def _write_text(path: Path) -> tuple[str, int]:
    """Repeat the corpus that lies beside the project, else the embedded one, up to `TEXT_BYTES` of text."""
    if CORPUS.is_file():
        with gzip.open(CORPUS, "rt", encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
    else:
        from picolm.text.reading import read_documents
        from picolm.text.sources import expand

        (source,) = expand(["embedded:english"])
        texts = [document.text for document in read_documents(source, schema.Data())]
    n_bytes = 0
    with path.open("w", encoding="utf-8") as out:
        for number, text in enumerate(itertools.cycle(texts)):
            if n_bytes >= TEXT_BYTES:
                break
            out.write(json.dumps({"text": text, "id": number}) + "\n")
            n_bytes += len(text.encode())
    return f"{'corpus_en' if CORPUS.is_file() else 'embedded:english'}, {n_bytes / 1e6:.0f} MB", n_bytes


def _train_tokenizer(root: Path) -> None:
    from picolm.text.tokenizer import Tokenizer

    with (root / "text.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in itertools.islice(file, 2000)]
    Tokenizer.train_bpe(texts, 8192).save(root, max_length=None)


def _measured(kind: str, root: Path) -> dict[str, float]:
    """Run one side in a process of its own: its seconds, and the peak of the memory of its whole family."""
    with tempfile.TemporaryDirectory(dir=root) as out:
        command = [sys.executable, "-m", "benchmarks.data_preparation", kind, str(root), out]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HOME": f"{out}/hf"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            peak = 0
            while child.poll() is None:
                peak = max(peak, sum(_private_bytes(pid) for pid in _family(child.pid)))
                time.sleep(0.25)
            assert child.stdout is not None
            if child.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
            seconds = float(child.stdout.read().split()[-1])
    return {"seconds": seconds, "peak_mb": peak / 1e6}


def _family(pid: int) -> list[int]:
    """A process and all that descend from it; only Linux tells."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(child))]


def _private_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


def _median(rounds: tuple[dict[str, float], ...]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def _prepare_with_picolm(root: Path, out: Path) -> float:
    from picolm.data.preparation import prepare

    started = time.perf_counter()
    tokenizer = schema.Tokenizer(kind="file", path=str(root / "tokenizer.json"))
    prepare(schema.Data(sources=(str(root / "text.jsonl"),)), tokenizer, out / "prepared")
    return time.perf_counter() - started


def _prepare_with_datasets(root: Path, out: Path) -> float:
    import datasets
    import transformers

    datasets.disable_progress_bars()
    tokenizer = transformers.AutoTokenizer.from_pretrained(root)
    separator = tokenizer.eos_token_id

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(batch["text"], return_attention_mask=False, return_token_type_ids=False)
        return {"input_ids": [[*ids, separator] for ids in encoded["input_ids"]]}

    def group(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        stream = list(itertools.chain.from_iterable(batch["input_ids"]))
        end = len(stream) // BLOCK * BLOCK
        return {"input_ids": [stream[start : start + BLOCK] for start in range(0, end, BLOCK)]}

    started = time.perf_counter()
    cores = os.cpu_count() or 1
    text = datasets.load_dataset(
        "json", data_files=str(root / "text.jsonl"), split="train", cache_dir=str(out / "cache")
    )
    tokens = text.map(tokenize, batched=True, num_proc=cores, remove_columns=text.column_names)
    tokens.map(group, batched=True, num_proc=cores).save_to_disk(str(out / "prepared"))
    return time.perf_counter() - started


if __name__ == "__main__":
    sides = {"picolm": _prepare_with_picolm, "datasets": _prepare_with_datasets}
    print(sides[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3])))
