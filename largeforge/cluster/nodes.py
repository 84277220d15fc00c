"""Train on several hosts at once: `python -m largeforge.cluster.nodes SPEC`, the command of `launcher=multi_node`.

Starts an agent on each host, over ssh or here; when all can do their part they begin together, and torch's c10d
rendezvous decides which process is which (never assume that the first host has rank 0). What the first process
reports is passed on from whatever host it comes. When one host fails, its connection ends, or this process is told
to stop, all are ended, and one message says which host it was.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from largeforge import artifacts, events, reaper
from largeforge.cluster import agent, ssh
from largeforge.cluster.blame import Ending, cause
from largeforge.cluster.spec import Node, Spec
from largeforge.secrets import WITHHELD

TOKEN = "shared-storage"
HEARTBEAT_S = 2.0
SETTLE_S = 5.0
"""Time for the other hosts to fail as well, after which the most likely cause is chosen."""
PASSED_ON = ("HF_", "NCCL_", "GLOO_", "TORCH_", "TRANSFORMERS_", "WANDB_", "MLFLOW_", "OMP_", "MKL_", "TOKENIZERS_")
"""Prefixes of variables that hosts are given besides those that keep Python's imports and output in order."""
_PYTHON = ("PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONHASHSEED")
_HANDED_ON = (*_PYTHON, WITHHELD)


