"""Say in words what an operating system's error means for a file."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

MEANINGS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist: a part of its path is a file",
    errno.EISDIR: "is a directory, not a file",
    errno.EACCES: "cannot be opened: permission denied",
    errno.EPERM: "cannot be opened: permission denied",
    errno.ELOOP: "cannot be opened: its symbolic links go round in a circle",
    errno.ENAMETOOLONG: "cannot be opened: its name is too long",
    errno.EMFILE: "cannot be opened: this process has too many files open",
    errno.EROFS: "cannot be written: the file system is read-only",
    errno.EDQUOT: "cannot be written: the disk quota is used up",
    errno.EFBIG: "cannot be written: the file would exceed the largest size allowed",
    errno.EIO: "cannot be read or written: the device reports an input/output error",
}
"""Error number to the end of a sentence that begins with the path."""


def explain_os_error(error: OSError, path: Path) -> str:
    """Return one sentence that begins with `path` and says what is wrong with it."""
    if error.errno == errno.ENOSPC:
        return f"{path} cannot be written: no space left on its disk ({_free(path)})"
    return f"{path} {MEANINGS.get(error.errno or 0) or f'cannot be used: {error.strerror or error}'}"


def advice(error: OSError) -> str:
    """Return what a user can do about an error while a run was writing; empty when there is no general advice."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and run the same command again: finished stages are kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "give this user write access, or choose other folders with runs.root=… and registry.uri=…"
    return ""


def explain_run_error(error: OSError, folder: Path) -> str:
    """Return what happened and what to do, for an error somewhere below `folder`."""
    message = explain_os_error(error, Path(error.filename) if error.filename else folder)
    return f"{message}; {advice(error)}" if advice(error) else message


def inside(error: Exception) -> OSError | None:
    """Return the operating system's error that another one tells of, or None.

    Libraries written in Rust (safetensors, tokenizers) end their messages with `(os error 28)`.
    """
    if isinstance(error, OSError):
        return error
    told = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else None


def mebibytes(size_bytes: int) -> str:
    """Return a size in MiB with one decimal, for people."""
    return f"{size_bytes / 2**20:.1f} MiB"


def _free(path: Path) -> str:
    try:
        return f"{mebibytes(shutil.disk_usage(path.parent).free)} free"
    except OSError:
        return "free space unknown"
