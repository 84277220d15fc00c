"""Large files: hashed on their way, in pieces, with progress for those who wait."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from largeforge.catalog import bar
from largeforge.registry import copying, files
from largeforge.registry.copying import FileHash, Meter

QUIET = Meter(None, "", 0)


@pytest.mark.parametrize("size", [0, 1, copying.CHUNK_BYTES, 67 * copying.CHUNK_BYTES + 3])
def test_a_copy_is_the_same_bytes_and_their_hash(tmp_path: Path, size: int) -> None:
    content = (b"largeforge" * (size // 10 + 1))[:size]
    (tmp_path / "a").write_bytes(content)
    expected = FileHash(hashlib.sha256(content).hexdigest(), size)
    assert copying.copy(tmp_path / "a", tmp_path / "b", QUIET) == expected
    assert copying.write(io.BytesIO(content), tmp_path / "c", QUIET) == expected
    assert copying.hashed(tmp_path / "c", QUIET) == expected
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes() == content


def test_where_blocks_can_be_shared_only_the_hash_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"weights")

    def clone(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        Path(f"/proc/self/fd/{target}").write_bytes(Path(f"/proc/self/fd/{source}").read_bytes())
        return 0

    monkeypatch.setattr(copying.fcntl, "ioctl", clone)
    monkeypatch.setattr(copying, "_written", None)
    found = copying.copy(tmp_path / "a", tmp_path / "b", QUIET)
    assert found == FileHash(hashlib.sha256(b"weights").hexdigest(), 7)
    assert (tmp_path / "b").read_bytes() == b"weights"


def test_what_was_just_written_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    written = {"deep/w": copying.write(io.BytesIO(b"weights"), tmp_path / "a" / "deep" / "w", QUIET)}
    assert files.adopt(tmp_path / "a", tmp_path / "b", written) == written
    assert (tmp_path / "a" / "deep" / "w").samefile(tmp_path / "b" / "deep" / "w")


def test_work_of_several_files_is_told_as_one(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    for name in ("a", "b"):
        (tmp_path / "m" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"x" * 10)
    (tmp_path / "t").mkdir()
    files.copy_hashed(tmp_path / "m", tmp_path / "t", lambda *each: told.append(each))
    assert told[0] == ("copying m", 0, 20)
    assert told[-1] == ("copying m", 20, 20)


def test_quick_work_shows_nothing_and_slow_work_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    now = [0.0]
    with bar.watching(lambda: now[0]) as watch:
        assert watch is not None
        watch("copying m", 0, 100)
        watch("copying m", 50, 100)
        assert not watch._tasks
        now[0] = 3.0
        watch("copying m", 60, 100)
        assert list(watch._tasks) == ["copying m"]
    capsys.readouterr()
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with bar.watching() as watch:
        assert watch is None, "a log has no progress bars"
