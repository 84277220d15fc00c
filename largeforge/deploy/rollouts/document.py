"""A rollout of a deployment, from its first canary to its end, and how it is kept on the hosts with gateways. Pure.

It holds all that is needed to go on from any machine: what is to serve in the end, which servers are canaries, the
settings, and for each server where it is. Whoever has the locks of the deployment conducts it; nobody else writes.
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from largeforge.deploy.history import Record
from largeforge.errors import DeployError
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.rollout import Arm, State
from largeforge.rollout.state import ENDED

if TYPE_CHECKING:
    from largeforge.deploy.service import Layout

VERSION = 1
"""Of the JSON; a file of another one is refused."""
STAMP = "%Y%m%dT%H%M%SZ"
Ending = Literal["", "promoted", "rolled_back", "not_begun"]
"""`not_begun`: its canaries did not start, and nobody has asked them anything."""


@dataclass(frozen=True)
class Member:
    """A server that is to be replaced, and its canary."""

    host: str
    service: str
    old: str
    """Digest of the release that serves."""
    new: str
    """Digest of the canary."""


@dataclass(frozen=True)
class Change:
    """The model of one expert, before and after."""

    old: str
    new: str
    old_lock: str = ""
    """Digest of the lock of the run that made the old one."""
    lock: str = ""
    """The same of the new one."""
    alias: str = ""
    """`NAME@ALIAS` of the registry that the expert is named by; empty where it is named otherwise."""

    @property
    def is_one(self) -> bool:
        """Whether the model is another one; `job:main` is whenever its run is another one."""
        return (self.old, self.old_lock) != (self.new, self.lock)


@dataclass(frozen=True)
class Group:
    """The replicas of one server, whose experts are rolled out together."""

    server: str
    """Name of the expert that is the base of the others."""
    experts: tuple[str, ...]
    members: tuple[Member, ...]
    changes: Mapping[str, Change]
    """By expert."""
    settings: Rollout
    state: State | None = None
    """None while it is only seen what stable does, before anything begins."""
    readings: Mapping[str, Any] = field(default_factory=dict)
    """By process of a gateway and expert, what it had counted at the last look: counters that only rise."""

    before: Arm = field(default_factory=Arm)
    """What stable did before anything began, as far as that was seen."""

    @property
    def judged(self) -> tuple[str, ...]:
        """Experts whose requests tell of the rollout: those with another model than before; all, where none has."""
        changed = tuple(name for name in self.experts if self.changes[name].is_one)
        return changed or self.experts

    @property
    def phase(self) -> str:
        """The phase that it is in."""
        return self.state.phase if self.state else "observing"

    @property
    def share(self) -> float:
        """Share of the traffic that the new model has."""
        return self.state.share if self.state else 0.0

    @property
    def shadow(self) -> float:
        """Share of the requests that the new model is given copies of."""
        return self.state.shadow if self.state else 0.0


@dataclass(frozen=True)
class Document:
    """One rollout."""

    id: str
    """Begins with its time, so that sorting is by time."""
    by: str
    target: Record
    """What serves in the end."""
    groups: tuple[Group, ...]
    number: int = 0
    """Rises with every change, so that the newest of several files is known."""
    seen: float = 0.0
    """When it was looked at last, in seconds since the epoch."""
    ended: Ending = ""
    """How it ended, once all is in place."""
    reasons: tuple[str, ...] = ()
    """Why it ended so."""

    @property
    def verdict(self) -> Ending:
        """What is to be done with the whole: one model that is sent back takes all back with it."""
        phases = {group.phase for group in self.groups}
        if "rolled_back" in phases:
            return "rolled_back"
        return "promoted" if phases == {"promoted"} else ""

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing will change before somebody says so: all A/B tests are over."""
        return all(group.phase in (*ENDED, "finished") for group in self.groups) and not self.verdict

    @property
    def members(self) -> list[Member]:
        """All canaries."""
        return [member for group in self.groups for member in group.members]

    @property
    def why(self) -> tuple[str, ...]:
        """What those decided that led to the verdict."""
        told = [
            f"{group.server}: {reason}" if len(self.groups) > 1 else reason
            for group in self.groups
            if group.phase == self.verdict and group.state
            for reason in group.state.log[-1].reasons
        ]
        return tuple(told)

    def next(self, now: float, groups: Iterable[Group]) -> Document:
        """Return it after a look."""
        return replace(self, groups=tuple(groups), number=self.number + 1, seen=now)

    def over(self, ending: Ending, reasons: tuple[str, ...]) -> Document:
        """Return it at its end, and why that is it; what to count from is not needed any more."""
        groups = tuple(replace(group, readings={}) for group in self.groups)
        return replace(self, groups=groups, ended=ending, reasons=reasons, number=self.number + 1)

    def text(self) -> str:
        """Return it as the text of a file."""
        groups = [
            {
                "server": group.server, "experts": group.experts,
                "members": [asdict(member) for member in group.members],
                "changes": {name: asdict(change) for name, change in group.changes.items()},
                "settings": group.settings.model_dump(mode="json", exclude={"experts"}),
                "state": group.state.as_json() if group.state else None, "readings": group.readings,
                "before": group.before.as_json(),
            }
            for group in self.groups
        ]  # fmt: skip
        plain = {name: getattr(self, name) for name in ("id", "by", "number", "seen", "ended", "reasons")}
        whole = {"version": VERSION, **plain, "target": asdict(self.target), "groups": groups}
        return json.dumps(whole, separators=(",", ":"), sort_keys=True) + "\n"


