"""Run trials side by side until none is left: the one place that starts, watches and records them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.errors import Interrupted
from largeforge.sweep.folder import Trial
from largeforge.sweep.process import start

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.signals import Signals
    from largeforge.sweep.folder import Folder
    from largeforge.sweep.prepare import Planned
    from largeforge.sweep.process import Running
    from largeforge.sweep.slots import Slot
    from largeforge.sweep.source import Source
    from largeforge.sweep.view import View

_POLL_S = 0.2
_KILL_AFTER_S = 45.0
"""How long stopped trials may take before they are killed; a run needs some 20 s at most."""


class Scheduler:
    """One pass over a sweep."""

    def __init__(
        self, folder: Folder, source: Source, slots: list[Slot], known: dict[int, Trial], view: View,
        changed: Callable[[], None],
    ):  # fmt: skip
        """`known` is kept up to date with every record; `changed` is called after each trial that ended."""
        self.folder, self.source, self.known, self.view, self.changed = folder, source, known, view, changed
        self.free = list(slots)
        self.running: dict[int, Running] = {}

    def run(self, signals: Signals) -> None:
        """Bring every trial to its end.

        Raises Interrupted after a signal, when all running trials have stopped and are recorded.
        """
        try:
            while True:
                self._start_ready()
                if not self.running and self.source.is_exhausted(self.known):
                    return
                time.sleep(_POLL_S)
                self._poll()
                if signals.count:
                    raise Interrupted("interrupted; run the same command again to continue")
        except BaseException:
            self._stop(signals)
            raise

    def _start_ready(self) -> None:
        """Start trials while there is room; one waits while another makes a stage that both share."""
        while self.free:
            claimed = {mark for running in self.running.values() for mark in running.pending.values()}
            ready = self.source.ready(self.known)
            startable = [trial for trial in ready if trial.problem or claimed.isdisjoint(trial.heavy.values())]
            if not startable:
                return
            self._start(startable[0])

    def _start(self, planned: Planned) -> None:
        before = self.known.get(planned.number)
        trial = Trial(
            planned.number, planned.values, planned.words, digest=planned.digest,
            started=before.started if before else time.time(), seconds=before.seconds if before else 0.0,
        )  # fmt: skip
        self.source.take(planned)
        if planned.problem:
            self._record(replace(trial, state="invalid", reason=planned.problem))
            return
        slot = self.free.pop(0)
        trial = replace(trial, gpus=",".join(slot.gpus))
        self._record(trial)
        self.running[trial.number] = start(trial, slot, self.folder.trial_dir(trial.number), planned.heavy)
        self.view.started(self.running[trial.number])

    def _poll(self) -> None:
        for number, running in list(self.running.items()):
            before = running.trial
            if running.read():
                self.view.progressed(running)
            ended = running.ended()
            if ended is None:
                if running.trial.run_dir != before.run_dir:
                    self._record(running.trial)
                continue
            del self.running[number]
            self.free.append(running.slot)
            self._record(ended)

    def _record(self, trial: Trial) -> None:
        self.folder.write(trial)
        self.known[trial.number] = trial
        if trial.state != "running":
            self.view.ended(trial)
            self.changed()

    def _stop(self, signals: Signals) -> None:
        """End every running trial; a second signal does it without grace."""
        noticed = signals.count
        for running in self.running.values():
            running.stop()
        deadline = time.monotonic() + _KILL_AFTER_S
        while self.running:
            if signals.count > noticed or time.monotonic() > deadline:
                noticed, deadline = signals.count, time.monotonic() + 5
                for running in self.running.values():
                    running.stop()
            self._poll()
            time.sleep(_POLL_S / 4)
