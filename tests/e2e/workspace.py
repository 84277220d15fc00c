"""A user's working directory, with the command line run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Workspace:
    """A folder in which `python -m largeforge …` is run as a user would."""

    path: Path

    def run(self, *words: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return subprocess.run(
            self.command(*words), cwd=self.path, env=environment(), capture_output=True, text=True, timeout=timeout_s
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command line in a session of its own, with its output in `output.log`."""
        with (self.path / "output.log").open("w") as log:
            return subprocess.Popen(
                self.command(*words), cwd=self.path, env=environment(), stdout=log, stderr=subprocess.STDOUT,
                text=True, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        """What the last started command has printed so far."""
        return (self.path / "output.log").read_text()

    def await_output(self, process: subprocess.Popen[str], text: str) -> None:
        """Wait until the last started command has printed something; fails when it ends before."""
        wait_for(lambda: text in self.output or process.poll() is not None)
        assert text in self.output, self.output

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "largeforge", *words]

    def run_dir(self, recipe: str) -> Path:
        """Return the newest run of a recipe."""
        return max((self.path / "runs" / recipe).iterdir())

    def manifest(self, recipe: str, stage: str) -> dict[str, Any]:
        """Return the manifest of a stage of the newest run of a recipe."""
        found: dict[str, Any] = json.loads((self.run_dir(recipe) / stage / "manifest.json").read_text())
        return found

    def write(self, name: str, text: str) -> Path:
        """Write a file below the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def environment() -> dict[str, str]:
    """Return the environment of a user without access to a model hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def wait_for(condition: Callable[[], object], *, timeout_s: float = 300) -> None:
    """Wait until a condition holds; fails when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def processes(*parts: str) -> list[str]:
    """Return the command lines of running processes that hold all `parts`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(part in line for part in parts):
            found.append(line)
    return found
