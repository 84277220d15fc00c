"""Events: one JSON object a line, from a stage to whoever watches.

A stage process writes events to its standard output and everything meant for people to its
standard error; `take_stdout` moves prints of libraries out of the way first. The standard
output is used because it is the one descriptor that every launcher passes on (accelerate,
torchrun, srun, ssh). Lines that are not events are treated as log text by the reader.

Kinds and their fields (besides `time`, seconds since the epoch, `stage` and `kind`):

    started    title, command
    progress   step, total, unit, and whatever is known of: loss, learning_rate, grad_norm, epoch,
               tokens_per_s, seconds (since this process began to train), seconds_left,
               memory_gib (peak so far), gpu_utilization (0 to 1), metrics (the method's own, by name);
               of a training the runner adds (`progress.py`): mfu (0 to 1), usable_memory_gib,
               seconds_so_far (earlier attempts included), cost_usd, cost_left_usd
    eval       step, metrics             held-out figures during a training
    checkpoint step, path, best          a checkpoint that a training can continue from
    sample     step, prompt, text, reference      an answer generated during a training
    note       text                      one line for people
    table      title, columns, rows      rows are lists of str, int or float; of a load test also load_test: what was
               measured at each rate
    gate       metric, condition, value, passed, outcome (pass, fail, not enough data), low, high, rows, needed, note
    regression metric, baseline, row, prompt, expected, answer, before, score, score_before
    answer     client, expert, prompt, text, latency_ms, stream
    result     metrics, info             the last event of a stage that succeeded
    finished   seconds, reused           written by the runner; reused: done before, here or in another run
    failed     error                     written by the runner, or by a stage before it exits; `reason` is a word
                                         for programs where one fits: out_of_memory, disk, nan, killed
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

COPY = "LARGEFORGE_EVENTS"
"""Environment variable with a file that a whole run appends its events to, for the program that started it."""


_ENDS_OF_LINES = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


class Events:
    """Writes the events of one stage to a stream, one line each."""

    def __init__(self, stage: str, stream: IO[str]):
        self.stage = stage
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, kind: str, /, **fields: Any) -> None:
        """Write one event; NaN and infinities become strings, since JSON has no word for them."""
        event = {"time": round(time.time(), 3), "stage": self.stage, "kind": kind, **fields}
        with self._lock, suppress(BrokenPipeError):  # the runner is gone, and our reaper ends us
            self._stream.write(encode(event) + "\n")
            self._stream.flush()


def copied(show: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Return `show`, which also appends each event to the file that `COPY` names in the environment, if any."""
    path = os.environ.get(COPY)
    if not path:
        return show

    def both(event: dict[str, Any]) -> None:
        with open(path, "a", encoding="utf-8") as stream:  # noqa: PTH123 - pathlib takes longer to import
            stream.write(encode(event) + "\n")
        show(event)

    return both


def take_stdout() -> IO[str]:
    """Return the process's standard output for events, and send later prints to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", closefd=True)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def encode(event: dict[str, Any]) -> str:
    """Return an event as one line of strict JSON, also for readers to whom Unicode has further ends of lines."""
    try:
        text = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(event), ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ENDS_OF_LINES)


def decode(line: str) -> dict[str, Any] | None:
    """Return the event on a line, or None when the line is not one."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event and "stage" in event else None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
