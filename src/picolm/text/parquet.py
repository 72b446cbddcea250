"""Parquet files -> documents, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from picolm.config.schema import Data
from picolm.errors import PicoLMError, nearest
from picolm.text.document import Document
from picolm.text.records import document_of, plain
from picolm.text.sources import SourceFile

_ROWS_AT_ONCE = 1024


def read_parquet(source: SourceFile, data: Data, progress: Callable[[int], None]) -> Iterator[Document]:
    """Read the documents of a Parquet file: one a row.

    Args:
        source: the file.
        data: names the text and domain columns; all others but those of bytes become metadata.
        progress: told how many of the file's bytes were read.

    Raises:
        PicoLMError: it is not Parquet, has no such text column, or a row group is damaged; named by column, row group
            and row.
    """
    assert source.path is not None
    try:
        file = pq.ParquetFile(source.path)
    except pa.ArrowException as error:
        raise PicoLMError(f"{source} is not a valid Parquet file: {_first_line(error)}") from error
    with file:
        columns = _columns(file.schema_arrow, source, data)
        row = done = 0
        for group in range(file.metadata.num_row_groups):
            try:
                for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                    for record in batch.to_pylist():
                        row += 1
                        yield document_of(
                            {key: plain(value) for key, value in record.items()},
                            data,
                            id=f"{source.name}:{row}",
                            domain=source.stem,
                            place=f"{source}, row {row} (row group {group})",
                        )
            except (OSError, pa.ArrowException) as error:
                raise PicoLMError(f"{source}, row group {group} is damaged: {_first_line(error)}") from error
            done += file.metadata.row_group(group).total_byte_size
            progress(done)
        if not row:
            raise PicoLMError(f"{source} is empty: it has no rows")


def _columns(schema: pa.Schema, source: SourceFile, data: Data) -> list[str]:
    """Names of the columns to read; bytes (pictures, sounds) are no metadata of a text."""
    field = data.text_field
    if field not in schema.names:
        raise PicoLMError(
            f"{source} has no text column '{field}'{nearest(field, schema.names)} (data.text_field names it)"
        )
    kind = schema.field(field).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise PicoLMError(f"{source} has the type {kind} in its text column '{field}', which must hold strings")
    return [column.name for column in schema if not _is_binary(column.type)]


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
