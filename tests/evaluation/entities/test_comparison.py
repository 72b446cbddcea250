import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from picolm.errors import PicoLMError
from picolm.evaluation.entities.comparison import compare_entities, counts_of_table, table_of_counts
from picolm.evaluation.entities.resampling import compared


def drawn_counts(seed: int, n: int, n_seeds: int, gold: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng(seed)
    tp = draw.binomial(gold[:, None], 0.5, size=(n, n_seeds, 3))
    return np.stack([tp, draw.poisson(0.2, size=tp.shape), gold[:, None] - tp], axis=-1)


GOLD = {name: np.random.default_rng(0).integers(0, 3, size=(n, 3)) for name, n in (("a", 40), ("b", 25))}


def written(path: Path, seed: int, seeds: tuple[int, ...], names: str = "ab") -> dict[str, np.ndarray]:
    counts = {name: drawn_counts(seed, len(GOLD[name]), len(seeds), GOLD[name]) for name in names}
    path.write_bytes(table_of_counts(counts, seeds))
    return counts


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    counts = written(tmp_path / "one", 1, (0, 7))
    found = counts_of_table((tmp_path / "one").read_bytes(), "one")
    assert list(found) == ["a", "b"]
    for name, own in counts.items():
        np.testing.assert_array_equal(found[name], own)
    rows = pq.read_table(tmp_path / "one").to_pylist()
    assert rows[4] == {
        "subset": "a",
        "sentence": 0,
        "seed": 7,
        "type": "ORG",
        **dict(zip(("tp", "fp", "fn"), counts["a"][0, 1, 1].tolist(), strict=True)),
    }


def test_two_models_are_compared_on_each_set_and_on_several_together(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one", 1, (0, 1)), written(tmp_path / "other", 2, (0, 1, 2), "ba")
    found = compare_entities(tmp_path / "one", str(tmp_path / "other"), pooled=["a", "b"], draws=300, seed=5)
    assert set(found) == {"a", "b", "pooled"}
    micro, others = ({name: counts.sum(axis=2) for name, counts in table.items()} for table in (one, other))
    for name, members in (("a", ["a"]), ("b", ["b"]), ("pooled", ["a", "b"])):
        assert found[name] == compared(micro, others, members, draws=300, seed=5)
    assert found["pooled"].n_entities == sum(int(gold.sum()) for gold in GOLD.values())


def test_sets_that_only_one_has_are_left_out(tmp_path: Path) -> None:
    written(tmp_path / "one", 1, (0,))
    written(tmp_path / "other", 2, (0,), "b")
    assert set(compare_entities(tmp_path / "one", tmp_path / "other", draws=10)) == {"b"}


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    written(one, 1, (0,), "a")
    written(other, 2, (0,), "b")
    with pytest.raises(PicoLMError, match="have no test set in common"):
        compare_entities(one, other)
    counts = written(one, 1, (0,), "a")
    changed = counts["a"].copy()
    changed[3, :, 0, 2] += 1
    other.write_bytes(table_of_counts({"a": changed}, (0,)))
    with pytest.raises(PicoLMError, match="have other sentences or entities in 'a'"):
        compare_entities(one, other)
    with pytest.raises(PicoLMError, match="there is no test set 'aa' to be pooled"):
        compare_entities(one, one, pooled=["aa"])
    with pytest.raises(PicoLMError, match=r"cannot read the counts in .*none"):
        compare_entities(one, tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "is no table of counts"),
        (lambda whole: b"subset,sentence", "is no table of counts"),
        (lambda whole: parquet(pa.table({"x": [1]})), "its columns must be subset, sentence, seed, type, tp, fp, fn"),
        (lambda whole: parquet(pq.read_table(io.BytesIO(whole)).slice(0, 0)), "its columns must be"),
        (lambda whole: parquet(pq.read_table(io.BytesIO(whole)).slice(1)), "lacks rows of 'a'"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: object, message: str) -> None:
    written(tmp_path / "one", 1, (0, 1))
    (tmp_path / "odd").write_bytes(change((tmp_path / "one").read_bytes()))  # type: ignore[operator]
    with pytest.raises(PicoLMError, match=message):
        compare_entities(tmp_path / "odd", tmp_path / "one")


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()
