import errno
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.runs.log import LogWriter, Mark, cut_log, read_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def write(path: Path, *lines: dict[str, object]) -> None:
    with LogWriter(path) as writer:
        for line in lines:
            writer.append(line)


def test_lines_are_compact_and_keep_their_order(path: Path) -> None:
    write(path, {"event": "train", "step": 1, "losses": {"causal": 9.5}})
    assert path.read_text() == '{"event":"train","step":1,"losses":{"causal":9.5}}\n'


def test_nothing_is_written_before_commit_and_a_batch_in_one_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    system_write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: calls.append(len(data)) or system_write(file, data))
    with LogWriter(path) as writer:
        writer.append({"step": 1})
        writer.append({"step": 2})
        assert path.read_bytes() == b""
        writer.commit()
        assert [line["step"] for line in read_log(path)] == [1, 2]
        assert calls == [path.stat().st_size]


def test_events_are_selected(path: Path) -> None:
    write(path, {"event": "train", "step": 1}, {"event": "sample", "step": 1}, {"step": 2})
    assert read_log(path, "sample") == [{"event": "sample", "step": 1}]
    assert len(read_log(path)) == 3


def test_log_that_is_not_there_has_no_lines(path: Path) -> None:
    assert read_log(path) == []


finite_or_not = st.floats()
texts = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)


@settings(deadline=None)
@given(loss=finite_or_not, parts=st.lists(finite_or_not, max_size=3), text=texts | st.sampled_from(["NaN", "Infinity"]))
def test_every_float_and_every_text_reads_back(
    tmp_path_factory: pytest.TempPathFactory, loss: float, parts: list[float], text: str
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    write(path, {"event": "sample", "loss": loss, "losses": {"parts": parts}, "prompt": text, "text": text})
    json.loads(path.read_bytes(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (line,) = read_log(path)
    assert repr(line["loss"]) == repr(loss)
    assert repr(line["losses"]["parts"]) == repr(parts)
    assert (line["prompt"], line["text"]) == (text, text)


@pytest.mark.parametrize("torn", [b'{"step":3', b'{"step":3}', b"\0\0\0\0", b"\0\0\n", b'{"step":3,\n'])
def test_torn_last_line_is_ignored_and_then_cut_off(path: Path, torn: bytes) -> None:
    write(path, {"step": 1}, {"step": 2})
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert [line["step"] for line in read_log(path)] == [1, 2]
    write(path, {"step": 3})
    assert path.read_bytes() == whole + b'{"step":3}\n'


def test_log_of_one_torn_line_is_empty(path: Path) -> None:
    path.write_bytes(b'{"st\n')
    assert read_log(path) == []
    write(path, {"step": 1})
    assert read_log(path) == [{"step": 1}]


@pytest.mark.parametrize("torn", [b'{"step":', b"", b"3", b"\xff"])
def test_torn_line_elsewhere_is_an_error_with_file_and_line(path: Path, torn: bytes) -> None:
    path.write_bytes(b'{"step":1}\n' + torn + b'\n{"step":2}\n')
    with pytest.raises(PicoLMError, match=r"log\.jsonl, line 2 is not a whole JSON object"):
        read_log(path)


def test_full_disk_leaves_whole_lines_and_the_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LogWriter(path) as writer:
        writer.append({"step": 1})
        writer.commit()
        writer.append({"step": 2})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half_then_full(os.write))
            with pytest.raises(PicoLMError, match=r"log\.jsonl: No space left.*free some space"):
                writer.commit()
        assert path.read_bytes() == b'{"step":1}\n'
        writer.commit()
    assert [line["step"] for line in read_log(path)] == [1, 2]


def half_then_full(system_write: object) -> object:
    calls = 0

    def write_half(file: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return system_write(file, data[: len(data) // 2])  # type: ignore[operator, no-any-return]

    return write_half


def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: system_write(file, data[:3]))
    write(path, {"step": 1}, {"step": 2})
    assert [line["step"] for line in read_log(path)] == [1, 2]


LINES = ({"event": "note"}, {"step": 1, "loss": math.nan, "text": "é"}, {"step": 2}, {"step": 3})


def mark_after(path: Path, n_lines: int) -> Mark:
    data = b"".join(path.read_bytes().splitlines(keepends=True)[:n_lines])
    return Mark(len(data), hashlib.sha256(data).hexdigest())


def test_a_writer_knows_how_far_the_file_has_come(path: Path) -> None:
    with LogWriter(path) as writer:
        for number, line in enumerate(LINES):
            writer.append(line)
            assert writer.mark == mark_after(path, number)
            writer.commit()
            assert writer.mark == mark_after(path, number + 1)
    with LogWriter(path) as writer:
        assert writer.mark == mark_after(path, len(LINES))


def test_cut_back_leaves_exactly_what_there_was_at_the_mark(path: Path) -> None:
    write(path, *LINES)
    mark, lines = mark_after(path, 3), path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + b'{"step":')
    assert cut_log(path, mark, 2) is None
    assert path.read_bytes() == b"".join(lines[:3])


@pytest.mark.parametrize("flipped", [b"e", b"2"])
def test_cutting_a_changed_log_keeps_its_whole_lines_and_the_old_file(path: Path, flipped: bytes) -> None:
    write(path, *LINES)
    mark, lines = mark_after(path, 3), path.read_bytes().splitlines(keepends=True)
    # The second line is torn, or the first says something else.
    lines[1 if flipped == b"2" else 0] = lines[1].replace(b"{", flipped) if flipped == b"2" else b'{"event":"n0te"}\n'
    path.write_bytes(b"".join(lines))
    sentence = cut_log(path, mark, 2)
    assert sentence is not None and "was changed since step 2" in sentence and "log.jsonl.damaged" in sentence
    kept = [lines[0], lines[2]] if flipped == b"2" else lines[:3]
    assert path.read_bytes() == b"".join(kept)
    assert path.with_name("log.jsonl.damaged").read_bytes() == b"".join(lines)


def test_cutting_a_log_that_is_gone_says_so(path: Path) -> None:
    write(path, *LINES)
    mark = mark_after(path, 2)
    path.unlink()
    assert "0 whole lines" in str(cut_log(path, mark, 2))
    assert path.read_bytes() == b""
