import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from picolm.config import schema
from picolm.data.preparation import prepare
from picolm.data.prepared import TokenData

Prepare = Callable[..., TokenData]


def write_records(path: Path, records: Iterable[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Prepare texts, {domain: [text, ...]}, with characters as tokens."""

    def make(texts: dict[str, list[str]], name: str = "prepared", **data: object) -> TokenData:
        records = [{"text": text, "domain": domain} for domain, members in texts.items() for text in members]
        source = write_records(tmp_path / f"{name}.jsonl", records)
        config = schema.Data(sources=(str(source),), **data)  # type: ignore[arg-type]
        return prepare(config, schema.Tokenizer(kind="characters"), tmp_path / name)

    return make
