"""One deployment from beginning to end.

Lock, look, place, prepare, roll out, clean up. Or only what it would change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.deploy import desired, environments, history, present, pulling, shell, steps, tls, transfer
from largeforge.deploy.connection import reaches
from largeforge.deploy.content import HubContent
from largeforge.deploy.desired import GATEWAY
from largeforge.deploy.fleet import Fleet
from largeforge.deploy.hands import HostHands
from largeforge.deploy.rollouts import beginning
from largeforge.deploy.rollouts import document as documents
from largeforge.deploy.rollouts.gateways import HostGateways
from largeforge.deploy.rollouts.rolling import Rolling
from largeforge.deploy.shell import Locks
from largeforge.deploy.update import Release, Replacement, Update
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from largeforge.deploy.connection import Reach
    from largeforge.deploy.desired import Wanted
    from largeforge.deploy.fleet import Change
    from largeforge.deploy.rollouts.document import Document
    from largeforge.deploy.steps import Step
    from largeforge.deploy.update import Done
    from largeforge.recipe.sections.hosts import Hosts

Looks = Mapping[str, Mapping[str, Any]]
Decide = Callable[[Looks], "Wanted"]
"""Returns what hosts should have, from what they say of themselves."""
SWITCH_POLL_S = 2.0


@dataclass(frozen=True)
class Preview:
    """What a deployment would do."""

    wanted: Wanted
    looks: Looks
    failed: Mapping[str, str]
    """Hosts that cannot be looked at, and why."""
    changes: Mapping[str, Sequence[Change]]
    """By host, what would be changed, from pyinfra's dry run."""
    replacements: Sequence[Replacement]
    removed: Sequence[Release]
    rollout: Document | None = None
    """The rollout that would begin, or go on."""


@dataclass
class Outcome:
    """What a deployment did."""

    changed: dict[str, int] = field(default_factory=dict)
    """By host, how many things were changed."""
    done: list[Done] = field(default_factory=list)
    removed: list[Release] = field(default_factory=list)
    rollout: Document | None = None
    """The rollout that this deployment was; one that has not ended rests until somebody says how to go on."""
    seconds: float = 0.0

    @property
    def is_nothing(self) -> bool:
        """Whether all was as it should be."""
        return not self.done and not self.removed and not any(self.changed.values())


def preview(
    inventory: Hosts, names: list[str], decide: Decide, request: Callable[[str], dict[str, Any]], *, parallel: int
) -> Preview:
    """Look at hosts and return what would be changed; nothing is, and no lock is taken.

    Raises DeployError when that cannot be said, with the hosts that cannot be reached.
    """
    with reaches(inventory, names) as reached, Fleet(reached, parallel=parallel) as fleet:
        looks = fleet.look({name: request(name) for name in names if name not in fleet.failed})
        if not looks:
            raise DeployError(f"no host can be looked at:\n{_listed(fleet.failed)}")
        try:
            wanted = decide(looks)
        except DeployError as error:
            if not fleet.failed:
                raise
            raise DeployError(f"some hosts cannot be looked at:\n{_listed(fleet.failed)}\n{error}") from error
        changes = fleet.plan(_steps(wanted, {name: look["state"] for name, look in looks.items()}))
        found = {name: look["state"] for name, look in looks.items()}
        rollout = beginning.check(wanted, found)
        canaries, others = beginning.divided(wanted, present.replacements(wanted, found), found)
        if canaries and rollout is None:
            rollout = beginning.begin(wanted, canaries, wanted.record(who=""), by="")
        removed = present.removed(wanted, found)
        return Preview(wanted, looks, dict(fleet.failed), changes, [*canaries, *others], removed, rollout)


