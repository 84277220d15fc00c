"""What Ray runs for each process of a training: an agent (`agent.py`) with its leash, reached through Ray.

This module is sent to the nodes as it is, so that a node without LargeForge can still say so: it imports nothing
but the standard library, and Ray where it runs. When Ray ends the actor, for whatever reason, the end of the agent's
standard input ends what the agent has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import selectors
import socket
import subprocess
import sys
import time
from typing import Any

_MOST_BYTES = 1 << 20


class Worker:
    """One process of a training; `read` may wait while something else is called."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._buffers = {"out": b"", "err": b""}

    def facts(self) -> dict[str, Any]:
        """Return where this is, what Ray has given it, and what it runs in."""
        import ray

        context = ray.get_runtime_context()
        return {
            "node": context.get_node_id(), "address": ray.util.get_node_ip_address(), "name": socket.gethostname(),
            "gpus": context.get_accelerator_ids().get("GPU", []),
            "versions": {"python": platform.python_version(), "ray": ray.__version__},
        }  # fmt: skip

    def free_port(self) -> int:
        """Return a port at which nobody listens here."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return int(probe.getsockname()[1])

    def address_towards(self, peer: str) -> str:
        """Return the address from which this node reaches another one; nothing is sent."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))
            return str(probe.getsockname()[0])

    def start(self, order: dict[str, Any]) -> None:
        """Start the agent with an order; what it runs is a module for the Python that Ray runs here."""
        order = {**order, "argv": [sys.executable, "-m", *order["module"]]}
        python = {name: order["environment"][name] for name in ("PYTHONSAFEPATH",) if name in order["environment"]}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "largeforge.cluster.agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, env={**os.environ, **python},
        )  # fmt: skip
        for name, stream in (("out", self._process.stdout), ("err", self._process.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, name)
        self.tell(json.dumps(order))

    def tell(self, line: str) -> None:
        """Say something to the agent."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it is gone: its end is noticed by itself
            os.write(self._process.stdin.fileno(), line.encode() + b"\n")

    def let_go(self) -> None:
        """Let the agent end what it runs, and itself."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def read(self, wait_s: float) -> tuple[list[str], int | None]:
        """Return the lines that came, once there are any or the time is over, and the exit code after the last one.

        Being asked is what keeps the agent alive: it is told that somebody is there.
        """
        assert self._process is not None
        self.tell(".")
        deadline, lines = time.monotonic() + wait_s, list[str]()
        while not lines and self._selector.get_map() and time.monotonic() < deadline:
            for key, _ in self._selector.select(max(0.0, deadline - time.monotonic())):
                lines += self._take(key.data, key.fileobj)
        return lines, None if self._selector.get_map() else self._process.wait()

    def _take(self, name: str, stream: Any) -> list[str]:
        data = os.read(stream.fileno(), _MOST_BYTES)
        if not data:
            self._selector.unregister(stream)
            stream.close()
            rest = self._buffers.pop(name)
            return [rest.decode("utf-8", "replace")] if rest else []
        *lines, self._buffers[name] = (self._buffers[name] + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]
