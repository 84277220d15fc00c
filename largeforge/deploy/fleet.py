"""The hosts of an inventory through one pyinfra process: look at them, show what would change, change it.

with Fleet(reaches, parallel=10) as fleet:
    found = fleet.look({name: request})      # by host; those that failed are in fleet.failed
    plan = fleet.plan({name: steps})         # what pyinfra's dry run says would change
    fleet.apply({name: steps}, on_event=…)   # at most once, after a look
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from largeforge import reaper
from largeforge.deploy import secret_refs, wire
from largeforge.deploy.connection import CONNECT_TIMEOUT_S
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from largeforge.deploy.connection import Reach
    from largeforge.deploy.steps import Step

Event = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One thing that would be changed on a host, and what differs of it."""

    title: str
    reason: str


class Fleet:
    """The connection to all hosts; `failed` says of those that cannot be worked with why."""

    def __init__(self, reaches: Mapping[str, Reach], *, parallel: int = 10):
        self.failed: dict[str, str] = {}
        self._reaches = dict(reaches)
        self._parallel = parallel
        self._process: subprocess.Popen[str] | None = None
        self._last_words: deque[str] = deque(maxlen=20)

    def __enter__(self) -> Self:
        """Connect to all hosts."""
        environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            reaper.command([sys.executable, "-m", "largeforge.deploy.child"], grace_s=2),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            start_new_session=True, env=environment,
        )  # fmt: skip
        Thread(target=self._keep_last_words, daemon=True).start()
        try:
            self._send(self._opening())
            self._events(lambda event: None)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and its connections."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
            self._process = None

    def look(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return what each host says of itself (`remote/look.py`); hosts that do not answer are in `failed`."""
        found: dict[str, dict[str, Any]] = {}

        def take(event: Event) -> None:
            if event["kind"] == "look":
                found[event["host"]] = event["found"]

        self._send({"do": "look", "request": {name: dict(request) for name, request in requests.items()}})
        self._events(take)
        return {name: found[name] for name in requests if name in found}

    def plan(self, wanted: Mapping[str, Sequence[Step]]) -> dict[str, list[Change]]:
        """Return what would change on each host, from pyinfra's dry run; nothing is changed."""
        return self._apply(wanted, dry=True, on_event=lambda event: None)

    def apply(
        self, wanted: Mapping[str, Sequence[Step]], *, on_event: Callable[[Event], None]
    ) -> dict[str, list[Change]]:
        """Bring the hosts to what the steps say; return what was to be changed. A host that fails is in `failed`."""
        return self._apply(wanted, dry=False, on_event=on_event)

    def _apply(
        self, wanted: Mapping[str, Sequence[Step]], *, dry: bool, on_event: Callable[[Event], None]
    ) -> dict[str, list[Change]]:
        planned: dict[str, list[Change]] = {}

        def take(event: Event) -> None:
            if event["kind"] == "plan":
                planned[event["host"]] = [Change(change["title"], change["reason"]) for change in event["changes"]]
            on_event(event)

        steps = {name: wire.encoded(given) for name, given in wanted.items()}
        self._send({"do": "apply", "steps": steps, "dry": dry})
        self._events(take)
        return planned

    def _opening(self) -> dict[str, Any]:
        passwords = {
            name: secret_refs.fetch(reach.host.sudo_password)
            for name, reach in self._reaches.items()
            if reach.host.sudo_password
        }
        hosts = [{"name": name, "data": reach.for_pyinfra()} for name, reach in self._reaches.items()]
        return {
            "hosts": hosts, "passwords": passwords, "parallel": self._parallel, "connect_timeout_s": CONNECT_TIMEOUT_S,
        }  # fmt: skip

    def _send(self, order: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def _events(self, take: Callable[[Event], None]) -> None:
        """Hand on events until an order is done."""
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["kind"] == "done":
                return
            if event["kind"] == "failed":
                self.failed[event["host"]] = event["error"]
            take(event)
        raise self._ended()

    def _keep_last_words(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        with self._process.stderr as stream:
            self._last_words.extend(line.rstrip() for line in stream if line.strip())

    def _ended(self) -> DeployError:
        return DeployError("pyinfra ended: " + (" / ".join(list(self._last_words)[-3:]) or "no reason given"))
