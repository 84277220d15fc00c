"""Files that are brought to hosts, named there by the digest of their content: the same content is brought once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from largeforge.artifacts import digest
from largeforge.cache import cached_sha256

KEY_LENGTH = 24


@dataclass(frozen=True)
class Content:
    """A folder, or one file, of this machine."""

    path: Path
    files: dict[str, dict[str, Any]]
    """Relative path to `sha256` and `size` in bytes."""

    @property
    def key(self) -> str:
        """Name of its folder on hosts."""
        return digest(self.files)[:KEY_LENGTH]

    @property
    def num_bytes(self) -> int:
        """What it takes on a disk."""
        return sum(int(entry["size"]) for entry in self.files.values())

    def manifest(self) -> dict[str, Any]:
        """Return what a host verifies it with."""
        return {"files": self.files, "bytes": self.num_bytes}


@dataclass(frozen=True)
class HubContent:
    """A commit of a model hub, which hosts fetch themselves."""

    repo: str
    commit: str

    @property
    def key(self) -> str:
        """Name of its folder on hosts."""
        return digest([self.repo, self.commit])[:KEY_LENGTH]


def files_of(path: Path, *, hidden: bool = False) -> dict[str, dict[str, Any]]:
    """Return the files of a folder, or the one file, with their hashes; those are kept while files do not change.

    Files whose path has a part that begins with a dot count only when `hidden` is given. Raises OSError when one
    cannot be read.
    """
    found = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    top = path if path.is_dir() else path.parent
    names = {each: each.relative_to(top) for each in found}
    return {
        name.as_posix(): {"sha256": cached_sha256(each), "size": each.stat().st_size}
        for each, name in names.items()
        if hidden or not any(part.startswith(".") for part in name.parts)
    }
