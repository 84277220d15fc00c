"""One trial as a child process: the ordinary command under a reaper, watched through its events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from largeforge import events, reaper
from largeforge.console.board import Board
from largeforge.errors import GateError, Interrupted
from largeforge.sweep.objective import named
from largeforge.sweep.prepare import TRIAL

if TYPE_CHECKING:
    from largeforge.sweep.folder import Trial
    from largeforge.sweep.slots import Slot

STOP_GRACE_S = 30.0
"""Longer than a run takes to stop its own stages (20 s)."""
_MAX_REASON = 2000


@dataclass
class Running:
    """A trial that runs, and what it has said so far."""

    trial: Trial
    slot: Slot
    popen: subprocess.Popen[bytes]
    log: Path
    stream: IO[str]
    began: float
    pending: dict[str, str]
    """Stages with their fingerprints that other trials may wait for."""
    board: Board = field(default_factory=Board)
    error: str = ""
    _rest: str = ""

    def read(self) -> bool:
        """Take in the events that were written since; return whether there were any."""
        text = self._rest + self.stream.read()
        *lines, self._rest = text.split("\n")
        for line in lines:
            event = events.decode(line)
            if event is not None:
                self._take(event)
        return bool(lines)

    def _take(self, event: dict[str, Any]) -> None:
        self.board.take(event)
        kind, stage = event["kind"], str(event["stage"])
        if kind == "run_started":
            self.trial = replace(self.trial, run_dir=str(Path(str(event.get("run_dir") or ".")).absolute()))
        elif kind == "finished":
            metrics = event.get("metrics")
            found = named(stage, metrics) if isinstance(metrics, dict) else {}
            self.trial = replace(self.trial, metrics={**self.trial.metrics, **found})
            self.pending.pop(stage, None)
        elif kind == "run_failed":
            self.error = str(event.get("error") or "")

    def ended(self) -> Trial | None:
        """Return the finished record once the process has ended, else None."""
        code = self.popen.poll()
        if code is None:
            return None
        self.read()
        self.stream.close()
        seconds = round(self.trial.seconds + time.time() - self.began, 3)
        trial = replace(self.trial, exit_code=code, seconds=seconds)
        if code == 0:
            return replace(trial, state="done", reason="")
        if code == Interrupted.exit_code:
            return replace(trial, state="interrupted", reason="")
        reason = (self.error or _last_words(self.log, code))[:_MAX_REASON]
        return replace(trial, state="refused" if code == GateError.exit_code else "failed", reason=reason)

    def stop(self) -> None:
        """Ask the trial to end; asked twice, it is killed."""
        self.popen.send_signal(signal.SIGTERM)


def start(trial: Trial, slot: Slot, folder: Path, pending: dict[str, str]) -> Running:
    """Start the command of a trial; its output goes to `log.txt`, its events to `events.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    copy, log = folder / "events.jsonl", folder / "log.txt"
    copy.write_text("", encoding="utf-8")
    argv = [sys.executable, "-m", "largeforge", *trial.words, TRIAL]
    environment = {**os.environ, **slot.environment(), events.COPY: str(copy)}
    with log.open("wb") as output:
        popen = subprocess.Popen(
            reaper.command(argv, grace_s=STOP_GRACE_S), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
    stream = copy.open(encoding="utf-8", errors="replace", newline="\n")
    return Running(trial, slot, popen, log, stream, time.time(), dict(pending))


def _last_words(log: Path, code: int) -> str:
    """Return the error that the command printed, or how it ended."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    told = text.rpartition("error: ")[2].strip() if "error: " in text else ""
    killers = {128 + number: number.name for number in signal.Signals}
    how = (
        f"its process was killed by {killers[code]}" if code in killers else f"its process ended with exit code {code}"
    )
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return told or f"{how}{f': {last}' if last else ''}; see {log}"
