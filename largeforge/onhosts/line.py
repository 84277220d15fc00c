"""In line on several hosts at once, until the first of them has a turn."""

from __future__ import annotations

import json
import os
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from largeforge.errors import DeployError
from largeforge.onhosts import choice

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from largeforge.onhosts.host import OnHost

HEARTBEAT_S = 5.0
SILENCE_S = 30
FIRST_ANSWER_S = 20.0
"""Time in which hosts must have answered before one that did is taken."""


class Line:
    """A place in line on each of some hosts; a context. What one of them refused or lost is in `failed`."""

    def __init__(self, hosts: Sequence[OnHost], requests: Mapping[str, dict[str, Any]]):
        self._hosts = {host.name: host for host in hosts}
        self._requests = requests
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._buffers: dict[str, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self.standings: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Take a place in each line."""
        for name, host in self._hosts.items():
            request = {"silence_s": SILENCE_S, **self._requests[name]}
            process = self._processes[name] = host.conversation("queue", request)
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ, name)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for name in list(self._processes):
            self._leave(name)
        self._selector.close()

    def turn(self, changed: Callable[[Mapping[str, Mapping[str, Any]]], None]) -> str:
        """Wait until there is a turn on one host, leave the other lines, and return its name.

        `changed` is told where we stand while there is none. Raises DeployError when no host is left.
        """
        began, told = time.monotonic(), ""
        while True:
            self._read(0.5)
            left = [name for name in self._hosts if name in self._processes]
            if not left:
                raise DeployError("; ".join(f"{name}: {why}" for name, why in self.failed.items()))
            is_late = time.monotonic() - began > FIRST_ANSWER_S
            answered = [name for name in left if name in self.standings]
            if winner := choice.chosen(answered if is_late else left, self.standings):
                for name in left:
                    if name != winner:
                        self._leave(name)
                return winner
            state = json.dumps([self.standings.get(name) for name in left])
            if (len(answered) == len(left) or is_late) and answered and state != told:
                told = state
                changed({name: self.standings[name] for name in answered})

    def go(self, name: str, order: dict[str, Any]) -> dict[str, Any]:
        """Start the job where there is a turn; return what the host says of it.

        Raises DeployError when it does not start.
        """
        process = self._processes[name]
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"go {json.dumps(order)}\n")
            process.stdin.flush()
        except OSError:
            raise DeployError(f"{name}: the connection is lost") from None
        while True:
            self._read(1.0)
            said = self.standings.get(name, {})
            if said.get("kind") == "started":
                return said
            if said.get("kind") == "refused":
                raise DeployError(f"{name}: {said['reason']}")
            if name in self.failed:
                raise DeployError(f"{name}: {self.failed[name]}")

    def _read(self, timeout_s: float) -> None:
        """Take in the last line of each host that has said something."""
        for key, _ in self._selector.select(timeout_s):
            name = key.data
            data = os.read(key.fd, 65536)
            *lines, self._buffers[name] = (self._buffers.get(name, b"") + data).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    self.standings[name] = json.loads(line)
            if not data:
                self.failed[name] = self._last_words(self._processes[name])
                self._leave(name)

    def _leave(self, name: str) -> None:
        process = self._processes.pop(name)
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        if process.stdout in self._selector.get_map():
            self._selector.unregister(process.stdout)
        self.standings.pop(name, None)
        process.terminate()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            try:
                stream.close()
            except OSError:
                continue

    @staticmethod
    def _last_words(process: subprocess.Popen[str]) -> str:
        assert process.stderr is not None
        process.terminate()
        said = [line for line in process.stderr.read().splitlines() if line.strip()]
        return " / ".join(said[-2:])[-400:] or "the connection is lost"

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            for process in list(self._processes.values()):
                try:
                    process.stdin.write("\n")  # type: ignore[union-attr]
                    process.stdin.flush()  # type: ignore[union-attr]
                except (OSError, ValueError):
                    continue
