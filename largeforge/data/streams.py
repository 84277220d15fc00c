"""Undo the compression of a file while it is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import TYPE_CHECKING

from largeforge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

Stream = io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
"""What bytes are read from, with a look at those to come (`peek`)."""
BROKEN = (zlib.error, lzma.LZMAError)
"""What decompressors raise for broken data, besides OSError without a number and EOFError."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_ZIP = b"PK\x03\x04"


def compression(head: bytes) -> str:
    """Return the name of the compression that a file with these first bytes has; empty for none."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def unusable(head: bytes) -> str:
    """Return why a file with these first bytes cannot be read, or an empty string."""
    return "is a zip archive, which is not supported; unpack it first (unzip)" if head.startswith(_ZIP) else ""


def unpacked(file: io.BufferedReader, path: Path) -> Stream:
    """Return the content of an open file without its compression, if it has one.

    Raises DataError when a package for the compression is missing.
    """
    kind = compression(file.peek(8))
    if not kind:
        return file
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file)
    if kind == "bzip2":
        return bz2.BZ2File(file)
    if kind == "xz":
        return lzma.LZMAFile(file)
    return _zstd(file, path)


def _zstd(file: io.BufferedReader, path: Path) -> Stream:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{path} is compressed with zstd; reading it needs pyarrow: pip install pyarrow") from error
    return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), 2**16)
