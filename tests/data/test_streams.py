"""A compressed file is read as what it holds, and a broken one is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import TYPE_CHECKING

import pyarrow
import pytest

from largeforge.data import readers
from largeforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINES = b"".join(b'{"n": %d, "text": "\xc3\xa9%s"}\n' % (n, b"x" * (n % 300)) for n in range(5000))
TABLE = b"n,text\n" + b"".join(b'%d,"a, b\nc"\n' % n for n in range(500))


def zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content).to_pybytes()


PACKERS = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}
each = pytest.mark.parametrize(("suffix", "pack"), PACKERS.items(), ids=PACKERS)


@each
def test_lines(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"rows.jsonl.{suffix}"
    path.write_bytes(pack(LINES))
    rows = list(readers.read(path))
    assert [line for line, _ in rows] == list(range(1, 5001))
    assert rows[299][1] == {"n": 299, "text": "é" + "x" * 299}


@each
def test_two_parts_one_after_the_other(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"rows.jsonl.{suffix}"
    path.write_bytes(pack(b'{"n": 1}\n') + pack(b'{"n": 2}\n'))
    assert [row for _, row in readers.read(path)] == [{"n": 1}, {"n": 2}]


@each
def test_tables_and_arrays(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"rows.csv.{suffix}"
    path.write_bytes(pack(TABLE))
    rows = list(readers.read(path))
    assert (len(rows), rows[2]) == (500, (6, {"n": "2", "text": "a, b\nc"}))
    path = tmp_path / f"rows.json.{suffix}"
    path.write_bytes(pack(b"[" + LINES.rstrip().replace(b"\n", b",\n") + b"]"))
    assert len(list(readers.read(path))) == 5000


@each
def test_the_name_does_not_matter_for_lines(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "rows"
    path.write_bytes(pack(LINES))
    assert len(list(readers.read(path))) == 5000


@each
def test_a_file_that_was_cut_off(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"rows.jsonl.{suffix}"
    packed = pack(LINES)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        DataError, match=rf"rows\.jsonl\.{suffix} (is broken|ends in the middle of its compressed data)"
    ):
        list(readers.read(path))


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_a_file_with_wrong_bytes(tmp_path: Path, suffix: str) -> None:
    """Zstandard files may be without a checksum, as Arrow writes them."""
    pack = PACKERS[suffix]
    path = tmp_path / f"rows.jsonl.{suffix}"
    packed = bytearray(pack(LINES))
    for place in range(len(packed) // 2, len(packed) // 2 + 8):
        packed[place] ^= 0xFF
    path.write_bytes(packed)
    try:
        faults = [row for _, row in readers.read(path) if isinstance(row, str)]
    except DataError as error:
        faults = [str(error)]
    assert faults


def test_a_zip_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"PK\x03\x04" + bytes(20))
    with pytest.raises(DataError, match=r"rows\.jsonl is a zip archive, which is not supported; unpack it first"):
        readers.read(path)
