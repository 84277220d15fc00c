"""Bring new releases into service one after the other, so that what served before serves on whatever happens.

Decides the order and what follows from what; `hands.py` does things on hosts. New servers start first. Then servers are
replaced one at a time: the next only when the last is healthy and the gateways send it requests. The gateways get the new
topology last. When anything fails, what was already replaced goes back in reverse order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from largeforge.errors import DeployError

Event = dict[str, Any]
Report = Callable[[str, str], None]
"""Takes a host's name and a line for people."""


@dataclass(frozen=True)
class Release:
    """A release of a service on a host."""

    host: str
    service: str
    key: str
    unit: str
    port: int
    kind: str = "vllm"
    address: str = ""
    """Address at which the gateways reach it."""
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Expert to what the gateways know of it there."""
    num_bytes: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Address of its server."""
        return f"{self.scheme}://{self.address}:{self.port}"

    @property
    def place(self) -> tuple[str, str]:
        """Host and service, of which it is one release."""
        return self.host, self.service


@dataclass(frozen=True)
class Replacement:
    """A release that is to take the place of another, or of nothing."""

    new: Release
    old: Release | None
    mode: str
    """`fixed`, `blue_green` or `handover`, as in `agent/switch.py`."""
    probes: Sequence[Mapping[str, Any]] = ()

    @property
    def back(self) -> Replacement:
        """Return the way back."""
        assert self.old is not None
        return Replacement(self.old, self.new, self.mode)


@dataclass(frozen=True)
class Done:
    """What a replacement took."""

    replacement: Replacement
    seconds: float
    down_s: float
    """Time in which neither release was up."""


class Hands(Protocol):
    """What a rollout does on hosts; every method raises DeployError when that fails."""

    def switch(self, replacement: Replacement, on_event: Callable[[Event], None]) -> Event:
        """Carry out a replacement on its host and return the last event: `committed`, `restored`, `refused` or `lost`."""

    def retire(self, releases: Sequence[Release]) -> None:
        """Stop releases of one service that are not current."""

    def put_gateway_file(self, file: Mapping[str, Any]) -> None:
        """Have all gateways that run serve this file; those that will be started find it."""

    def drain(self, url: str, *, timeout_s: float) -> int:
        """Have the gateways send a server nothing new; return how many requests it still answers after the time."""

    def undrain(self, url: str) -> None:
        """Have the gateways send a server requests again."""

    def check(self) -> None:
        """Raise DeployError when this is not the only controller any more."""


