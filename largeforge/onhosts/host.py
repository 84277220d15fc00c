"""One host of trainings: the program of `remote/` there, asked over ssh."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import reaper
from largeforge.artifacts import digest
from largeforge.deploy import remote_python, secret_refs, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.deploy.connection import Reach

_REMOTE = Path(__file__).resolve().parent / "remote"
LONGEST_S = 1800.0
"""Longest answer: hashing a large model takes minutes."""


@dataclass(frozen=True)
class OnHost:
    """A host and what can be asked of it."""

    reach: Reach

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self.reach.name

    @property
    def base(self) -> str:
        """Folder of all trainings there."""
        return f"{self.reach.host.paths.state}/trainings"

    @property
    def programs(self) -> str:
        """Folder of the program there; another version is another folder, so that jobs keep theirs."""
        return f"{self.base}/agent/{digest(_sources())[:12]}"

    def install(self) -> None:
        """Bring the program there, unless it is there; its folder's name is a digest of its content."""
        argv = remote_python.argv("unpack", self.programs)
        shell.run(self.reach, argv, stdin=json.dumps(_sources()), timeout_s=60)

    def ask(self, action: str, timeout_s: float = LONGEST_S, **request: Any) -> dict[str, Any]:
        """Return what the program answers.

        Raises DeployError when it fails or the host cannot be reached.
        """
        said = shell.run(self.reach, self.argv(action, request), timeout_s=timeout_s)
        found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return found

    def look(self, job: str, keys: list[str] | None = None) -> dict[str, Any]:
        """Return what the host is, and how a job stands there."""
        return self.ask("look", 60, base=self.base, id=job, keys=keys or [])

    def follow(self, folder: str, *, events: int, log: int) -> Iterator[dict[str, Any]]:
        """Yield what a job tells, from some places in its events and its log on; ends with `ended`.

        Raises ConnectionLost when the connection breaks.
        """
        request = {"folder": folder, "events": events, "log": log}
        for line in shell.lines(self.reach, self.argv("follow", request)):
            if line:
                yield json.loads(line)

    def conversation(self, action: str, request: dict[str, Any]) -> subprocess.Popen[str]:
        """Start the program with its input open; what it says is on its output."""
        process = subprocess.Popen(
            reaper.command(self.reach.command(self.argv(action, request), root=True), grace_s=1),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        if self.reach.sudo and self.reach.host.sudo_password:
            assert process.stdin is not None
            process.stdin.write(secret_refs.fetch(self.reach.host.sudo_password) + "\n")
            process.stdin.flush()
        return process

    def argv(self, action: str, request: dict[str, Any]) -> list[str]:
        """Return the command line of the program there."""
        return ["python3", f"{self.programs}/job.py", action, json.dumps(request)]


@cache
def _sources() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_REMOTE.glob("[a-z]*.py"))}
