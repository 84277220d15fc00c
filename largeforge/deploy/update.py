"""Bring new releases into service one after the other, so that what served before serves on whatever happens.

Decides the order and what follows from what; `hands.py` does things on hosts. New servers start first. Then servers are
replaced one at a time: the next only when the last is healthy and the gateways send it requests. The gateways get the
new topology last. When anything fails, what was already replaced goes back in reverse order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from largeforge.errors import DeployError, LargeForgeError

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
    """What it may take of each of its GPUs, or of the host's memory."""
    gpus: tuple[int, ...] = ()
    ca: str = ""
    """File on its host that its certificate is verified with; empty where it speaks plain HTTP."""

    @property
    def url(self) -> str:
        """Address of its server."""
        return f"{'https' if self.ca else 'http'}://{self.address}:{self.port}"

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
    """`fixed`, `blue_green`, `handover` or `canary`, as in `agent/switch.py`."""
    probes: Sequence[Mapping[str, Any]] = ()
    is_return: bool = False
    """Whether it goes back to a release that has served before: it is not watched again."""
    is_up: bool = False
    """Whether the new release runs already, as one on standby does."""
    vacates: tuple[Release, ...] = ()
    """Releases of other services on its host, wanted no more, that must stop before there is room for it."""

    @property
    def back(self) -> Replacement:
        """Return the way back."""
        assert self.old is not None
        return Replacement(self.old, self.new, self.mode, is_return=True)


@dataclass(frozen=True)
class Done:
    """What a replacement took."""

    replacement: Replacement
    seconds: float
    down_s: float
    """Time in which neither release was up."""


class Hands(Protocol):
    """What an update does on hosts; every method raises DeployError when that fails."""

    def switch(self, replacement: Replacement, on_event: Callable[[Event], None]) -> Event:
        """Carry out a replacement on its host; return the last event: `committed`, `restored`, `refused` or `lost`."""

    def retire(self, release: Release, *, idle_timeout_s: float) -> None:
        """Stop a server that is not asked any more, once it has nothing to answer."""

    def put_gateway_file(
        self, file: Mapping[str, Any], *, unasked: Collection[str] = (), undrained: Collection[str] = ()
    ) -> None:
        """Have all gateways that run serve this file, and send requests again to servers that are undrained.

        Those of unasked hosts are not told; they find it when they start, as those do that do not run.
        """

    def drain(self, url: str, *, timeout_s: float) -> int:
        """Have the gateways send a server nothing new; return how many requests it still answers after the time."""

    def check(self) -> None:
        """Raise DeployError when this is not the only controller any more."""


