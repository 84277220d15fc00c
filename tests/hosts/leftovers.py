"""Folders of running test hosts, each locked by the process that has the hosts, and their complete removal.

Hosts are removed in the same way when their process ends well and when a later one finds it gone.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import bridge
from tests.hosts import cgroups
from tests.hosts.rootfs import locked

_numbers = itertools.count(1)


@contextmanager
def claimed(base: Path) -> Iterator[Path]:
    """Make a folder for hosts, after those of processes that are gone were removed; remove it at the end.

    Its name is free for namespaces and control groups. SIGTERM ends the process as Ctrl-C does.
    """
    with _terminable():
        base.mkdir(parents=True, exist_ok=True)
        with locked(base / "lock"):
            sweep(base)
            folder = base / f"lfh{os.getpid()}-{next(_numbers)}"
            folder.mkdir()
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            with _undisturbed():
                remove(folder)
                os.close(lock)


def sweep(base: Path) -> None:
    """Remove what processes have left behind that are gone."""
    for folder in sorted(path for path in base.iterdir() if path.is_dir()):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
        except BlockingIOError:
            continue  # in use
        finally:
            os.close(lock)


def remove(folder: Path) -> None:
    """Remove the hosts of a folder: processes, namespaces, mounts, control groups, files."""
    listed = folder / "cgroups"
    groups = [Path(line) for line in listed.read_text().splitlines()] if listed.is_file() else []
    cgroups.kill(groups)
    bridge.remove(folder.name)
    for mount in reversed(mounts(folder)):
        subprocess.run(["umount", "--lazy", mount], capture_output=True)
    cgroups.remove(groups)
    if left := mounts(folder):
        raise OSError(f"still mounted: {', '.join(left)}")
    shutil.rmtree(folder, onerror=_unless_gone)


def _unless_gone(function: object, path: str, raised: tuple[type[BaseException], BaseException, object]) -> None:
    """Raise what kept a file from being removed, unless another process has removed it meanwhile."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def mounts(folder: Path) -> list[str]:
    """Return what is mounted below a folder, in the order of mounting."""
    places = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    plain = (place.encode().decode("unicode_escape") for place in places)  # a space is \040
    return [place for place in plain if Path(place).is_relative_to(folder)]


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that what must be cleaned up is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore what would interrupt a removal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
