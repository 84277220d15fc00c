"""Take a canary out of use that is surely bad while no controller looks after it: safety does not depend on a network.

It is judged by the code that controllers judge by (`largeforge.rollout`), on errors and quality since it got a share.
One worker of a gateway looks, at the counts of all. What it decides is part of the state, so that all workers obey it,
it outlives a restart, and a controller finds it when it is back.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Self

from largeforge.gateway.arms import by_worker
from largeforge.gateway.backend import CANARY
from largeforge.recipe.sections.rollouts import Analysis
from largeforge.rollout import metrics, watch
from largeforge.rollout.analysis import Assessment, assess
from largeforge.rollout.observations import Arm, Observation, period
from largeforge.rollout.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from largeforge.gateway.admin.controls import Controls
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.crew.whole import Whole
    from largeforge.gateway.crew.worker import Place
    from largeforge.gateway.live import Live

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
MOST_REASON_CHARS = 500

Seen = dict[Hashable, Observation]
"""What each worker has counted of an expert."""


@dataclass
class _Watched:
    """A canary with a share."""

    model: tuple[tuple[str, str], ...]
    """What is served as the canary."""
    settings: Analysis
    share: float
    seen: Seen
    watch: Watch = field(default_factory=Watch)

    def look(self, now: Seen, share: float) -> Assessment:
        """Take what was counted until now, and return what is known of the canary."""
        new = period(self.seen, now)
        self.seen |= now
        alone = self.share >= 1
        self.watch = watch.look(self.settings, self.watch, new, alone=alone)
        if share != self.share:
            self.share, self.watch = share, watch.next_step(self.watch)
        return assess(self.settings, self.watch, min_requests=0, alone=alone, passing=False)


class Guard:
    """Looks after canaries that nobody else looks after; enter it to begin."""

    def __init__(
        self, live: Live, controls: Controls, whole: Whole, *, wall_clock: Callable[[], float], place: Place | None
    ):  # fmt: skip
        self._live, self._controls, self._whole = live, controls, whole
        self._wall_clock = wall_clock
        self._lock_path = None if place is None else place.folder / "guard.lock"
        self._lock = -1
        self._watched: dict[str, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._looking is not None
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def look(self) -> None:
        """Look at all canaries that have a share, and take out those that are surely bad and that nobody watches."""
        shares = self._shares(self._controls.now)
        for expert in self._watched.keys() - shares.keys():
            del self._watched[expert]
        if not shares or not self._leads():
            return
        parts = await by_worker(self._whole)
        for expert, share in self._shares(self._controls.now).items():  # another topology may have come meanwhile
            seen: Seen = {worker: Observation.from_json(part[expert]) if expert in part else Observation()
                          for worker, part in parts.items()}  # fmt: skip
            found = self._watch(expert, share, seen)
            if found is not None and found.outcome == "worse":
                await self._take_out(expert, found)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:
                logger.exception("canaries could not be looked at")

    def _shares(self, state: State) -> dict[str, float]:
        """Return the shares of canaries that are there and answer requests, unless nobody wants them guarded."""
        if not self._live.now.file.gateway.canary_guard.enabled:
            return {}
        targets = self._live.now.targets
        return {expert: share for expert, share in state.canaries.items() if share > 0 and expert + CANARY in targets}

    def _watch(self, expert: str, share: float, seen: Seen) -> Assessment | None:
        """Return what is known of a canary, None when it is looked at first."""
        view = self._controls.now.rollouts.get(expert)
        settings = judged_by(view.analysis if view else None)
        replicas = self._live.now.targets[expert + CANARY].replicas
        model = tuple(sorted({(replica.model, replica.lock) for replica in replicas}))
        watched = self._watched.get(expert)
        if watched is not None and (watched.model, watched.settings) == (model, settings):
            return watched.look(seen, share)
        stable = reduce(add, (one.stable for one in seen.values()), Arm())
        self._watched[expert] = _Watched(model, settings, share, seen, Watch(before=stable))
        return None

    async def _take_out(self, expert: str, found: Assessment) -> None:
        after_s = self._live.now.file.gateway.canary_guard.after_s
        view = self._controls.now.rollouts.get(expert)
        away = f"no controller for {self._wall_clock() - view.seen:.0f} s" if view else "no controller"
        reason = f"{away}; {'; '.join(found.reasons)}"[:MOST_REASON_CHARS]
        if await self._controls.take_out(expert, reason, after_s=after_s):
            logger.error("the canary of '%s' was taken out: %s", expert, reason)

    def _leads(self) -> bool:
        """Whether this worker is the one that looks; another takes over when it is gone."""
        if self._lock_path is None or self._lock >= 0:
            return True
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            self._watched.clear()
            return False
        self._lock = lock
        return True


def judged_by(given: Analysis | None) -> Analysis:
    """Return the settings of an analysis of errors and quality alone: times change with the load, and who only is slow
    still answers. Defaults where nothing would be left."""
    for analysis in (given or Analysis(), Analysis()):
        weightless: Mapping[str, Any] = {
            name: analysis.compared(name).model_copy(update={"weight": 0.0}) for name in metrics.TIMES
        }
        settings = analysis.model_copy(update=weightless)
        if metrics.tests(settings):
            break
    return settings
