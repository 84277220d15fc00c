"""Where fetched packs lie: one folder per content, shared by all projects of a user.

A pack appears under its content hash by one rename, complete or not at all. Work in progress lies in
folders of its own that stay locked while their process lives; what a killed process left is removed
by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import PackError
from largeforge.recipe.packs import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORK = ".work-"


def root() -> Path:
    """Return the folder of all fetched packs; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "largeforge" / "packs"


def folder_of(sha256: str) -> Path:
    """Return where the pack with this content lies, or would."""
    return root() / sha256


@contextmanager
def workspace() -> Iterator[Path]:
    """Give an empty folder beside the packs, and remove it, and those that killed processes left."""
    root().mkdir(parents=True, exist_ok=True)
    _clean()
    work, descriptor = _locked()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(descriptor)


def _locked() -> tuple[Path, int]:
    """Return a new folder and its lock; before it is locked, another process may take it for a leftover."""
    while True:
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=root()))
        try:
            descriptor = os.open(work, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if work.is_dir():
            return work, descriptor
        os.close(descriptor)


def keep(folder: Path) -> str:
    """Move a pack from a workspace to its place and return its content hash; a damaged one there is replaced."""
    sha256 = tree.content_sha256(folder)
    target = folder_of(sha256)
    for _ in range(3):
        if is_intact(sha256):
            return sha256
        with suppress(OSError):
            target.rename(folder.parent / f"damaged-{os.urandom(4).hex()}")
        with suppress(OSError):  # another process put it there first: look again
            folder.rename(target)
    if not is_intact(sha256):
        raise PackError(f"{target} cannot be replaced: remove it, and fetch again")
    return sha256


def is_intact(sha256: str) -> bool:
    """Tell whether the pack with this content lies in the cache, unchanged."""
    try:
        return tree.content_sha256(folder_of(sha256)) == sha256
    except (PackError, OSError):
        return False


def _clean() -> None:
    for leftover in root().glob(f"{_WORK}*"):
        try:
            descriptor = os.open(leftover, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except OSError:
            continue  # its process lives
        finally:
            os.close(descriptor)