class Update:
    """One update; `live` are the model servers that serve now, and `sections` is the gateways' file in force."""

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
        self._finished: list[Replacement] = []
        self._beside: list[Replacement] = []
        self._made_room: list[Release] = []
        """What served until it had to stop for others."""
        self._canaries: list[Release] = []
        self.is_through = False
        """Whether what was to come into service serves, whatever happens to what is left to do."""
        self._stuck: set[tuple[str, str]] = set()
        """Places where a new release could not go back to the one before; it may be all that serves there."""

    def serves(self, host: str, service: str, key: str) -> bool:
        """Whether a release is the one that serves."""
        live = self._live.get((host, service))
        return live is not None and live.key == key

    def run(
        self,
        replacements: Sequence[Replacement],
        *,
        removed: Sequence[Release],
        sections: Mapping[str, Any],
        verify: Callable[[], None],
        standby: bool = False,
    ) -> None:
        """Carry everything out; `sections` are those of the gateways' file at the end, `standby` keeps the servers up
        that new ones stood beside.

        Raises DeployError after what was there before serves again, with how far that went.
        """
        self._sections = _trusting(self._sections, sections)
        before, live_before = dict(self._sections), dict(self._live)
        handovers = [one for one in replacements if one.mode == "handover"]
        beside = self._beside = [one for one in replacements if one.mode == "blue_green"]
        fixed = [one for one in replacements if one.mode == "fixed"]
        is_instant = bool(beside) and not fixed and all(one.is_return and one.is_up for one in beside)
        try:
            if not is_instant:
                self._mend()
                self._start(beside)
                for replacement in fixed:
                    self._replace(replacement)
            self._hands.check()
            self._live |= {one.new.place: one.new for one in beside}
            for release in removed:
                self._live.pop(release.place, None)
            self._sections, self._canaries = dict(sections), []
            unasked = [one.new.host for one in handovers]
            if is_instant:  # all has served before and is up: the gateways ask it at once, the hosts follow
                self._tell_gateways(unasked=unasked, undrained=[release.url for release in self._live.values()])
                self._start(beside)
            else:
                self._tell_gateways(unasked=unasked)
            for replacement in handovers:
                self._switch(replacement)
            verify()
            if self._made_room:  # until now they may be needed again
                self._tell_gateways(undrained=[gone.url for gone in self._made_room])
            self.is_through = True
        except (LargeForgeError, KeyboardInterrupt) as error:
            self._go_back(before, live_before, error)
            raise
        leaving = [*removed, *(one.old for one in beside if one.old is not None and not standby)]
        self._retire(leaving)

    def add_canaries(self, replacements: Sequence[Replacement]) -> None:
        """Start canaries beside what serves, and have the gateways know them; they are asked nothing yet.

        Raises DeployError after those that were started are gone again.
        """
        try:
            self._canaries = [one.new for one in replacements if one.is_up]
            self._mend()
            self._start([one for one in replacements if not one.is_up])
            self._canaries = [one.new for one in replacements]
            self._tell_gateways()
            self._finished = []
        except (LargeForgeError, KeyboardInterrupt):
            self.remove_canaries([one.new for one in self._finished])
            raise

    def remove_canaries(self, canaries: Sequence[Release]) -> None:
        """Have the gateways forget all canaries, and stop these but for those that serve."""
        self._canaries = []
        with suppress(DeployError):
            self._tell_gateways()
        self._retire([one for one in canaries if one.place not in self._stuck and self._live.get(one.place) != one])

    def _mend(self) -> None:
        """Let the gateways ask all that is up, whatever an update that was killed has left them with."""
        self._tell_gateways(undrained=[release.url for release in self._live.values()])

    def _start(self, replacements: Sequence[Replacement]) -> None:
        """Start servers that take nothing away from others, those of different hosts side by side."""
        by_host: dict[str, list[Replacement]] = {}
        for replacement in replacements:
            by_host.setdefault(replacement.new.host, []).append(replacement)

        def start(replacements: list[Replacement]) -> None:
            for replacement in replacements:
                self._switch(replacement)

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            futures = [pool.submit(start, each) for each in by_host.values()]
            errors = [error for future in futures if (error := future.exception())]
        for error in errors:
            if not isinstance(error, DeployError):
                raise error
        if errors:
            raise DeployError("\n".join(str(error) for error in errors))

    def _replace(self, replacement: Replacement) -> None:
        """Put one server in the place of others that must stop first; the gateways ask others meanwhile.

        Those that made room stay drained until no gateway knows them, or they are up again: requests wait for them.
        """
        old, new = replacement.old, replacement.new
        self._hands.check()
        leaving = [one for one in replacement.vacates if self._live.get(one.place) == one]
        stopping = [old, *leaving] if old is not None and old.place in self._live else leaving
        for release in stopping:
            self._drain(release)
        try:
            self._switch(replacement, on_ready=lambda: self._serve_from(new, instead_of=old))
        except DeployError:
            self._live.pop(new.place, None)
            for release in stopping:
                self._serve_from(release, instead_of=new)
            raise
        self._made_room += leaving

    def _switch(self, replacement: Replacement, on_ready: Callable[[], None] = lambda: None) -> None:
        """Carry out one replacement; raises DeployError when the old release serves on instead."""
        new = replacement.new
        times: list[float] = []
        fields: dict[str, Any] = {}
        self._hands.check()

        def on_event(event: Event) -> None:
            times.append(float(event["at"]))
            if said := _in_words(event, replacement):
                self._report(new.host, said)
            if event["kind"] == "ready":
                fields.update(event)
                on_ready()

        ending = self._hands.switch(replacement, on_event)
        if ending["kind"] != "committed":
            raise DeployError(f"{new.host}: {new.service}: {_why(ending, replacement)}")
        self._finished.append(replacement)
        seconds = times[-1] - times[0] if times else 0.0
        self.done.append(Done(replacement, round(seconds, 2), float(fields.get("down_s", 0.0))))

    def _drain(self, release: Release) -> None:
        left = self._hands.drain(release.url, timeout_s=self._drain_timeout_s)
        if left:
            limit = f"{self._drain_timeout_s:g} s (deploy.update.drain_timeout_s)"
            self._report(
                release.host, f"{release.service}: {left} requests are not finished after {limit}, and are cut"
            )

    def _serve_from(self, release: Release, *, instead_of: Release | None = None) -> None:
        """Let the gateways ask a release, and not the other one of its service."""
        self._live[release.place] = release
        self._tell_gateways(undrained={one.url for one in (release, instead_of) if one is not None})

    def _tell_gateways(self, *, unasked: Collection[str] = (), undrained: Collection[str] = ()) -> None:
        """Have gateways ask what is live; the unasked are replaced next, and find the file when they start."""
        if self._sections:
            file = gateway_file(self._sections, list(self._live.values()), self._canaries)
            self._hands.put_gateway_file(file, unasked=unasked, undrained=undrained)

    def _retire(self, releases: Sequence[Release]) -> None:
        """Stop what serves no more, once it has nothing to answer; a host that cannot be reached is told and left."""

        def retire(release: Release) -> None:
            try:
                self._hands.retire(release, idle_timeout_s=self._drain_timeout_s)
            except DeployError as error:
                self._report(release.host, f"{release.service}: release {release.key} is still up: {error}")

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            list(pool.map(retire, releases))

    def _go_back(
        self, before: Mapping[str, Any], live_before: Mapping[tuple[str, str], Release], error: BaseException
    ) -> None:
        """Bring back what was there before, as far as the hosts can be reached: first what the gateways ask."""
        failed: list[str] = []
        finished, self._finished = self._finished, []
        self._sections, self._canaries = dict(before), []
        for place in {one.new.place for one in (*self._beside, *finished) if one in self._beside or one.old is None}:
            self._live.pop(place, None)
            if place in live_before:
                self._live[place] = live_before[place]
        self._live |= {one.place: one for one in self._made_room}
        with suppress(DeployError):
            self._tell_gateways()
        for replacement in reversed(finished):
            try:
                self._undo(replacement)
            except DeployError as problem:
                failed.append(str(problem))
                self._stuck.add(replacement.new.place)
                self._leave_out(replacement.new)
        if failed and isinstance(error, LargeForgeError):
            raise DeployError(f"{error}\nGoing back did not succeed everywhere:\n" + "\n".join(failed)) from error
        for reason in failed:
            self._report("", f"going back did not succeed: {reason}")

    def _leave_out(self, release: Release) -> None:
        """Have the gateways not ask a release that could not go back, where others answer for its experts: two models
        of one expert would answer in turns, also once its host is there again."""
        others = [one for place, one in self._live.items() if place != release.place]
        if release.kind == "gateway" or not release.answers.keys() <= {name for one in others for name in one.answers}:
            return
        if self._live.get(release.place) == release:
            del self._live[release.place]
            with suppress(DeployError):
                self._tell_gateways()

    def _undo(self, replacement: Replacement) -> None:
        new, old = replacement.new, replacement.old
        if old is not None and old.key != new.key:
            self._report(new.host, f"{new.service}: goes back to release {old.key}")
            (self._replace if replacement.mode == "fixed" else self._switch)(replacement.back)
        is_beside = replacement.mode == "blue_green" and (old is None or old.key != new.key)
        if is_beside or (replacement.mode == "fixed" and old is None):
            self._hands.retire(new, idle_timeout_s=self._drain_timeout_s)
        for release in [one for one in replacement.vacates if one in self._made_room]:
            self._report(release.host, f"{release.service}: release {release.key} is started again")
            self._switch(Replacement(release, None, "blue_green", is_return=True))
            self._serve_from(release)


