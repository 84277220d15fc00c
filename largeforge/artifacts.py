"""Files that are never half written: atomic writes, hashes, manifests of finished stages.

A stage is finished when its `manifest.json`, which is written last, is there and every file
it lists still has its hash. Nothing here knows what a stage does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

MANIFEST = "manifest.json"


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that grows, such as a log; one before it that a kill cut short stays a line of its own."""
    with path.open("ab+") as stream:
        end = "" if _ends_a_line(stream) else "\n"
        stream.write(f"{end}{line}\n".encode())


def drop_unfinished_line(path: Path) -> None:
    """Remove what a kill left of a last line, so that the next does not become a part of it."""
    if not path.is_file():
        return
    with path.open("rb+") as stream:
        if _ends_a_line(stream):
            return
        end, piece = stream.seek(0, os.SEEK_END), b""
        while end and b"\n" not in piece:
            start = max(0, end - 65_536)
            stream.seek(start)
            piece = stream.read(end - start)
            end = start + piece.rfind(b"\n") + 1 if b"\n" in piece else start
        stream.truncate(end)


def _ends_a_line(stream: IO[bytes]) -> bool:
    size = stream.seek(0, os.SEEK_END)
    if not size:
        return True
    stream.seek(size - 1)
    return stream.read(1) == b"\n"


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n")


def hash_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `{relative path: {"sha256", "size"}}` of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "size": path.stat().st_size}
        for path in files
    }


@dataclass(frozen=True)
class Manifest:
    """What a finished stage left: its identity, its files with hashes, and what it measured."""

    stage: str
    kind: str
    fingerprint: str
    lock: str
    files: dict[str, dict[str, Any]]
    inputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    seconds: float = 0.0
    reused_from: str = ""

    def write(self, stage_dir: Path) -> None:
        """Seal the stage folder; from now on the stage counts as finished."""
        write_json(stage_dir / MANIFEST, asdict(self))


def read_manifest(stage_dir: Path) -> Manifest | None:
    """Return the manifest of a stage folder, or None when there is none that can be read."""
    try:
        return Manifest(**json.loads((stage_dir / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_intact(manifest: Manifest, folder: Path, *, hashes: bool = True) -> bool:
    """Tell whether every file of the manifest is in `folder` with its size (and its hash)."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected["size"]:
            return False
        if hashes and file_sha256(path) != expected["sha256"]:
            return False
    return True


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same tree as `source`, by hard links where the file system allows."""

    def link(src: str, dst: str) -> None:
        try:
            os.link(src, dst)
        except OSError:
            shutil.copy2(src, dst)

    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, copy_function=link)