class Rollout:
    """One rollout; `live` are the releases that serve now, and what the gateways serve is in `sections`."""

    def __init__(
        self,
        hands: Hands,
        *,
        live: Sequence[Release],
        sections: Mapping[str, Any],
        report: Report,
        drain_timeout_s: float,
        parallel: int = 10,
    ):
        self.done: list[Done] = []
        self._hands = hands
        self._live = {release.place: release for release in live}
        self._sections = dict(sections)
        self._report = report
        self._drain_timeout_s = drain_timeout_s
        self._parallel = parallel

    def run(
        self,
        *,
        added: Sequence[Replacement],
        replaced: Sequence[Replacement],
        gateways: Sequence[Replacement],
        removed: Sequence[Release],
        sections: Mapping[str, Any],
        verify: Callable[[], None],
    ) -> None:
        """Carry everything out; `sections` are those of the gateway's file that hold at the end.

        Raises DeployError after what was there before serves again, with how far that went.
        """
        before, finished = dict(self._sections), list[Replacement]()
        try:
            self._start(added, finished)
            for replacement in replaced:
                self._hands.check()
                self._replace(replacement)
                finished.append(replacement)
            self._hands.check()
            gone = {release.place for release in removed}
            leaving = [self._live.pop(place) for place in gone if place in self._live]
            self._sections = dict(sections)
            try:
                self._tell_gateways()
                for replacement in gateways:
                    self._hand_over(replacement)
                    finished.append(replacement)
                verify()
            except DeployError:
                self._live.update({release.place: release for release in leaving})
                raise
        except (DeployError, KeyboardInterrupt) as error:
            self._go_back(finished, before, error)
            raise
        for release in removed:
            self._hands.retire([release])
            self._report(release.host, f"{release.service}: stopped, the recipe has it no more")

    def _start(self, added: Sequence[Replacement], finished: list[Replacement]) -> None:
        """Start servers that were not there, those of different hosts side by side."""
        by_host: dict[str, list[Replacement]] = {}
        for replacement in added:
            by_host.setdefault(replacement.new.host, []).append(replacement)

        def start(replacements: list[Replacement]) -> None:
            for replacement in replacements:
                self._switch(replacement)
                finished.append(replacement)

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            errors = [error for future in [pool.submit(start, each) for each in by_host.values()] if (error := future.exception())]
        for error in errors:
            if not isinstance(error, DeployError):
                raise error
        if errors:
            raise DeployError("\n".join(str(error) for error in errors))
        self._live.update({replacement.new.place: replacement.new for replacement in added})

    def _replace(self, replacement: Replacement) -> None:
        """Put one server in the place of another without a request that fails for it."""
        old, new = replacement.old, replacement.new
        assert old is not None
        if replacement.mode == "fixed":
            self._drain(old)
            try:
                self._switch(replacement, on_ready=lambda: self._serve_from(new))
            except DeployError:
                self._serve_from(old)
                raise
            return
        self._switch(replacement)
        self._tell_gateways(also=new)
        self._drain(old)
        self._serve_from(new, instead_of=old)
        self._hands.retire([old])

    def _hand_over(self, replacement: Replacement) -> None:
        self._hands.check()
        self._switch(replacement)

    def _switch(self, replacement: Replacement, on_ready: Callable[[], None] = lambda: None) -> None:
        """Carry out one replacement; raises DeployError when the old release serves on instead."""
        new = replacement.new
        began: dict[str, float] = {}
        fields: dict[str, Any] = {}

        def on_event(event: Event) -> None:
            began.setdefault(event["kind"], float(event["at"]))
            if said := _in_words(event, replacement):
                self._report(new.host, said)
            if event["kind"] == "ready":
                fields.update(event)
                on_ready()

        ending = self._hands.switch(replacement, on_event)
        if ending["kind"] != "committed":
            served = " The release before serves on." if ending.get("served") else ""
            lost = " NOTHING SERVES THERE NOW." if ending["kind"] == "lost" and replacement.old else ""
            raise DeployError(f"{new.host}: {new.service}: {ending.get('reason', ending['kind'])}.{served}{lost}")
        seconds = float(ending["at"]) - min(began.values(), default=float(ending["at"]))
        self.done.append(Done(replacement, round(seconds, 2), float(fields.get("down_s", 0.0))))

    def _drain(self, release: Release) -> None:
        left = self._hands.drain(release.url, timeout_s=self._drain_timeout_s)
        if left:
            limit = f"{self._drain_timeout_s:g} s (deploy.rollout.drain_timeout_s)"
            self._report(release.host, f"{release.service}: {left} requests are not finished after {limit}, and are cut")

    def _serve_from(self, release: Release, *, instead_of: Release | None = None) -> None:
        """Let the gateways ask a release, and no other one of its service."""
        self._live[release.place] = release
        self._tell_gateways()
        for url in {release.url, *([instead_of.url] if instead_of else [])}:
            self._hands.undrain(url)

    def _tell_gateways(self, also: Release | None = None) -> None:
        if self._sections:
            live = [*self._live.values(), *([also] if also else [])]
            self._hands.put_gateway_file(gateway_file(self._sections, live))

    def _go_back(self, finished: list[Replacement], before: Mapping[str, Any], error: BaseException) -> None:
        """Bring back what was there before, as far as the hosts can be reached."""
        failed: list[str] = []
        self._sections = dict(before)
        for replacement in reversed(finished):
            try:
                if replacement.old is None:
                    continue
                self._report(replacement.new.host, f"{replacement.new.service}: goes back to release {replacement.old.key}")
                if replacement.new.kind == "gateway":
                    self._switch(replacement.back)
                else:
                    self._replace(replacement.back)
            except DeployError as problem:
                failed.append(str(problem))
        started = [replacement.new for replacement in finished if replacement.old is None]
        for release in started:
            self._live.pop(release.place, None)
        with suppress(DeployError):
            self._tell_gateways()
        for release in started:
            with suppress(DeployError):
                self._hands.retire([release])
        if failed and isinstance(error, DeployError):
            raise DeployError(f"{error}\nGoing back did not succeed everywhere:\n" + "\n".join(failed)) from error


def gateway_file(sections: Mapping[str, Any], live: Sequence[Release]) -> dict[str, Any]:
    """Return the file of the gateways for the servers that there are; experts without one are left as they were."""
    experts = sections["topology"]["experts"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in experts}
    for release in sorted(live, key=lambda release: (release.service, release.host, release.key)):
        for expert, answer in release.answers.items():
            if expert in found:
                found[expert].append({"url": release.url, **answer})
    kept = sections.get("upstreams", {})
    upstreams = {name: servers or kept.get(name, []) for name, servers in found.items()}
    return {**{key: sections[key] for key in ("gateway", "router", "topology")}, "upstreams": upstreams}


def _in_words(event: Event, replacement: Replacement) -> str:
    service = replacement.new.service
    said = {
        "stopping": "stopping the release before",
        "starting": f"starting release {replacement.new.key}",
        "ready": f"ready after {event.get('seconds', 0):.1f} s, watched now",
        "committed": f"release {replacement.new.key} is in service",
        "restoring": f"refused, going back: {event.get('reason', '')}",
        "restored": "the release before serves" if event.get("served") else "taken away",
    }.get(event["kind"], "")
    return f"{service}: {said}" if said else ""
