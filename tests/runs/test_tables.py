import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from picolm.errors import PicoLMError
from picolm.runs.tables import METRICS, Measured, read_metrics, write_metrics

ROWS = [
    Measured(10, "per", "layers.0.mlp", 0, None, None, 0.25),
    Measured(10, "entropy", "layers.0.attention.pattern", 0, 3, "held_out", math.nan),
]


def test_metrics_read_back_as_they_were_written_part_by_part(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics").num_rows == 0
    write_metrics(tmp_path / "metrics" / "step-00000010.parquet", ROWS)
    write_metrics(tmp_path / "metrics" / "step-00000002.parquet", [ROWS[0]._replace(step=2)])
    table = read_metrics(tmp_path / "metrics")
    assert table.schema.equals(METRICS) and table.column_names == list(Measured._fields)
    assert repr([Measured(**row) for row in table.to_pylist()]) == repr([ROWS[0]._replace(step=2), *ROWS])
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == [
        "step-00000002.parquet",
        "step-00000010.parquet",
    ]


def test_writing_a_part_again_replaces_it(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        write_metrics(tmp_path / "step-00000010.parquet", [ROWS[0]._replace(value=value)])
    assert read_metrics(tmp_path)["value"].to_pylist() == [2.0]


def test_what_is_no_table_of_metrics_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.parquet"
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(PicoLMError, match=r"step-00000001\.parquet is damaged"):
        read_metrics(tmp_path)
    pq.write_table(pa.table({"step": [1]}), path)
    with pytest.raises(PicoLMError, match="is no table of metrics: its columns must be step, metric, site"):
        read_metrics(tmp_path)


def test_a_part_from_before_comparisons_had_a_column_is_read(tmp_path: Path) -> None:
    older = pa.schema([field for field in METRICS if field.name != "against"])
    rows = [{name: value for name, value in ROWS[0]._asdict().items() if name != "against"}]
    pq.write_table(pa.Table.from_pylist(rows, schema=older), tmp_path / "step-00000001.parquet")
    write_metrics(tmp_path / "step-00000002.parquet", [ROWS[0]._replace(against="step 8")])
    table = read_metrics(tmp_path)
    assert table.schema.equals(METRICS) and table["against"].to_pylist() == [None, "step 8"]
