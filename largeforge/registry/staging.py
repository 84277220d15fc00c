"""Folders that are prepared out of sight and put in place by one rename, and the locks of those who do it."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INCOMING = ".incoming-"

_log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the advisory lock `path`, waiting for the other threads and processes that hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            _log.info("waiting for another registration to release %s", path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside `folder` to prepare files in; it is removed at the end.

    A process that is killed leaves its folder behind without its lock; the next one removes it.
    """
    with locked(folder / ".lock"):
        _sweep(folder)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=folder))
        descriptor = os.open(incoming / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        staged = incoming / "model"
        staged.mkdir()
        yield staged
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
        os.close(descriptor)


def place(staged: Path, target: Path) -> None:
    """Rename a folder from `staging` to where it belongs; what was there goes away with the staging."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(staged.parent / "replaced")
    staged.rename(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the staging folders of dead processes: those whose lock nobody holds."""
    for incoming in folder.glob(f"{_INCOMING}*"):
        descriptor = os.open(incoming / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _try_lock(descriptor):
                shutil.rmtree(incoming, ignore_errors=True)
        finally:
            os.close(descriptor)
