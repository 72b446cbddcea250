"""Damage of what evaluations left in a run is named."""

from pathlib import Path

import pytest

from picolm.runs.evaluations import Evaluated, Part, check_parts


@pytest.fixture
def part(tmp_path: Path) -> Part:
    made = Part(tmp_path / "eval", 4, "pairs", {"label": "pairs:blimp", "seed": 0})
    made.write([Evaluated(4, "pairs:blimp", "all", "accuracy", 55.0, 1.0, 100)], {"model": "abc"})
    return made


def test_a_whole_part_has_no_damage_and_a_run_without_any_is_whole(part: Part, tmp_path: Path) -> None:
    assert check_parts(part.folder) == ([], []) == check_parts(tmp_path / "none")


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
@pytest.mark.parametrize("kind", ["cut", "flipped", "gone"])
def test_any_damage_of_a_part_is_named(part: Part, suffix: str, kind: str) -> None:
    file = part.path.with_suffix(suffix)
    data = bytearray(file.read_bytes())
    if kind == "gone":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        # In the settings of the JSON file, whose own hash the Parquet file does not hold.
        place = data.find(b"pairs:blimp") if suffix == ".json" else len(data) // 2
        data[place] ^= 1
        file.write_bytes(data)
    damage, unfinished = check_parts(part.folder)
    # A kill leaves rows without their JSON file: that is no damage, and they are measured again.
    assert bool(damage) is not (suffix == ".json" and kind == "gone")
    assert any(part.path.stem in sentence for sentence in (*damage, *unfinished))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["cut", "gone"])
def test_a_part_counts_only_with_its_files(tmp_path: Path, shared: bool, kind: str) -> None:
    part = Part(tmp_path / "eval", 4, "words", {})
    rows = [Evaluated(4, "words", "all", "words", 2.0, None, 2)]
    part.write(rows, {"model": "abc"}, {"words.parquet": b"one"}, {"probe.parquet": b"two"})
    assert part.rows("abc") == rows
    assert check_parts(part.folder) == ([], [])
    file = part.shared_file("probe.parquet") if shared else part.file("words.parquet")
    if kind == "gone":
        file.unlink()
    else:
        file.write_bytes(b"o")
    assert part.rows("abc") is None
    assert any(file.name in sentence for sentence in check_parts(part.folder)[0])