def _trusting(sections: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections with which gateways can already ask servers over TLS as they are wanted, if they are."""
    new = wanted.get("gateway", {}).get("upstream_tls", {})
    if not sections or not any(new.values()):
        return dict(sections)
    return {**sections, "gateway": {**sections["gateway"], "upstream_tls": new}}


def _why(ending: Event, replacement: Replacement) -> str:
    """Return why a release was refused, and what serves now."""
    reason = str(ending.get("reason", ending["kind"])).rstrip(".")
    if ending["kind"] == "lost" and (replacement.old or replacement.vacates):
        return f"{reason}. NOTHING SERVES THERE NOW"
    return f"{reason}. The release before serves on" if ending.get("served") else reason


def gateway_file(
    sections: Mapping[str, Any], live: Sequence[Release], canaries: Sequence[Release] = ()
) -> dict[str, Any]:
    """Return the file of the gateways for the servers that there are; experts without one are left as they were."""
    experts = sections["topology"]["experts"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in experts}
    for release in sorted(live, key=lambda release: (release.service, release.host, release.key)):
        for expert, answer in release.answers.items():
            if expert in found:
                found[expert].append({"url": release.url, **answer})
    kept = {
        name: [server for server in servers if server.get("arm") != "canary"]
        for name, servers in sections.get("upstreams", {}).items()
    }
    upstreams = {name: servers or kept.get(name, []) for name, servers in found.items()}
    for release in sorted(canaries, key=lambda release: (release.service, release.host)):
        for expert in release.answers.keys() & upstreams.keys():
            upstreams[expert].append({"url": release.url, **release.answers[expert], "arm": "canary"})
    return {**{key: sections[key] for key in ("gateway", "router", "topology")}, "upstreams": upstreams}


def _in_words(event: Event, replacement: Replacement) -> str:
    service = replacement.new.service
    going = {release.unit: f"stopping {release.service}, to make room" for release in replacement.vacates}
    said = {
        "stopping": going.get(event.get("unit", ""), "stopping the release before"),
        "starting": f"starting release {replacement.new.key}",
        "ready": f"ready after {event.get('seconds', 0):.1f} s, watched now",
        "committed": f"release {replacement.new.key} is in service",
        "restoring": f"refused, going back: {event.get('reason', '')}",
        "restored": "the release before serves" if event.get("served") else "taken away",
    }.get(event["kind"], "")
    return f"{service}: {said}" if said else ""
