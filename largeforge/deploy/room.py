"""Whether a host has room for a new release beside what runs there: on the GPUs that it is for, or in memory. Pure.

What a host says of its memory counts what runs on it. What it says of a GPU counts foreign processes only (`free_bytes`
of `remote/look.py`): what servers of deployments may take there is theirs, whether they have taken it yet or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from largeforge.estimate.serving import CONTEXT_BYTES
from largeforge.hardware import USABLE_SHARE

if TYPE_CHECKING:
    from largeforge.deploy.update import Release

SPARE = 1.1
"""Room that a server needs beside another, as a part of what it takes."""
HOST = -1
"""Stands for the host's own memory where others are the numbers of GPUs."""

Pair = tuple["Release", "Release | None"]
"""A release that is to come, and the one that it replaces."""


def usable_bytes(gpu: Mapping[str, Any]) -> int:
    """Return what servers may take of a GPU in all."""
    return int(gpu["memory_bytes"] * USABLE_SHARE)


def unclaimed_bytes(gpu: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> int:
    """Return what foreign processes and other deployments leave of that."""
    foreign = gpu["memory_bytes"] - gpu["free_bytes"]
    taken = sum(one["bytes"] for one in others if gpu["index"] in one["gpus"])
    return int(max(0, usable_bytes(gpu) - foreign - taken))


def modes(
    pairs: Sequence[Pair], state: Mapping[str, Any], running: Sequence[Release], *, strategy: str = "auto"
) -> list[str]:
    """Return how each new release of a host is brought in; `running` is all of its own that has memory there.

    `auto` lets a new one stand beside the old one only where there is room for both, together with all others that are
    to come: each takes from what the others leave.
    """
    room = _Room(pairs, state, running)
    return [room.mode(new, old, strategy) for new, old in pairs]


def vacated(
    pairs: Sequence[Pair], state: Mapping[str, Any], running: Sequence[Release], removed: Sequence[Release]
) -> list[Release]:
    """Return which of the releases that are not wanted any more must stop before all new ones have room at all."""
    left = _Room(pairs, state, running)
    up = {release.unit for release in running}
    costs = [(release, left.cost(release)) for release in removed if release.unit in up]
    lacking = left.lacking([cost for _, cost in costs])
    found = []
    for release, cost in sorted(costs, key=lambda one: (-sum(one[1].values()), one[0].service)):
        if any(lacking.get(place, 0.0) > 0 for place in cost):
            lacking = {place: size - cost.get(place, 0.0) for place, size in lacking.items()}
            found.append(release)
    return found


class _Room:
    """What is left of a host; servers that are to come have at once what they need once all old ones are gone."""

    def __init__(self, pairs: Sequence[Pair], state: Mapping[str, Any], running: Sequence[Release]):
        self._running = {release.unit for release in running}
        others = state["others"]
        self._left = {HOST: float(state["free_bytes"])}
        for gpu in state["gpus"]:
            claims = [one["bytes"] for one in others if gpu["index"] in one["gpus"]]
            left = unclaimed_bytes(gpu, others) - len(claims) * CONTEXT_BYTES
            self._left[gpu["index"]] = left if all(claims) else 0.0  # one that is not known has its GPUs for itself
        self._whole = dict(self._left)
        for release in running:
            self._take({place: size for place, size in self.cost(release).items() if place != HOST})
        for new, old in pairs:
            self._take(self._growth(new, old))

    def mode(self, new: Release, old: Release | None, strategy: str) -> str:
        """Return how a release is brought in, and take what it needs for that."""
        if new.kind == "gateway":
            return "handover"
        if old is not None and old.key == new.key:
            return "fixed"
        if old is not None and strategy == "auto":
            strategy = "blue_green" if self._fits(new, old) else "fixed"
        if old is not None and strategy != "blue_green":
            return strategy
        self._take(self._beside(new, old))
        return "blue_green"

    def lacking(self, costs: Sequence[Mapping[int, float]]) -> dict[int, float]:
        """Return by place what new releases lack of what they need in any case, where these costs would make up for
        it."""
        made_up = {place: sum(cost.get(place, 0.0) for cost in costs) for place in self._left}
        return {place: -left for place, left in self._left.items() if left < 0 <= left + made_up[place]}

    def _fits(self, new: Release, old: Release) -> bool:
        """Tell whether there is room for a release beside the one that it replaces; not where too little is known."""
        if new.unit in self._running:
            return True
        cost, beside = self.cost(new), self._beside(new, old)
        return bool(new.num_bytes) and all(
            beside[place] + (SPARE - 1) * size < self._left.get(place, 0.0) for place, size in cost.items()
        )

    def _growth(self, new: Release, old: Release | None) -> dict[int, float]:
        """Return what a release takes in any case: beyond what the old one has."""
        if new.unit in self._running:
            return {}
        had = self.cost(old) if old is not None and old.unit in self._running else {}
        return {place: max(0.0, size - had.get(place, 0.0)) for place, size in self.cost(new).items()}

    def _beside(self, new: Release, old: Release | None) -> dict[int, float]:
        """Return what it takes on top as long as the old one is there, too."""
        growth = self._growth(new, old)
        return {place: self.cost(new)[place] - size for place, size in growth.items()}

    def cost(self, release: Release) -> dict[int, float]:
        """Return what a server takes, by GPU or of the host; one that is not known takes all that ours may have."""
        if not release.gpus:
            return {HOST: float(release.num_bytes)}
        if not release.num_bytes:
            return {gpu: self._whole.get(gpu, 0.0) for gpu in release.gpus}
        return dict.fromkeys(release.gpus, float(release.num_bytes + CONTEXT_BYTES))

    def _take(self, cost: Mapping[int, float]) -> None:
        for place, size in cost.items():
            self._left[place] = self._left.get(place, 0.0) - size
