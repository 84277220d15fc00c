"""Events and log of a job on a host, handed on as if the stage ran here, over a connection that may break."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from largeforge import events
from largeforge.deploy.shell import ConnectionLost
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from largeforge.onhosts.host import OnHost
    from largeforge.onhosts.place import Seat

PAUSE_S = 2.0
OVERLAP_BYTES = 1 << 18
"""Events before the last known place that are looked at again: what the process before was killed with is not lost."""
MOST_FAILURES = 5
"""Failures in a row that are none of the connection."""
_one_at_a_time = threading.Lock()
FINAL = ("result", "failed")
_RECORDED = "events.jsonl"


@dataclass
class Ending:
    """How a job ended, and what it said last."""

    ended: dict[str, Any]
    checkpoints: list[int]
    last: dict[str, Any] = field(default_factory=dict)
    """Its `result` or `failed` event, not handed on yet."""


@dataclass
class Follower:
    """Follows one attempt of a job to its end."""

    host: OnHost
    folder: str
    """Of the job, there."""
    stage_dir: Path
    seat: Seat
    out: IO[str]
    note: Callable[[str], None]
    at_home: Callable[[str], str]
    """Puts paths of this machine for those of the host."""
    patience_s: float
    """How long the host may be out of reach; another thread may shorten it."""
    keep: Callable[[Seat], None]
    """Told how far it was followed."""
    mark: str = ""
    """What stands before each line of its log."""
    _seen: set[str] = field(default_factory=set)
    _last: dict[str, Any] = field(default_factory=dict)
    _rest: str = ""
    _replay_until: int = 0
    _in_a_line: bool = False

    def run(self) -> Ending:
        """Hand on everything until the end of the job.

        Raises DeployError when the host is out of reach for too long.
        """
        known = self.seat.events
        self._seen = _recorded(self.stage_dir / _RECORDED)
        self._replay_until = known
        self.seat = self.seat.at(events=max(0, known - OVERLAP_BYTES))
        self._in_a_line = self.seat.events > 0
        lost_at, told, failures = 0.0, False, 0
        while True:
            try:
                for said in self.host.follow(self.folder, events=self.seat.events, log=self.seat.log):
                    if told:
                        self.note(f"{self.host.name} is reached again")
                    lost_at, told, failures = 0.0, False, 0
                    if said["kind"] == "ended":
                        self._take_rest()
                        return Ending(said["ended"], said.get("checkpoints", []), self._last)
                    self._take(said)
            except DeployError as error:
                failures += not isinstance(error, ConnectionLost)  # a host that shuts down ends what follows, too
                if failures > MOST_FAILURES:
                    raise
                lost_at = lost_at or time.monotonic()
                if not told:
                    told = True
                    self.note(f"the connection to {self.host.name} is lost; the stage goes on there, and is looked for")
            else:
                lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > self.patience_s:
                raise DeployError(
                    f"{self.host.name} cannot be reached for {self.patience_s:.0f} s; the stage may go on there: "
                    "the same command follows it again"
                )
            time.sleep(PAUSE_S)

    def _take(self, said: dict[str, Any]) -> None:
        if said["kind"] == "log":
            self._log(said["text"])
            self.seat = self.seat.at(log=said["at"])
        else:
            *lines, self._rest = (self._rest + said["text"]).split("\n")
            place = said["at"] - len(said["text"].encode())
            for line in lines:
                place += len(line.encode()) + 1
                if self._in_a_line:
                    self._in_a_line = False  # the overlap begins anywhere
                    continue
                self._line(line, place)
            self.seat = self.seat.at(events=said["at"])
        self.keep(self.seat)

    def _log(self, text: str) -> None:
        lines = self.at_home(text).removesuffix("\n").split("\n")
        sys.stderr.write("".join(f"{self.mark}{line}\n" for line in lines))
        sys.stderr.flush()

    def _take_rest(self) -> None:
        if self._rest.strip():
            self._line(self._rest, sys.maxsize)
            self._rest = ""

    def _line(self, line: str, place: int) -> None:
        event = events.decode(line)
        if event is None:
            if line.strip() and place > self._replay_until:
                self._log(f"{line}\n")
            return
        mark = _mark(event)
        if mark in self._seen:
            return
        if event["kind"] in FINAL:
            self._last = event if not self._last or event.get("reason") else self._last
        elif event["kind"] in _KEPT or place > self._replay_until:
            self._seen.add(mark)
            hand_on(self.out, json.loads(self.at_home(events.encode(event))))


_KEPT = ("progress", "eval", "checkpoint", "sample", "table", "gate", "regression", "answer")
"""Kinds of events that the runner writes down with the stage, so that it is known which of them came through."""


def hand_on(out: IO[str], event: dict[str, Any]) -> None:
    """Write one event for the runner."""
    try:
        with _one_at_a_time:
            out.write(events.encode(event) + "\n")
            out.flush()
    except BrokenPipeError:  # the runner is gone, and our reaper ends us
        os._exit(1)


def _recorded(path: Path) -> set[str]:
    """Return what the runner has taken in before."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {_mark(event) for line in lines if (event := events.decode(line))}


def _mark(event: dict[str, Any]) -> str:
    return f"{event['kind']} {event.get('time')} {event.get('step')}"
