"""One host's part of a training on several: `python -m largeforge.cluster.part FILE`, what the unit of each host runs.

All meet at the first host before anything starts, so that one that is missing is named; it tells them the port of
torch's rendezvous. While they train it hears of all: when one fails, goes, or is silent for too long, all end, and it
says which was the cause. When it is gone itself, each of the others says so and ends. Nobody else is needed for that:
the machine that started them may be off.
"""

from __future__ import annotations

import hmac
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import IO, Any

from largeforge import events, reaper
from largeforge.cluster import agent
from largeforge.cluster.blame import Ending, cause
from largeforge.cluster.link import Link, hello
from largeforge.cluster.shared import SETTLE_S
from largeforge.cluster.spec import Part

HEARTBEAT_S = 2.0
SAVE_S = 80.0
"""Time for processes that are told to end by a person; they save a checkpoint meanwhile."""
SENT_WITHIN_S = 2.0
_RETRY_S = 0.5


class Missing(Exception):
    """A host did not come, or went before anything began."""

    def __init__(self, host: str, text: str):
        super().__init__(text)
        self.host = host


class _Stopped(Exception):
    """A signal came before anything began."""


class Training:
    """The part of one host."""

    def __init__(self, part: Part, out: events.Events, *, passed: IO[str], log: IO[str]):
        self._part, self._out, self._passed, self._log = part, out, passed, log
        self._links: dict[str, Link] = {}
        self._selector = selectors.DefaultSelector()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffers: dict[str, bytes] = {}
        self._failed: dict[str, Any] = {}
        self._words: deque[str] = deque(maxlen=60)
        self._stops = self._forwarded = 0
        self._told = 0.0
        self._outcome = "failed"

    def run(self) -> int:
        """Train to the end; return an exit code, after a `failed` event if another host does not say why."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        leads = self._part.host == self._part.first
        try:
            port = self._gather() if leads else self._join()
            self._start(port)
            return self._lead() if leads else self._follow()
        except Missing as error:
            self._fail(str(error), host=error.host, lost=error.host != self._part.host)
            return 1
        except _Stopped:
            return 130
        finally:
            for link in self._links.values():
                link.tell(over=self._outcome)
            self._end()
            for link in self._links.values():
                link.socket.close()
            self._selector.close()

    def _stop(self, *_: object) -> None:
        self._stops += 1

    # Before the training

    def _gather(self) -> int:
        """Wait until all others have come; return the port of the rendezvous."""
        part, dual = self._part, socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        deadline = time.monotonic() + part.connect_timeout_s
        try:
            listener = socket.create_server(("", part.port), family=family, dualstack_ipv6=dual)
        except OSError as error:
            text = f"host {part.host}: port {part.port} cannot be listened at: {error.strerror}; launcher.rdzv_port"
            raise Missing(part.host, text) from None
        with listener:
            listener.settimeout(0.2)
            while missing := [name for name in part.addresses if name not in self._links and name != part.host]:
                self._listen(0)
                if gone := next((link for link in self._links.values() if not link.is_open), None):
                    raise Missing(gone.host, f"host {gone.host} went before the training began")
                if time.monotonic() > deadline:
                    limit = f"{part.connect_timeout_s:g} s (launcher.connect_timeout_s)"
                    raise Missing(missing[0], f"host {missing[0]} did not come to {part.host} within {limit}")
                self._admit(listener, missing)
        interfaces = {part.host: self._interface(), **{n: link.said["interface"] for n, link in self._links.items()}}
        names = ", ".join(f"{name} ({interfaces[name]})" if interfaces[name] else name for name in part.addresses)
        self._out.emit("note", text=f"training on {len(part.addresses)} hosts: {names}")
        port = _free_port()
        for link in self._links.values():
            link.tell(go=port)
        return port

    def _admit(self, listener: socket.socket, missing: list[str]) -> None:
        """Let in whoever knocks and has the key."""
        try:
            found, _ = listener.accept()
        except TimeoutError:
            return
        said, rest = hello(found)
        key = str(said.get("key")).encode(errors="replace")  # text that is no ASCII would not be compared
        if said.get("host") not in missing or not hmac.compare_digest(key, self._part.key.encode()):
            found.close()
            return
        found.settimeout(SENT_WITHIN_S)
        link = Link(said["host"], self._part.addresses[said["host"]], found, buffer=rest)
        link.said.update(said)
        self._add(link)

    def _join(self) -> int:
        """Go to the first host; return the port of the rendezvous when all are there."""
        part = self._part
        where = (part.addresses[part.first], part.port)
        deadline, why = time.monotonic() + part.connect_timeout_s, ""
        while True:
            try:
                found = socket.create_connection(where, timeout=5)
            except OSError as error:
                why = error.strerror or str(error)
            else:
                link = Link(part.first, where[0], found)
                link.tell(host=part.host, key=part.key, interface=self._interface())
                if port := self._admitted(link):
                    return port
                why = "it turned us away"
            if time.monotonic() > deadline:
                rule = "is a port between them closed, or is it at another address for the others (internal_address)?"
                text = f"host {part.host} does not reach {part.first} at {where[0]}:{where[1]} ({why}); {rule}"
                raise Missing(part.host, text)
            time.sleep(_RETRY_S)
            if self._stops:
                raise _Stopped

    def _admitted(self, link: Link) -> int:
        """Wait for the first host's word; return 0 when it has closed the connection."""
        self._add(link)
        while link.is_open and not self._is_silent(link):
            self._listen(0.2)
            if "go" in link.said:
                return int(link.said["go"])
            if "over" in link.said:  # it says what was in the way
                raise _Stopped
        self._remove(link)
        return 0

    def _add(self, link: Link) -> None:
        self._links[link.host] = link
        self._selector.register(link.socket, selectors.EVENT_READ, link)

    def _remove(self, link: Link) -> None:
        del self._links[link.host]
        if link.socket in self._selector.get_map():
            self._selector.unregister(link.socket)
        link.socket.close()

    # The training

    def _start(self, port: int) -> None:
        part = self._part
        self._process = subprocess.Popen(
            reaper.command(part.argv, grace_s=SAVE_S), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
            env={**agent.network(part.addresses[part.host], part.peers), **os.environ, "PET_MASTER_PORT": str(port)},
        )  # fmt: skip
        for name, stream in (("out", self._process.stdout), ("err", self._process.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._buffers[name] = b""
            self._selector.register(stream, selectors.EVENT_READ, name)

    def _lead(self) -> int:
        """Train until all have ended well, or one has not."""
        failed_at = 0.0
        while True:
            self._listen(0.2)
            if self._stops and self._has_ended:
                return self._code or 130
            over = self._over()
            wrong = [ending for ending in over if ending.lost or ending.error or ending.code]
            if not wrong and len(over) == len(self._part.addresses):
                self._outcome = "done"
                return 0
            failed_at = failed_at or (time.monotonic() if wrong else 0.0)
            if wrong and (time.monotonic() - failed_at > SETTLE_S or any(ending.is_certain for ending in wrong)):
                first = cause(wrong)
                self._fail(
                    first.message(), host=first.host, lost=first.lost, exit_code=first.exit_code, reason=first.kind
                )
                return first.exit_code

    def _over(self) -> list[Ending]:
        """Return the hosts that have ended, or are about to."""
        found = [self._own_ending()] if self._has_ended or self._failed else []
        for link in self._links.values():
            is_lost = "ended" not in link.said and (not link.is_open or self._is_silent(link))
            if is_lost or link.said.keys() & {"ended", "failed"}:
                found.append(link.ending(is_lost=is_lost))
        return found

    def _own_ending(self) -> Ending:
        failed, host = self._failed, self._part.host
        return Ending(
            host, self._part.addresses[host], self._code, error=str(failed.get("error", "")), words=list(self._words),
            exit_code=failed.get("exit_code", 1), reason=failed.get("reason", ""),
        )  # fmt: skip

    def _follow(self) -> int:
        """Train until the first host says how all have ended."""
        link, told = self._links[self._part.first], False
        while True:
            self._listen(0.2)
            if over := link.said.get("over"):
                if over == "done":
                    return 0
                self._end()
                return self._code or 1
            if not link.is_open or self._is_silent(link):
                lost = Ending(link.host, link.address, 1, lost=True)
                self._fail(lost.message(), host=link.host, lost=True)
                return 1
            if self._failed:
                link.tell(failed=self._failed)
                self._failed = {}
            if self._has_ended and not told:
                told = True
                link.tell(ended=self._code, words=list(self._words), stopped=self._stops > 0)

    @property
    def _has_ended(self) -> bool:
        """Whether the processes of this host have ended, and all that they said was read."""
        return self._process is not None and self._process.poll() is not None and not self._buffers

    @property
    def _code(self) -> int:
        return (self._process.poll() if self._process else None) or 0

    def _is_silent(self, link: Link) -> bool:
        return time.monotonic() - link.heard > self._part.lost_after_s

    def _interface(self) -> str:
        found = {**agent.network(self._part.addresses[self._part.host], self._part.peers), **os.environ}
        return found.get("GLOO_SOCKET_IFNAME", "")

    def _fail(self, message: str, *, host: str, lost: bool, exit_code: int = 1, reason: str = "") -> None:
        self._out.emit("failed", error=message, exit_code=exit_code, reason=reason, host=host, lost=lost)

    def _listen(self, timeout_s: float) -> None:
        """Take in what others and our processes say, tell the others that we are here, and obey signals."""
        if self._stops and self._process is None:
            raise _Stopped
        if self._process is not None and self._stops > self._forwarded:
            self._forwarded = self._stops
            self._process.send_signal(signal.SIGTERM)
        if time.monotonic() - self._told > HEARTBEAT_S:
            self._told = time.monotonic()
            for link in self._links.values():
                link.tell()
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, Link):
                key.data.read()
                if not key.data.is_open:
                    self._selector.unregister(key.fileobj)
            else:
                self._read(key.data, key.fileobj)

    def _read(self, name: str, stream: Any) -> None:
        try:
            data = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return
        *lines, rest = (self._buffers[name] + data).split(b"\n")
        if data:
            self._buffers[name] = rest
        else:
            self._selector.unregister(stream)
            del self._buffers[name]
            lines += [rest] if rest else []
        for line in lines:
            self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        event = events.decode(line)
        if event is not None and event["kind"] == "failed":
            self._failed = self._failed or event
        elif event is not None:
            self._passed.write(line + "\n")
            self._passed.flush()
        elif line.strip():
            self._words.append(line)
            self._log.write(line + "\n")
            self._log.flush()

    def _end(self) -> None:
        """End the processes of this host, if there are any."""
        if self._process is None:
            return
        began, told = time.monotonic(), min(self._forwarded, 1)  # those who were told have their time
        while not self._has_ended:
            if told < 2 and time.monotonic() - began >= told * agent.GRACE_S:
                told += 1
                self._process.send_signal(signal.SIGTERM)  # a second one is without grace
            for key, _ in self._selector.select(0.1):
                if not isinstance(key.data, Link):
                    self._read(key.data, key.fileobj)
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.stderr.close()  # type: ignore[union-attr]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def main(arguments: list[str]) -> int:
    """Carry out the part that a file describes, beside which the stage's is."""
    path = Path(arguments[0])
    part = Part.decode(path.read_text(encoding="utf-8"))
    stage = json.loads((path.parent / "stage.json").read_text(encoding="utf-8"))["stage"]
    return Training(part, events.Events(stage, sys.stdout), passed=sys.stdout, log=sys.stderr).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
