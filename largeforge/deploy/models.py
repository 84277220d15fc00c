"""What a model is on a host: a folder named by the digest of its files, with a manifest of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from largeforge.artifacts import digest
from largeforge.cache import cached_sha256

KEY_LENGTH = 24


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine."""

    folder: Path
    files: dict[str, dict[str, Any]]
    """Relative path to `sha256` and `size` in bytes."""

    @property
    def key(self) -> str:
        """Name of its folder on hosts: the same files are the same model."""
        return digest(self.files)[:KEY_LENGTH]

    @property
    def num_bytes(self) -> int:
        """What it takes on a disk."""
        return sum(int(entry["size"]) for entry in self.files.values())

    def manifest(self) -> dict[str, Any]:
        """Return what a host verifies it with."""
        return {"files": self.files, "bytes": self.num_bytes}


def files_of(folder: Path) -> ModelFiles:
    """Read a model's folder; hidden files and folders are left out. Hashes are kept while files do not change."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return ModelFiles(
        folder,
        {
            path.relative_to(folder).as_posix(): {"sha256": cached_sha256(path), "size": path.stat().st_size}
            for path in kept
        },
    )
