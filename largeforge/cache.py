"""Small results that are dear to compute, kept under `$XDG_CACHE_HOME/largeforge`.

An entry is believed only when it is whole and answers for the very same key; everything else counts as
absent. That the cache cannot be written is no error: the next plan is slower.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from largeforge.artifacts import digest, file_sha256, write_json

SETTLED_S = 2.0
"""A file that changed less than that ago may change again within the resolution of its times."""


def folder() -> Path | None:
    """Return the folder of the cache, or None when there is no home to put it in."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    path = Path(base) if base else Path("~/.cache").expanduser()
    return path / "largeforge" if path.is_absolute() else None


def lookup(kind: str, key: Any) -> Any:
    """Return what was kept for a key (plain data), or None."""
    path = _path(kind, key)
    if path is None:
        return None
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        value = entry["value"]
        return value if entry["seal"] == digest([key, value]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def keep(kind: str, key: Any, value: Any) -> None:
    """Keep plain data for a key; does nothing where the cache cannot be written."""
    path = _path(kind, key)
    if path is not None:
        with suppress(OSError):
            write_json(path, {"key": key, "value": value, "seal": digest([key, value])})


def file_key(path: Path) -> dict[str, Any] | None:
    """Return what changes whenever a file does; None when it changed just now, or is no regular file.

    The times of content and of inode count: the former can be set at will, the latter cannot. Raises
    OSError when the file is not there.
    """
    found = path.stat()
    youngest = max(found.st_mtime, found.st_ctime)
    if not path.is_file() or time.time() - youngest < SETTLED_S:
        return None
    return {
        "path": str(path.absolute()),
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
        "device": found.st_dev,
    }


def cached_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal; hashed again only when the file changed.

    Raises OSError when the file cannot be read.
    """
    before = file_key(path)
    if before is None:
        return file_sha256(path)
    kept = lookup("sha256", before)
    if isinstance(kept, str):
        return kept
    found = file_sha256(path)
    if file_key(path) == before:
        keep("sha256", before, found)
    return found


def _path(kind: str, key: Any) -> Path | None:
    base = folder()
    return base / kind / f"{digest(key)[:40]}.json" if base else None