def parse(text: str) -> Document:
    """Return what `Document.text` wrote.

    Raises ValueError where it is of another version, or misses something.
    """
    found = json.loads(text)
    if found.get("version") != VERSION:
        raise ValueError(
            f"a rollout of version {found.get('version')!r} cannot be gone on with; {VERSION} is understood"
        )
    try:
        return Document(
            found["id"], found["by"], Record(**found["target"]), tuple(map(_group, found["groups"])),
            found["number"], found["seen"], found["ended"], tuple(found["reasons"]),
        )  # fmt: skip
    except (LookupError, TypeError) as error:
        raise ValueError(f"the file of a rollout is incomplete: {error!r}") from error


def _group(found: Mapping[str, Any]) -> Group:
    return Group(
        found["server"], tuple(found["experts"]), tuple(Member(**member) for member in found["members"]),
        {name: Change(**change) for name, change in found["changes"].items()},
        Rollout.model_validate(found["settings"]), State.from_json(found["state"]) if found["state"] else None,
        found["readings"], Arm.from_json(found["before"]),
    )  # fmt: skip


def folder(layout: Layout) -> str:
    """Return the folder of rollouts on a host."""
    return f"{layout.home}/rollouts"


def path(layout: Layout, name: str) -> str:
    """Return the file of a rollout on a host."""
    return f"{folder(layout)}/{name}.json"


def command_path(layout: Layout) -> str:
    """Return the file that a command for the one who conducts is left in."""
    return f"{layout.home}/rollout-command.json"


def known(layouts: Mapping[str, Layout], states: Mapping[str, Mapping[str, Any]]) -> list[Document]:
    """Return the rollouts that hosts remember, the newest last; of several files of one the one written last.

    Raises DeployError for one that has not ended and cannot be read.
    """
    found: dict[str, Document] = {}
    for host, state in states.items():
        top = f"{folder(layouts[host])}/"
        for name, entry in state["paths"].items():
            if name.startswith(top) and name.endswith(".json") and entry.get("text"):
                try:
                    one = parse(entry["text"])
                except ValueError as error:
                    if '"ended":"",' in entry["text"]:
                        raise DeployError(_unreadable(host, name, error)) from None
                    continue
                if one.id not in found or found[one.id].number < one.number:
                    found[one.id] = one
    return [found[name] for name in sorted(found)]


def _unreadable(host: str, name: str, error: ValueError) -> str:
    return f"{host}: {name}: {error}. End that rollout with the version of LargeForge that began it, or remove the file"


def underway(documents: Sequence[Document]) -> Document | None:
    """Return the rollout that has not ended, if there is one."""
    return next((one for one in reversed(documents) if not one.ended), None)


def name_after(documents: Sequence[Document], now: float, digest: str) -> str:
    """Return a name for a new rollout: its time, or a second after the last one where another clock was ahead."""
    last = documents[-1].id.partition("-")[0] if documents else ""
    stamp = time.strftime(STAMP, time.gmtime(now))
    if stamp <= last:
        stamp = time.strftime(STAMP, time.gmtime(calendar.timegm(time.strptime(last, STAMP)) + 1))
    return f"{stamp}-{digest}"
