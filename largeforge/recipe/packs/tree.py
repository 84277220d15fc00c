"""Which files of a repository make a pack, the limits they keep, and the hash of them all.

Taken are `pack.yaml`, `recipes/` and `conf/`; nothing else of a repository is looked at. Only plain
files with plain names are taken: no links, no submodules, nothing hidden, nothing that two file
systems would name differently.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.artifacts import digest, file_sha256
from largeforge.errors import PackError
from largeforge.os_errors import mebibytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.packs.git import Repository

MANIFEST = "pack.yaml"
FOLDERS = ("recipes", "conf")

MAX_FILES = 1000
MAX_FILE_BYTES = 32 * 2**20
MAX_TOTAL_BYTES = 64 * 2**20
MAX_DEPTH = 8
MAX_NAME = 100

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LEFT_OUT = {".gitkeep", ".gitignore", ".gitattributes", "__pycache__"}
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", "40000": "a folder", "100644": "no folder"}


class Budget:
    """Counts what is taken, and refuses what is too much or has an unsound name."""

    def __init__(self) -> None:
        self.files = self.total_bytes = self.entries = 0
        self._seen: dict[str, str] = {}

    def entry(self, path: str) -> None:
        """Count a file or folder before it is looked into."""
        name = path.rpartition("/")[2]
        self.entries += 1
        if self.entries > 2 * MAX_FILES:
            raise PackError(f"the pack has more than {2 * MAX_FILES} files and folders")
        if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
            rule = f"a name has letters, digits, . _ - and at most {MAX_NAME} characters, and begins with none of . -"
            raise PackError(f"{ascii(path)[:200]}: {rule}")
        if path.count("/") >= MAX_DEPTH:
            raise PackError(f"{path}: folders are nested deeper than {MAX_DEPTH} levels")
        first = self._seen.setdefault(path.lower(), path)
        if first != path or self.entries > len(self._seen):
            raise PackError(f"{path}: differs from {first} only in its case")

    def file(self, path: str, size_bytes: int) -> None:
        """Count a file before it is read."""
        self.files += 1
        self.total_bytes += size_bytes
        if self.files > MAX_FILES:
            raise PackError(f"the pack has more than {MAX_FILES} files")
        if size_bytes > MAX_FILE_BYTES:
            raise PackError(f"{path}: has {mebibytes(size_bytes)}; a file has at most {mebibytes(MAX_FILE_BYTES)}")
        if self.total_bytes > MAX_TOTAL_BYTES:
            raise PackError(f"the pack has more than {mebibytes(MAX_TOTAL_BYTES)}")


def extract(repository: Repository, commit: str, target: Path) -> None:
    """Write the pack's files of a commit below `target`, which must not exist.

    Nothing of the repository decides how: git's filters, attributes and links play no part.
    Raises PackError when the tree breaks a rule.
    """
    target.mkdir()
    budget = Budget()
    for path, oid in _blobs(repository, repository.tree_of(commit), budget):
        content = repository.read(oid, "blob", MAX_FILE_BYTES)
        budget.file(path, len(content))
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o444)
    if not budget.files:
        raise PackError(f"not a pack: it has neither {MANIFEST} nor files in {'/ or '.join(FOLDERS)}/")


def _blobs(repository: Repository, tree: str, budget: Budget, folder: str = "") -> Iterator[tuple[str, str]]:
    for mode, name, oid in repository.entries(tree):
        path = f"{folder}/{name}" if folder else name
        if name in _LEFT_OUT or (not folder and name not in (*FOLDERS, MANIFEST)):
            continue
        budget.entry(path)
        if mode == "40000" and path != MANIFEST:
            yield from _blobs(repository, oid, budget, path)
        elif mode.startswith("100") and path not in FOLDERS:
            yield path, oid
        else:
            raise PackError(f"{path}: is {_KINDS.get(mode, 'no plain file')}; a pack holds plain files only")


def scan(folder: Path, *, strict: bool = True) -> dict[str, Path]:
    """Return the files of a pack that lies in a folder, by path, within the same rules.

    Raises PackError when one of them breaks a rule; not `strict`, a working copy with more beside them is fine.
    """
    budget = Budget()
    found = dict(_files(folder, "", budget, strict))
    if not found:
        raise PackError(f"not a pack: it has neither {MANIFEST} nor files in {'/ or '.join(FOLDERS)}/")
    return found


def _files(root: Path, folder: str, budget: Budget, strict: bool) -> Iterator[tuple[str, Path]]:
    with os.scandir(root / folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if not folder and entry.name not in (*FOLDERS, MANIFEST) and not strict:
            continue
        if entry.name in _LEFT_OUT and not strict:
            continue
        path = f"{folder}/{entry.name}" if folder else entry.name
        budget.entry(path)
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and path != MANIFEST:
            yield from _files(root, path, budget, strict)
        elif stat.S_ISREG(status.st_mode):
            budget.file(path, status.st_size)
            yield path, Path(entry.path)
        else:
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no plain file"
            raise PackError(f"{path}: is {kind}; a pack holds plain files only")


def content_sha256(folder: Path) -> str:
    """Return the hash of a pack's files, names and contents; it does not depend on the machine.

    Raises PackError when the folder holds anything that no pack may hold.
    """
    return digest({path: file_sha256(file) for path, file in scan(folder).items()})
