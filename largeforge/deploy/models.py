"""What a model is on a host: a folder named by the digest of its files, with a manifest of them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import reaper
from largeforge.artifacts import digest
from largeforge.cache import cached_sha256
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.deploy.connection import Reach

KEY_LENGTH = 24
BROKEN_OFF = (10, 12, 20, 30, 35, 255)
"""Exit codes of rsync and ssh after which another attempt continues: the connection broke."""
ATTEMPTS = 5


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


def push(model: ModelFiles, reach: Reach, *, report: Callable[[str], None]) -> None:
    """Bring a model's files into a host's `incoming/`; a transfer that broke off continues.

    Raises DeployError when rsync does not get through.
    """
    if shutil.which("rsync") is None:
        raise DeployError("rsync is not on this machine: install it, models are brought with it")
    incoming = f"{reach.host.paths.root}/incoming/{model.key}"
    shell = ["--rsh", reach.rsync_shell] if not reach.host.is_local else []
    source, target = f"{model.folder}/", f"{_bracketed(reach.host.address)}:{incoming}/"
    options = ["--recursive", "--copy-links", "--times", "--partial-dir=.partial", "--delay-updates", "--exclude=.*",
               "--info=progress2", "--no-inc-recursive", "--timeout=60", "--chmod=D755,F644"]  # fmt: skip
    for attempt in range(1, ATTEMPTS + 1):
        code, said = _rsync([*shell, *options, source, target], report)
        if code == 0:
            return
        if code not in BROKEN_OFF or attempt == ATTEMPTS:
            raise DeployError(f"bringing {model.folder.name} there failed (rsync {code}): {said}")
        report(f"the transfer broke off, and continues (attempt {attempt + 1} of {ATTEMPTS}): {said}")


def _rsync(words: list[str], report: Callable[[str], None]) -> tuple[int, str]:
    """Run rsync, tell its progress in tenths, and return its exit code and last words."""
    process = subprocess.Popen(
        reaper.command(["rsync", *words], grace_s=2), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    told = 0
    with process:
        for line in process.stdout:  # universal newlines: a carriage return ends a line, too
            words_of_line = line.split()
            share = int(words_of_line[1][:-1]) if len(words_of_line) > 2 and words_of_line[1].endswith("%") else 0
            if share >= told + 10:
                told = share // 10 * 10
                report(f"{told} % there, {words_of_line[2]}")
        said = [text for text in process.stderr.read().splitlines() if text.strip()]
    return process.returncode, " / ".join(said[-2:])[:400]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address
