"""Train on the nodes of a Ray cluster: `python -m largeforge.cluster.ray_training SPEC`, the command of `launcher=ray`.

Ray gives room on its nodes and starts an actor for each process; the actor runs an agent (`agent.py`) on its leash,
and what that says comes back here. When one process fails, Ray loses one, or this process is told to stop, all are
ended, and one message says which it was. When this process dies, Ray ends its actors, and they let go of the agents.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from largeforge import events
from largeforge.autopsy import Worker
from largeforge.cluster import agent, ray_cluster, shared
from largeforge.cluster.blame import Ending, cause
from largeforge.cluster.ray_cluster import Seat, Unavailable
from largeforge.cluster.spec import RaySpec

CALL_S = 60.0
"""Time that an actor may take for what needs a moment."""
READ_S = 2.0
"""Time that an actor waits for lines; each time the agent is told that somebody is there."""


@dataclass
class Link:
    """One process, and what it has said so far."""

    seat: Seat
    asked: Any = None
    """The answer that is waited for, and since when."""
    asked_at: float = 0.0
    versions: dict[str, str] | None = None
    """What the agent found, once it is ready."""
    refusal: str = ""
    failed: dict[str, Any] = field(default_factory=dict)
    """What the worker said before it failed."""
    ended: int | None = None
    """Exit code that the agent reported."""
    lost: str = ""
    """What Ray says of an actor that is gone."""
    is_over: bool = False
    last: deque[str] = field(default_factory=lambda: deque(maxlen=60))

    @property
    def has_failed(self) -> bool:
        return bool(self.failed or self.lost) or (self.is_over and self.ended != 0)

    def ending(self) -> Ending:
        """Return how this process ended, for the search for the cause."""
        code = self.ended or 0
        killers = {128 + number: number.name for number in signal.Signals}
        worker = Worker(killers[code], str(self.seat.rank)) if code in killers and not self.failed else None
        loss = f"rank {self.seat.rank} is gone: {self.lost or 'its agent was killed'}"
        return Ending(
            self.seat.host, self.seat.address, code, lost=self.is_over and self.ended is None,
            error=str(self.failed.get("error", "")), exit_code=self.failed.get("exit_code", 1),
            reason=self.failed.get("reason", ""), words=list(self.last), worker=worker, loss=loss,
        )  # fmt: skip

    def take(self, line: str) -> bool:
        """Take in what the agent or a failing worker says; return whether it was such a line."""
        event = events.decode(line)
        if event is not None and event["kind"] == "failed":
            self.failed = self.failed or event
            return True
        if not line.startswith('{"agent": '):
            return False
        said = json.loads(line)
        self.versions = said.get("versions", self.versions)
        self.refusal = said.get("reason", self.refusal)
        self.ended = said.get("code", self.ended)
        return True


class Training:
    """One training on a Ray cluster."""

    def __init__(self, spec: RaySpec, out: events.Events, *, passed: IO[str], log: IO[str]):
        self._spec, self._out, self._passed, self._log = spec, out, passed, log
        self._links: list[Link] = []
        self._stopped = False

    def run(self) -> int:
        """Train to the end; return an exit code, after a `failed` event if it is not 0."""
        self._hear_signals()
        group = None
        try:
            ray_cluster.join(self._spec.address)
            self._hear_signals()  # Ray has put its own in place
            group = ray_cluster.reserve(
                self._spec, is_stopped=lambda: self._stopped, waiting=lambda text: self._note(text)
            )
            return 130 if group is None else self._follow(group)
        except Unavailable as error:
            return self._fail(str(error))
        finally:
            self._end_all(group)

    def _hear_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def _follow(self, group: Any) -> int:
        from ray.exceptions import RayError

        try:
            seats = ray_cluster.seats(self._spec, group)
            with shared.Token(Path(self._spec.folder) / "work" / shared.TOKEN) as token:
                self._start(seats, token)
                problem = self._gather()
        except RayError as error:
            return self._fail(f"Ray could not start the processes: {first_line(error)}")
        if self._stopped:
            return 130
        if problem:
            return self._fail(problem)
        hosts = ", ".join(dict.fromkeys(f"{link.seat.host} ({link.seat.address})" for link in self._links))
        self._note(f"training in {len(seats)} process{'es' if len(seats) > 1 else ''} on {hosts}")
        return self._train()

    def _start(self, seats: Sequence[Seat], token: shared.Token) -> None:
        """Start the agents with their orders."""
        import ray

        first, others = seats[0], [seat.address for seat in seats if seat.address != seats[0].address]
        port = ray.get(first.worker.free_port.remote(), timeout=CALL_S)
        peers = [(others or [seat.address])[0] if seat.address == first.address else first.address for seat in seats]
        towards = [seat.worker.address_towards.remote(peer) for seat, peer in zip(seats, peers, strict=True)]
        started = []
        for seat, address in zip(seats, ray.get(towards, timeout=CALL_S), strict=True):
            place = ray_cluster.environment(seat, self._spec, first=first, port=port, size=len(seats))
            order = {
                "module": self._spec.module, "address": address, "gpus": self._spec.gpus * seat.local_size,
                "workdir": self._spec.workdir, "token": token.text, "token_path": str(token.path),
                "lost_after_s": self._spec.lost_after_s, "environment": {**shared.handed_on(), **place},
            }  # fmt: skip
            started.append(seat.worker.start.remote(order))
            self._links.append(Link(seat))
        ray.get(started, timeout=CALL_S)

    def _gather(self) -> str:
        """Wait until each agent is ready; return what is in the way."""
        while any(link.versions is None for link in self._links) and not self._stopped:
            self._listen()
            for link in self._links:
                name = link.ending().name
                if link.refusal:
                    return f"host {name}: {link.refusal}"
                if link.is_over and link.versions is None:
                    last = link.lost or (link.last[-1] if link.last else "no reason given")
                    return f"host {name}: the Python that Ray runs there cannot run LargeForge ({last})"
        return different_versions(self._links)

    def _train(self) -> int:
        for link in self._links:
            link.seat.worker.tell.remote("go")
        failed_at = 0.0
        while not all(link.is_over for link in self._links):
            self._listen()
            if self._stopped:
                return 130
            wrong = [link for link in self._links if link.has_failed]
            if wrong and not failed_at:
                failed_at = time.monotonic()
            settled = failed_at and time.monotonic() - failed_at > shared.SETTLE_S
            if settled or any(link.ending().is_certain for link in wrong):
                break
        endings = [link.ending() for link in self._links if link.has_failed]
        if not endings:
            return 0
        first = cause(endings)
        return self._fail(first.message(), exit_code=first.exit_code, reason=first.kind)

    def _listen(self, wait_s: float = 0.2) -> None:
        """Take in what has come from the actors, and ask them for more."""
        import ray

        now = time.monotonic()
        for link in self._links:
            if link.asked is None and not link.is_over:
                link.asked, link.asked_at = link.seat.worker.read.remote(READ_S), now
            elif not link.is_over and now - link.asked_at > READ_S + self._spec.lost_after_s:
                link.lost, link.is_over = f"no answer for {self._spec.lost_after_s:g} s (launcher.lost_after_s)", True
        asked = {link.asked: link for link in self._links if not link.is_over}
        if not asked:
            return
        for answer in ray.wait(list(asked), num_returns=1, timeout=wait_s)[0]:
            self._read(asked[answer])

    def _read(self, link: Link) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            lines, code = ray.get(link.asked)
        except RayError as error:
            link.lost, link.is_over = loss(error), True
            return
        link.asked, link.is_over = None, code is not None
        for line in lines:
            self._line(link, line)

    def _line(self, link: Link, line: str) -> None:
        if link.take(line):
            return
        if events.decode(line) is not None:
            self._passed.write(line + "\n")
            self._passed.flush()
        elif line.strip():
            link.last.append(line)
            self._log.write(f"[{link.seat.name}] {line}\n")
            self._log.flush()

    def _note(self, text: str) -> None:
        self._out.emit("note", text=text)

    def _fail(self, message: str, *, exit_code: int = 1, reason: str = "") -> int:
        self._out.emit("failed", error=message, exit_code=exit_code, reason=reason)
        return exit_code

    def _end_all(self, group: Any) -> None:
        """Let go of every agent and wait until it has ended its processes; then give the room back."""
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        for link in self._links:
            if not link.is_over:
                link.seat.worker.let_go.remote()
        deadline = time.monotonic() + agent.GRACE_S + 2
        while not all(link.is_over for link in self._links) and time.monotonic() < deadline:
            self._listen()
        if group is not None:
            ray.util.remove_placement_group(group)
        ray.shutdown()


def different_versions(links: Sequence[Link]) -> str:
    """Say which package differs between two nodes; empty when none does."""
    first = links[0]
    ours, reference = _versions(first), f"{first.seat.host} ({first.seat.address})"
    for link in links[1:]:
        theirs = _versions(link)
        for package in dict.fromkeys([*ours, *theirs]):
            one, other = ours.get(package, "none"), theirs.get(package, "none")
            if one != other:
                there = f"{reference} has {package} {one}, {link.seat.host} ({link.seat.address}) has {other}"
                return f"hosts must have the same packages: {there}"
    return ""


def _versions(link: Link) -> dict[str, str]:
    return {**link.seat.versions, **(link.versions or {})}


def loss(error: Exception) -> str:
    """Say how an actor was lost, by what Ray raises."""
    said = str(error)
    if type(error).__name__ == "ActorUnavailableError" or "connection error code" in said:
        return "the connection to it was lost"
    if "node has died" in said or "node died" in said:
        return "Ray has lost the node"
    return f"Ray's process for it ended ({first_line(error)})"


def first_line(error: Exception) -> str:
    """Return the line of one of Ray's messages that says what happened."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "died" in line), lines[0] if lines else type(error).__name__)


def main(arguments: list[str]) -> int:
    """Carry out the spec on the command line."""
    spec = RaySpec.decode(arguments[0])
    stage = json.loads((Path(spec.folder) / "stage.json").read_text(encoding="utf-8"))["stage"]
    return Training(spec, events.Events(stage, sys.stdout), passed=sys.stdout, log=sys.stderr).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
