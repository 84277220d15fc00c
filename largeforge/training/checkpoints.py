"""Checkpoints that can be trusted: written aside, flushed, sealed with hashes, renamed; verified before use.

transformers neither saves atomically nor notices a missing optimizer state or a flipped byte, and continues
silently with other numbers. Here a checkpoint has its final name only once all of it is on the disk, and counts
only while each of its files has the content that it was sealed with. Nothing here knows what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from largeforge.artifacts import write_json

SEAL = "largeforge-checkpoint.json"
SAVING = ".saving"
"""Folder below that of the checkpoints in which one is written."""
HASH = "blake3" if find_spec("blake3") else "sha256"
"""What seals are made with: hashing must not take longer than writing."""


@dataclass(frozen=True)
class Damaged:
    """A checkpoint that cannot be trusted, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name} is damaged ({self.reason})"


@dataclass(frozen=True)
class Store:
    """The checkpoints of one training."""

    folder: Path
    limit: int
    """How many of the newest are kept."""

    def path(self, step: int) -> Path:
        """Return where the checkpoint of a step is."""
        return self.folder / f"checkpoint-{step}"

    @property
    def saving(self) -> Path:
        """Folder in which a checkpoint is written under the same name."""
        return self.folder / SAVING

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that have a seal, newest first; nothing is read."""
        found = (re.fullmatch(r"checkpoint-(\d+)", seal.parent.name) for seal in self.folder.glob(f"*/{SEAL}"))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def newest(self) -> tuple[Path | None, list[Damaged]]:
        """Return the newest intact checkpoint, or None, and the damaged ones that are newer; reads what it returns."""
        damaged: list[Damaged] = []
        for step in self.steps():
            if not (reason := damage(self.path(step))):
                return self.path(step), damaged
            damaged.append(Damaged(self.path(step), reason))
        return None, damaged

    def commit(self, step: int, facts: dict[str, Any], *, best: int | None = None) -> Path:
        """Seal what was written for a step, give it its name, and remove the checkpoints that are not kept.

        Besides the newest that of the step `best` is kept. `facts` are written into the seal.
        """
        written, path = self.saving / f"checkpoint-{step}", self.path(step)
        seal(written, facts)
        remove(path)  # one of an earlier attempt that was damaged
        written.rename(path)
        _flush(self.folder)
        kept = {*self.steps()[: self.limit], best}
        for old in self.steps():
            if old not in kept:
                remove(self.path(old))
        return path

    def clean(self, *, after: Path | None) -> None:
        """Remove what a killed process left half written or half removed, and the checkpoints after `after`."""
        shutil.rmtree(self.saving, ignore_errors=True)
        last = int(after.name.rpartition("-")[2]) if after else -1
        sealed = set(self.steps())
        for path in self.folder.glob("checkpoint-*"):
            step = path.name.rpartition("-")[2]
            if not step.isdecimal() or int(step) > last or int(step) not in sealed:
                remove(path)


def seal(checkpoint: Path, facts: dict[str, Any]) -> None:
    """Bring all files of a folder onto the disk and record their hashes, with facts about them."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    with ThreadPoolExecutor(thread_name_prefix="flush") as pool:  # the disk works while we compute
        flushed = [pool.submit(_flush, path) for path in files]
        hashes = {path.relative_to(checkpoint).as_posix(): _described(path) for path in files}
        for each in flushed:
            each.result()
    write_json(checkpoint / SEAL, {**facts, "hash": HASH, "files": hashes})
    for folder in (*(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint):
        _flush(folder)


def flush(checkpoint: Path) -> None:
    """Bring the files that this machine has written into a folder onto the disk."""
    for path in checkpoint.rglob("*"):
        _flush(path)


def facts(checkpoint: Path) -> dict[str, Any]:
    """Return what is written in the seal of a checkpoint; empty when it cannot be read."""
    with suppress(OSError, ValueError):
        found = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def damage(checkpoint: Path) -> str:
    """Return what is wrong with a sealed checkpoint; empty when it is intact."""
    found = facts(checkpoint)
    files = found.get("files")
    if not isinstance(files, dict):
        return "its seal cannot be read"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
    for name, expected in files.items():
        try:
            intact = _hash(checkpoint / name, str(found.get("hash"))) == expected["hash"]
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if not intact:
            return f"{name} is not what was saved"
    return ""


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; one that is half removed has no seal."""
    with suppress(FileNotFoundError, NotADirectoryError):
        (checkpoint / SEAL).unlink()
    with suppress(FileNotFoundError):
        shutil.rmtree(checkpoint)


def _described(path: Path) -> dict[str, Any]:
    return {"hash": _hash(path, HASH), "size": path.stat().st_size}


def _hash(path: Path, name: str) -> str:
    if name == "blake3":
        from blake3 import blake3

        hasher = blake3(max_threads=blake3.AUTO)
        if path.stat().st_size:
            hasher.update_mmap(path)
        return hasher.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
