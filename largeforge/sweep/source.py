"""Where trials come from: a grid that is planned as a whole, or a sampler that is asked one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from largeforge.sweep.folder import FINISHED, Trial
from largeforge.sweep.prepare import Planned, plan_trial
from largeforge.sweep.space import grid
from largeforge.sweep.suggest import Seen, count, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from largeforge.sweep.request import Request


class Source(Protocol):
    """Gives the trials that are to be run, each once."""

    def ready(self, known: Mapping[int, Trial]) -> list[Planned]:
        """Return trials that may be started now, the first ones first; some may be invalid."""

    def take(self, planned: Planned) -> None:
        """Note that a trial was started, or was recorded as invalid."""

    def is_exhausted(self, known: Mapping[int, Trial]) -> bool:
        """Tell whether no further trial will come."""


class Listed:
    """Trials that are all known before the first one starts."""

    def __init__(self, planned: Iterable[Planned]):
        self._left = {trial.number: trial for trial in planned}

    def ready(self, known: Mapping[int, Trial]) -> list[Planned]:
        """Return those that were not taken yet, in order."""
        return list(self._left.values())

    def take(self, planned: Planned) -> None:
        """Strike a trial off the list."""
        self._left.pop(planned.number, None)

    def is_exhausted(self, known: Mapping[int, Trial]) -> bool:
        """Tell whether all were taken."""
        return not self._left


class Sampled(Listed):
    """Trials that Optuna chooses, each with what is known by then; those that must run again come first."""

    def __init__(
        self, request: Request, again: Iterable[Planned], share: Sequence[str], *, objective: str, direction: str
    ):
        super().__init__(again)
        self._request, self._share = request, tuple(share)
        self._objective, self._direction = objective, direction
        self._total = num_trials(request)
        self._chosen: dict[int, Planned] = {}

    def ready(self, known: Mapping[int, Trial]) -> list[Planned]:
        """Return the trials to run again, or else one new trial."""
        number = _next(known)
        if self._left or number >= self._total:
            return super().ready(known)
        if number not in self._chosen:
            history = [self._seen(known[earlier]) for earlier in sorted(known)]
            request = self._request
            values = suggest(request.spaces, history, request.settings, number, direction=self._direction)
            self._chosen = {number: plan_trial(request, number, values, share=self._share)}
        return list(self._chosen.values())

    def is_exhausted(self, known: Mapping[int, Trial]) -> bool:
        """Tell whether as many were chosen as were asked for."""
        return super().is_exhausted(known) and _next(known) >= self._total

    def _seen(self, trial: Trial) -> Seen:
        objective = trial.metrics.get(self._objective) if trial.state in FINISHED else None
        return Seen(trial.values, objective, is_running=trial.state == "running")


def num_trials(request: Request) -> int:
    """Return how many trials a sweep has in all.

    Raises RecipeError for a grid with intervals or with too many trials.
    """
    if request.settings.name == "grid":
        return sum(1 for _ in grid(request.spaces))
    return count(request.spaces, request.settings.n_trials)


def to_check(request: Request) -> Iterator[tuple[int, dict[str, str]]]:
    """Return number and values of what is planned before anything starts.

    Of a grid every trial. Of a sampled sweep the first value of each key, then each other value
    (of an interval, its end) of one key at a time: what is wrong with a value shows there.
    """
    if request.settings.name == "grid":
        yield from enumerate(grid(request.spaces))
        return
    first = {space.key: space.probes[0] for space in request.spaces}
    yield 0, first
    yield from enumerate(({**first, space.key: value} for space in request.spaces for value in space.probes[1:]), 1)


def _next(known: Mapping[int, Trial]) -> int:
    return max(known, default=-1) + 1
