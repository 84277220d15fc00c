"""A folder of files by content: each sha256 once, written whole or not at all. What backups keep files in."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import RegistryError
from largeforge.registry import copying

if TYPE_CHECKING:
    from largeforge.registry.copying import FileHash, Meter

_OTHER = "is not what it was when it was written; remove it and back up again"


class Objects:
    """Files below `<folder>/<first two digits>/<sha256>`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Return where a file with this content is, or would be."""
        return self.folder / sha256[:2] / sha256

    def has(self, entry: FileHash) -> bool:
        """Whether a file with this content is there, as far as its size tells."""
        path = self.path(entry.sha256)
        return path.is_file() and path.stat().st_size == entry.size

    def add(self, source: Path, meter: Meter) -> FileHash:
        """Copy a file in and return what it held."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=self.folder)
        os.close(descriptor)
        incoming = Path(name)
        try:
            found = copying.copy(source, incoming, meter)
            target = self.path(found.sha256)
            target.parent.mkdir(exist_ok=True)
            incoming.replace(target)
        finally:
            incoming.unlink(missing_ok=True)
        return found

    def take(self, entry: FileHash, target: Path, meter: Meter) -> None:
        """Copy a file out.

        Raises RegistryError when it is not there or no more what it was.
        """
        path = self.path(entry.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            raise RegistryError(f"the backup is damaged: {path} is missing")
        if copying.copy(path, target, meter) != entry:
            raise RegistryError(f"the backup is damaged: {path} {_OTHER}")

    def damage(self, entry: FileHash, meter: Meter) -> str:
        """Read a file and return what is wrong with it; empty for nothing."""
        path = self.path(entry.sha256)
        if not path.is_file():
            return f"{path} is missing"
        return "" if copying.hashed(path, meter) == entry else f"{path} {_OTHER}"