class Controller:
    """Deploys to the hosts of an inventory; `report` takes a host's name (or an empty one) and a line for people."""

    def __init__(
        self,
        inventory: Hosts,
        names: Sequence[str],
        deployment: str,
        *,
        request: Callable[[str], dict[str, Any]],
        report: Callable[[str, str], None],
        parallel: int,
        settle: Callable[[Document], None] = lambda document: None,
    ):
        """`settle` is called with each rollout that has ended, whichever way."""
        self._settle = settle
        self._inventory, self._names, self._deployment = inventory, list(names), deployment
        self._request, self._report, self._parallel = request, report, parallel

    def deploy(
        self,
        decide: Decide,
        verify: Callable[[], None],
        *,
        complete: Callable[[Wanted], Wanted] = lambda wanted: wanted,
    ) -> Outcome:
        """Bring the hosts to what is wanted; `complete` adds what only new servers are asked, which takes time to find.

        Raises DeployError with what is in the way; what served before serves then, unless the message says more.
        """
        started = time.monotonic()
        with ExitStack() as stack:
            reached = stack.enter_context(reaches(self._inventory, self._names))
            locks = stack.enter_context(Locks(reached, self._deployment).asked())
            fleet = stack.enter_context(Fleet(reached, parallel=self._parallel))
            if fleet.failed:
                raise DeployError(_all_failed(fleet.failed))
            locks.confirm()
            looks = self._look(fleet, reached)
            found = {name: look["state"] for name, look in looks.items()}
            wanted = decide(looks)
            if tls.unmade(wanted):
                looks = self._certify(fleet, reached, wanted, found)
                found = {name: look["state"] for name, look in looks.items()}
                wanted = decide(looks)
            document = beginning.check(wanted, found)
            outcome = Outcome(changed=self._prepare(fleet, reached, wanted, found))
            locks.check()
            if any(one.new.service != GATEWAY for one in present.replacements(wanted, found)):
                wanted = complete(wanted)
            self._roll_out(wanted, reached, locks, found, outcome, verify, document)
            if outcome.rollout and not outcome.rollout.ended:
                return outcome
            self._record(wanted, reached, found)
            self._clean(wanted, reached, found)
        outcome.seconds = round(time.monotonic() - started, 2)
        return outcome

    def _look(self, fleet: Fleet, reached: Mapping[str, Reach]) -> dict[str, Any]:
        """Return what all hosts say, after switches that still run there have ended."""
        while True:
            looks = fleet.look({name: self._request(name) for name in self._names if name not in fleet.failed})
            if fleet.failed:
                raise DeployError(_all_failed(fleet.failed))
            busy = [
                f"{unit} on {name}"
                for name, look in looks.items()
                for unit, state in look["state"]["units"].items()
                if unit.endswith("-switch.service")
                and state.get("ActiveState") in ("active", "activating", "deactivating")
            ]
            if not busy:
                return looks
            self._report("", f"waiting for what an earlier run has begun: {', '.join(busy)}")
            time.sleep(SWITCH_POLL_S)

    def _certify(
        self, fleet: Fleet, reached: Mapping[str, Reach], wanted: Wanted, found: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Have hosts make certificates, which others must be told to trust; return what all hosts say then."""

        def certify(name: str) -> None:
            self._report(name, "makes its certificate")
            for step in desired.certified(wanted, name):
                if step.differs(found[name]):
                    shell.carry_out(reached[name], step)

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            list(pool.map(certify, tls.unmade(wanted)))
        return self._look(fleet, reached)

    def _prepare(
        self, fleet: Fleet, reached: Mapping[str, Reach], wanted: Wanted, found: Mapping[str, Any]
    ) -> dict[str, int]:
        """Put everything in place that does not touch what runs; return how much was changed by host."""
        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            list(pool.map(lambda name: self._bring(reached[name], wanted, found[name]), self._names))

        def on_event(event: dict[str, Any]) -> None:
            if event["kind"] == "begins" and not event["title"].startswith(("file ", "folder ")):
                self._report(event["host"], event["title"])
            elif event["kind"] == "applied" and event["changed"]:
                self._report(event["host"], f"prepared, {event['changed']} things changed")

        planned = fleet.apply(_steps(wanted, found), on_event=on_event)
        if fleet.failed:
            raise DeployError(_all_failed(fleet.failed))
        return {name: len(changes) for name, changes in planned.items()}

    def _bring(self, reach: Reach, wanted: Wanted, found: Mapping[str, Any]) -> None:
        """Bring what is large, with progress: the environment, and models."""

        def report(text: str) -> None:
            self._report(reach.name, text)

        environments.bring(wanted.pythons[reach.name], reach, found["environments"], report)
        for model in desired.needed_models(wanted, reach.name, found):
            if isinstance(model, HubContent):
                pulling.pull(model, reach, wanted, report)
                continue
            report(f"bringing {model.path.name} ({model.num_bytes / 2**20:.0f} MiB)")
            incoming = f"{reach.host.paths.root}/incoming/{model.key}"
            transfer.make_folder(reach, incoming)
            transfer.push(model.path, incoming, reach, report=report)

    def _roll_out(
        self, wanted: Wanted, reached: Mapping[str, Reach], locks: Locks, found: Mapping[str, Any], outcome: Outcome,
        verify: Callable[[], None], document: Document | None,
    ) -> None:  # fmt: skip
        live = present.live(wanted, found)
        replacements = present.replacements(wanted, found)
        removed = present.removed(wanted, found)
        sections = present.gateway_sections(wanted, found)
        running = [release for release in live if release.service == GATEWAY]
        hands = HostHands(wanted.site, reached, locks, running_gateways=running)
        update = Update(
            hands, live=[release for release in live if release.service != GATEWAY], sections=sections,
            report=self._report, drain_timeout_s=wanted.deploy.update.drain_timeout_s, parallel=self._parallel,
        )  # fmt: skip
        is_same = not replacements and not removed and present.is_told(wanted, found, live)
        if is_same and document is None:
            return

        def run(replacements: Sequence[Replacement]) -> None:
            update.run(
                replacements, removed=removed, sections=wanted.sections, verify=verify,
                standby=wanted.deploy.update.standby,
            )  # fmt: skip

        canaries, others = beginning.divided(wanted, replacements, found)
        if canaries and document is None:
            known = documents.known({host: wanted.layout(host) for host in found}, found)
            document = beginning.begin(wanted, canaries, wanted.record(who=shell.who()), by=shell.who(), known=known)
        if document is None:
            run(replacements)
        else:
            gateways = HostGateways(wanted.site, reached, locks, trusted={one.host: one.ca for one in running})
            rolling = Rolling(document, gateways, update, canaries, report=self._report, site=wanted.site)
            outcome.rollout = rolling.run(lambda: run([*beginning.promoted(canaries), *others]), settle=self._settle)
        outcome.done, outcome.removed = update.done, list(removed)

    def _record(self, wanted: Wanted, reached: Mapping[str, Reach], found: Mapping[str, Any]) -> None:
        """Write down what serves now, on every host that does not know it yet."""
        record = wanted.record(who=shell.who())
        for name in self._names:
            layout = wanted.layout(name)
            known = history.records(layout, found[name])
            if known and (known[-1].state, known[-1].autoscaling) == (record.state, record.autoscaling):
                continue
            shell.carry_out(reached[name], record.file(layout))
            for old in known[: -history.KEPT]:
                shell.carry_out(reached[name], steps.Gone(old.file(layout).path))

    def _clean(self, wanted: Wanted, reached: Mapping[str, Reach], found: Mapping[str, Any]) -> None:
        """Remove releases that are older than those that are kept, and what else is not needed any more."""
        for name in self._names:
            layout = wanted.layout(name)
            for step, _ in steps.changes(desired.left_over(wanted, name), found[name]):
                shell.carry_out(reached[name], step)
                self._report(name, step.title)
            old = present.outdated(wanted, name, found[name])
            if old:
                paths = [path for service, key in old for path in (
                    layout.release(service, key), f"/etc/systemd/system/{layout.unit(service, key)}")]  # fmt: skip
                shell.run(reached[name], ["rm", "-rf", "--", *paths])
                shell.run(reached[name], ["systemctl", "daemon-reload"])
                self._report(name, f"{len(old)} old releases removed")


def _steps(wanted: Wanted, found: Mapping[str, Any]) -> dict[str, list[Step]]:
    return {
        name: desired.prepared(
            wanted, name, desired.ports(wanted, name, state), kept_ports=present.kept_ports(wanted, name, state)
        )
        for name, state in found.items()
    }


def _all_failed(failed: Mapping[str, str]) -> str:
    return f"nothing that runs was changed:\n{_listed(failed)}"


def _listed(failed: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {error}" for name, error in sorted(failed.items()))