@dataclass
class _Link:
    """The connection to one agent."""

    node: Node
    popen: subprocess.Popen[bytes]
    buffers: dict[str, bytes] = field(default_factory=lambda: {"out": b"", "err": b""})
    """Unfinished lines of the streams that are open."""
    versions: dict[str, str] | None = None
    """What the agent found, once it is ready."""
    refusal: str = ""
    failed: dict[str, Any] = field(default_factory=dict)
    """What a worker said before it failed."""
    ended: int | None = None
    """Exit code that the agent reported."""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=60))

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and all that it said has been read."""
        return self.popen.poll() is not None and not self.buffers

    @property
    def has_failed(self) -> bool:
        return bool(self.failed) or (self.is_over and self.popen.poll() != 0)

    def ending(self) -> Ending:
        code = self.popen.poll() or 0
        return Ending(
            self.node.name, self.node.address, code if self.ended is None else self.ended,
            lost=self.is_over and self.ended is None, error=str(self.failed.get("error", "")), words=list(self.last),
            exit_code=self.failed.get("exit_code", 1), reason=self.failed.get("reason", ""),
        )  # fmt: skip

    def tell(self, line: str) -> None:
        try:
            os.write(self.popen.stdin.fileno(), line.encode() + b"\n")  # type: ignore[union-attr]
        except OSError:  # it is gone: its end is noticed by itself
            return

    def let_go(self) -> None:
        try:
            self.popen.stdin.close()  # type: ignore[union-attr]
        except OSError:
            return


class _Stopped(Exception):
    """A signal came."""


class Training:
    """One training on several hosts."""

    def __init__(self, spec: Spec, out: events.Events, *, passed: IO[str], log: IO[str]):
        self._spec, self._out, self._passed, self._log = spec, out, passed, log
        self._links: list[_Link] = []
        self._selector = selectors.DefaultSelector()
        self._stopped = False
        self._told = 0.0

    def run(self) -> int:
        """Train to the end; return an exit code, after a `failed` event if it is not 0."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            with self._shared_token() as token:
                problem = self._gather(token)
            if problem:
                return self._fail(problem)
            names = ", ".join(node.name for node in self._spec.nodes)
            self._out.emit("note", text=f"training on {len(self._spec.nodes)} hosts: {names}")
            return self._train()
        except _Stopped:
            return 130
        finally:
            self._end_all()

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def _shared_token(self) -> Token:
        return Token(Path(self._spec.folder) / "work" / TOKEN)

    def _gather(self, token: Token) -> str:
        """Start all agents and wait until each is ready; return what is in the way."""
        for node in self._spec.nodes:
            self._connect(node, token)
        deadline = time.monotonic() + self._spec.connect_timeout_s
        while any(link.versions is None for link in self._links):
            self._listen()
            for link in self._links:
                if link.refusal:
                    return f"host {link.ending().name}: {link.refusal}"
                if link.is_over and link.versions is None:
                    return _unreachable(link)
            waiting = [link.ending().name for link in self._links if link.versions is None]
            if waiting and time.monotonic() > deadline:
                limit = f"{self._spec.connect_timeout_s:g} s (launcher.connect_timeout_s)"
                return f"host {waiting[0]}: no answer within {limit}"
        return _different_versions(self._links)

    def _connect(self, node: Node, token: Token) -> None:
        order = {
            "argv": node.argv, "address": node.reached_at, "gpus": node.gpus, "workdir": node.workdir,
            "token": token.text, "token_path": str(token.path), "lost_after_s": self._spec.lost_after_s,
            "environment": handed_on(),
            "peers": [other.reached_at for other in self._spec.nodes if other is not node],
        }  # fmt: skip
        target = ssh.Target(node.address, node.user, node.port, self._spec.ssh_config)
        argv = ["env", *(f"{name}={os.environ[name]}" for name in _PYTHON if name in os.environ)]
        argv += [node.python, "-m", "largeforge.cluster.agent"]
        command = ssh.command(target, argv, workdir=node.workdir, lost_after_s=self._spec.lost_after_s)
        popen = subprocess.Popen(
            reaper.command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, cwd=(node.workdir or None) if target.is_local else None,
        )  # fmt: skip
        link = _Link(node, popen)
        self._links.append(link)
        for name, stream in (("out", popen.stdout), ("err", popen.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, (link, name))
        link.tell(json.dumps(order))

    def _train(self) -> int:
        for link in self._links:
            link.tell("go")
        failed_at = 0.0
        while not all(link.is_over for link in self._links):
            self._listen()
            wrong = [link for link in self._links if link.has_failed]
            if wrong and not failed_at:
                failed_at = time.monotonic()
            settled = failed_at and time.monotonic() - failed_at > SETTLE_S
            if settled or any(link.ending().is_certain for link in wrong):
                break
        self._drain()
        endings = [link.ending() for link in self._links if link.has_failed]
        if not endings:
            return 0
        first = cause(endings)
        return self._fail(first.message(), exit_code=first.exit_code, reason=first.kind)

    def _fail(self, message: str, *, exit_code: int = 1, reason: str = "") -> int:
        self._out.emit("failed", error=message, exit_code=exit_code, reason=reason)
        return exit_code

    def _listen(self) -> None:
        """Take in what agents say for a moment, and tell them that somebody is here."""
        if self._stopped:
            raise _Stopped
        if time.monotonic() - self._told > HEARTBEAT_S:
            self._told = time.monotonic()
            for link in self._links:
                link.tell(".")
        for key, _ in self._selector.select(0.2):
            link, name = key.data
            self._read(link, name, key.fileobj)

    def _drain(self) -> None:
        for key in list(self._selector.get_map().values()):
            link, name = key.data
            self._read(link, name, key.fileobj)

    def _read(self, link: _Link, name: str, stream: Any) -> None:
        while True:
            try:
                data = os.read(stream.fileno(), 65536)
            except BlockingIOError:
                return
            if not data:
                self._selector.unregister(stream)
                if rest := link.buffers.pop(name):
                    self._line(link, rest.decode("utf-8", "replace"))
                return
            *lines, link.buffers[name] = (link.buffers[name] + data).split(b"\n")
            for line in lines:
                self._line(link, line.decode("utf-8", "replace"))

    def _line(self, link: _Link, line: str) -> None:
        line = line.rstrip("\r")  # ssh ends its own lines as terminals do
        event = events.decode(line)
        if event is not None and event["kind"] == "failed":
            link.failed = link.failed or event
        elif event is not None:
            self._passed.write(line + "\n")
            self._passed.flush()
        elif line.startswith('{"agent": '):
            said = json.loads(line)
            link.versions = said.get("versions", link.versions)
            link.refusal = said.get("reason", link.refusal)
            link.ended = said.get("code", link.ended)
        elif line.strip():
            link.last.append(line)
            self._log.write(f"[{link.node.name}] {line}\n")
            self._log.flush()

    def _end_all(self) -> None:
        """Let go of every agent and wait until it has ended its processes; then end the connections."""
        for link in self._links:
            link.let_go()
        deadline = time.monotonic() + agent.GRACE_S + 2
        while not all(link.is_over for link in self._links) and time.monotonic() < deadline:
            for key, _ in self._selector.select(0.1):
                self._read(key.data[0], key.data[1], key.fileobj)
            if not self._selector.get_map():
                time.sleep(0.05)
        for link in self._links:
            if not link.is_over:
                link.popen.send_signal(signal.SIGTERM)
        for link in self._links:
            link.popen.wait()
            for stream in (link.popen.stdout, link.popen.stderr):
                stream.close()  # type: ignore[union-attr]
        self._selector.close()


class Token:
    """A file that each host must find with the same content: then the folder is on shared storage."""

    def __init__(self, path: Path):
        self.path, self.text = path, secrets.token_hex(16)

    def __enter__(self) -> Token:
        artifacts.write_text(self.path, self.text)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def handed_on() -> dict[str, str]:
    """Return the variables of this process that those of other hosts are given."""
    return {name: value for name, value in os.environ.items() if name in _HANDED_ON or name.startswith(PASSED_ON)}


def _unreachable(link: _Link) -> str:
    name, last = link.ending().name, link.last[-1] if link.last else "no reason given"
    if "No module named" in last:
        return f"host {name}: {link.node.python} has no LargeForge there ({last}); see hosts.{link.node.name}.python"
    if link.popen.returncode == 255:
        return f"host {name} cannot be reached: {last}"
    return f"host {name}: {link.node.python} cannot be started there: {last}"


def _different_versions(links: list[_Link]) -> str:
    first = links[0]
    for link in links[1:]:
        for package in dict.fromkeys([*(first.versions or {}), *(link.versions or {})]):
            one, other = ((found.versions or {}).get(package, "none") for found in (first, link))
            if one != other:
                there = f"{first.node.name} has {package} {one}, {link.node.name} has {other}"
                return f"hosts must have the same packages: {there}"
    return ""


def main(arguments: list[str]) -> int:
    """Carry out the spec on the command line."""
    spec = Spec.decode(arguments[0])
    stage = json.loads((Path(spec.folder) / "stage.json").read_text(encoding="utf-8"))["stage"]
    return Training(spec, events.Events(stage, sys.stdout), passed=sys.stdout, log=sys.stderr).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
