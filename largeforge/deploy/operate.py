"""Operate what is deployed, without the recipe.

What serves, logs, commands, stop and start, going back, taking away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from largeforge.deploy import desired, history, present, room, shell
from largeforge.deploy.connection import reaches
from largeforge.deploy.fleet import Fleet
from largeforge.deploy.hands import MOST_AT_ONCE, HostHands
from largeforge.deploy.rollouts import document as documents
from largeforge.deploy.service import Layout, Site
from largeforge.deploy.shell import Locks
from largeforge.deploy.update import Release, Replacement, Update
from largeforge.errors import DeployError, Problem, RecipeError, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.deploy.connection import Reach
    from largeforge.deploy.history import Record
    from largeforge.deploy.rollouts.document import Document
    from largeforge.deploy.update import Done
    from largeforge.recipe.sections.hosts import Hosts

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Deployed:
    """A deployment as its hosts tell of it."""

    name: str
    states: Mapping[str, Mapping[str, Any]]
    """By host, the `state` of `remote/look.py`."""
    machines: Mapping[str, Mapping[str, Any]]
    layouts: Mapping[str, Layout]
    records: Sequence[Record]
    """Rollouts, the newest last."""

    @property
    def last(self) -> Record:
        """The update that is in force.

        Raises DeployError when none is written down: nothing was ever rolled out to its end.
        """
        if not self.records:
            raise DeployError(f"{self.name}: no update has come to its end on these hosts")
        return self.records[-1]

    @property
    def site(self) -> Site:
        """Where it is, for operating it."""
        last = self.last
        return Site(
            self.name, self.layouts, tuple(last.gateways), last.gateway_host, last.gateway_port, **last.settings
        )

    def rollouts(self) -> list[Document]:
        """Return the rollouts that its hosts remember, the newest last."""
        return documents.known(self.layouts, self.states)

    def insist_on_no_rollout(self) -> None:
        """Raise DeployError while a rollout is under way: its canaries would be forgotten."""
        if now := documents.underway(self.rollouts()):
            raise DeployError(
                f"{self.name} has a rollout under way ({now.id}); end it first with `python -m largeforge rollout "
                "promote` or `abort`"
            )

    def current(self) -> list[Release]:
        """Return the current release of every service."""
        return [
            release
            for host, state in self.states.items()
            for release in present.current(self.layouts[host], host, state)
        ]

    def canaries(self) -> list[Release]:
        """Return the canaries of services."""
        found = (
            present.of(self.layouts[host], host, service, key, state)
            for host, state in self.states.items()
            for service, key in present.canaries(self.layouts[host], state).items()
        )
        return [release for release in found if release is not None]

    def is_up(self, release: Release) -> bool:
        """Tell whether a release's unit is active."""
        return present.is_active(self.states[release.host], release)


@contextmanager
def connected(inventory: Hosts, names: Sequence[str] | None = None) -> Iterator[tuple[dict[str, Reach], Fleet]]:
    """Connect to hosts of an inventory that are not this machine."""
    with reaches(inventory, host_names(inventory, names or ())) as reached, Fleet(reached) as fleet:
        yield reached, fleet


def find(inventory: Hosts, fleet: Fleet, wanted: str, *, user: str = "largeforge") -> Deployed:
    """Return a deployment by its name; the only one there is where none is given.

    Raises DeployError when there is none, or several to choose from.
    """
    name = wanted or _only(inventory, fleet)
    layouts = {
        host: _layout(inventory, host, name, user) for host in inventory.hosts if not inventory.hosts[host].is_local
    }
    looks = fleet.look({host: _request(layout) for host, layout in layouts.items() if host not in fleet.failed})
    there = {host: look for host, look in looks.items() if _has(look["state"], layouts[host])}
    if not there:
        known = names(inventory, fleet)
        hint = f"; did you mean '{near}'?" if (near := nearest(name, known)) else ""
        raise DeployError(f"no host that answers has a deployment '{name}'; there is: {listed(known)}{hint}")
    agents = {host: replace(layouts[host], agent=_agent(layouts[host], look["state"])) for host, look in there.items()}
    known_records = [history.records(agents[host], look["state"]) for host, look in there.items()]
    return Deployed(
        name, {host: look["state"] for host, look in there.items()}, {host: look["machine"] for host, look in
        there.items()}, agents, max(known_records, key=lambda found: found[-1].id if found else ""),
    )  # fmt: skip


def host_names(inventory: Hosts, wanted: Sequence[str]) -> list[str]:
    """Return the hosts of an inventory that are not this machine; only those that are wanted, where any are.

    Raises RecipeError when one of these is not there.
    """
    known = {name for name, host in inventory.hosts.items() if not host.is_local}
    if unknown := [name for name in wanted if name not in known]:
        rule = f"no such host in this inventory; there is: {listed(sorted(known))}."
        raise RecipeError([Problem("--host", rule, given=name, nearest=nearest(name, known)) for name in unknown])
    if not known:
        raise RecipeError("this inventory has no host but this machine; `python -m largeforge doctor` looks at that")
    return [name for name in inventory.hosts if name in (wanted or known)]


def names(inventory: Hosts, fleet: Fleet) -> list[str]:
    """Return the names of all deployments on hosts that answer."""
    requests = {
        host: {"root": inventory.hosts[host].paths.root}
        for host in inventory.hosts
        if not inventory.hosts[host].is_local and host not in fleet.failed
    }
    found = fleet.look(requests)
    return sorted({name for look in found.values() for name in look["machine"]["deployments"]})


def go_back(
    inventory: Hosts, wanted: str, *, to: str, report: Report, on_begin: Callable[[str], None] = lambda text: None
) -> list[Done]:
    """Bring back what served before the last update, or at the end of the one `to`.

    Raises DeployError when that is not kept any more, or does not serve; what serves now serves on then.
    """
    with ExitStack() as stack:
        reached = stack.enter_context(reaches(inventory, host_names(inventory, ())))
        asked = stack.enter_context(Locks(reached, wanted).asked()) if wanted else None
        fleet = stack.enter_context(Fleet(reached))
        deployed = find(inventory, fleet, wanted)
        deployed.insist_on_no_rollout()
        target = _trusted_now(deployed, _target(deployed, to))
        missing = [host for host in target.services if host not in deployed.states]
        if missing:
            raise DeployError(
                f"{', '.join(missing)} cannot be reached: {fleet.failed.get(missing[0], 'not in the inventory')}"
            )
        on_begin(f"{deployed.name}: back to {target.id} ({target.recipe})")
        there = {host: reached[host] for host in deployed.states}
        if asked is not None:
            asked.confirm(*there)
        locks = asked or stack.enter_context(Locks(there, deployed.name))
        update = updating(deployed, there, locks, report=report)
        target = replace(target, autoscaling=deployed.last.autoscaling)
        bring_in(deployed, there, update, target, note=f"back to {target.id}")
        return update.done


def updating(deployed: Deployed, reached: Mapping[str, Reach], locks: Locks, *, report: Report) -> Update:
    """Return an update that begins with what serves now."""
    hands = HostHands(deployed.site, reached, locks, running_gateways=running_gateways(deployed))
    up = [release for release in deployed.current() if deployed.is_up(release) and release.kind != "gateway"]
    return Update(
        hands, live=up, sections=deployed.last.sections, report=report, drain_timeout_s=deployed.site.drain_timeout_s
    )


def bring_in(
    deployed: Deployed, reached: Mapping[str, Reach], update: Update, target: Record, *, note: str,
    proved: Collection[tuple[str, str]] | None = None,
) -> None:  # fmt: skip
    """Bring a record into service whose releases are on the hosts, and write that down there.

    `proved` are the places (host, service) whose release has served; all of them where nothing is given. Others are
    asked a real prompt first, and watched.
    """
    returns = _returns(deployed, target)
    if proved is not None:
        returns = [one if one.new.place in proved else _tried(one, target) for one in returns]
    update.run(returns, removed=_gone(deployed, target), sections=target.sections, verify=lambda: None)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    record = replace(target, id=f"{stamp}-{target.lock[:8]}", by=shell.who(), note=note)
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
        list(pool.map(lambda host: shell.carry_out(reached[host], record.file(deployed.layouts[host])), reached))


def set_running(inventory: Hosts, wanted: str, service: str, *, action: str, report: Report) -> int:
    """Stop or (re)start the current releases of one service, or of all one after the other; return how many."""
    with ExitStack() as stack:
        reached, fleet = stack.enter_context(connected(inventory))
        deployed, locks = _locked(stack, inventory, reached, fleet, wanted)
        every = chosen(deployed, service)
        if action == "stop":
            every += [one for one in deployed.canaries() if service in ("", one.service)]
        else:
            deployed.insist_on_no_rollout()
        ordered = sorted(every, key=lambda release: (release.kind == "gateway") is (action != "stop"))
        if action == "stop":
            for release in ordered:
                locks.check()
                shell.run(reached[release.host], ["systemctl", "stop", release.unit], timeout_s=180)
                report(release.host, f"{release.service}: stopped")
            return len(ordered)
        update = updating(deployed, reached, locks, report=report)
        modes = {"gateway": "handover"}
        again = [Replacement(one, one, modes.get(one.kind, "fixed")) for one in ordered]
        update.run(again, removed=(), sections=deployed.last.sections, verify=lambda: None)
        return len(again)


def take_away(inventory: Hosts, wanted: str, *, report: Report, keep_models: bool) -> None:
    """Stop a deployment and remove everything of it; models and environments that no other deployment uses as well."""
    with ExitStack() as stack:
        reached, fleet = stack.enter_context(connected(inventory))
        deployed, _ = _locked(stack, inventory, reached, fleet, wanted)
        ordered = sorted(
            deployed.states, key=lambda host: host not in (deployed.records[-1].gateways if deployed.records else ())
        )
        for host in ordered:
            layout, state = deployed.layouts[host], deployed.states[host]
            if state["units"]:
                shell.run(reached[host], ["systemctl", "disable", "--quiet", "--now", *state["units"]], timeout_s=300)
            paths = [
                layout.home, f"{layout.state}/{deployed.name}", f"{layout.logs}/{deployed.name}",
                f"/etc/logrotate.d/largeforge-{deployed.name}", f"/etc/largeforge/{deployed.name}",
                f"/run/largeforge/{deployed.name}",
                *(path for path in state["paths"] if path.startswith(("/etc/systemd/system/", "/etc/grafana/"))),
            ]  # fmt: skip
            others = [name for name in deployed.machines[host]["deployments"] if name != deployed.name]
            if not others and not keep_models:
                paths += [f"{layout.root}/{part}" for part in ("models", "environments", "wheels", "incoming", "agent")]
            shell.run(reached[host], ["rm", "-rf", "--", *paths], timeout_s=600)
            shell.run(reached[host], ["systemctl", "daemon-reload"])
            left = [f"{layout.root}/deployments", layout.root, layout.state, layout.logs, "/etc/largeforge"]
            shell.run(reached[host], ["sh", "-c", 'rmdir -- "$@" 2>/dev/null || true', "sh", *left])
            report(host, "taken away" if not others else f"taken away; {', '.join(others)} stays")


def _locked(
    stack: ExitStack, inventory: Hosts, reached: Mapping[str, Reach], fleet: Fleet, wanted: str
) -> tuple[Deployed, Locks]:  # fmt: skip
    """Take the locks of a deployment, and return it as it is then: whoever had them until now may have changed it."""
    found = find(inventory, fleet, wanted)
    locks = stack.enter_context(Locks({host: reached[host] for host in found.states}, found.name))
    return find(inventory, fleet, found.name), locks


def chosen(deployed: Deployed, service: str) -> list[Release]:
    """Return the current releases of one service, or of all.

    Raises DeployError when there is no such service.
    """
    every = deployed.current()
    found = [release for release in every if service in ("", release.service)]
    if not found:
        known = sorted({release.service for release in every})
        hint = f"; did you mean '{near}'?" if (near := nearest(service, known)) else ""
        raise DeployError(f"{deployed.name} has no service '{service}'; there is: {listed(known)}{hint}")
    return found


def _target(deployed: Deployed, to: str) -> Record:
    if to:
        found = [record for record in deployed.records if record.id.startswith(to)]
        if len(found) != 1:
            known = listed([record.id for record in deployed.records])
            raise DeployError(
                f"{deployed.name}: {'no' if not found else 'more than one'} update '{to}'; there is: {known}"
            )
        return found[0]
    before = [record for record in deployed.records if record.state != deployed.last.state]
    if not before:
        raise DeployError(f"{deployed.name}: nothing else has served before; there is nothing to go back to")
    return before[-1]


def _returns(deployed: Deployed, target: Record) -> list[Replacement]:
    """Return what has to be replaced to go back.

    Raises DeployError when a release is not kept any more.
    """
    now = {release.place: release for release in deployed.current()}
    found, vacated = list[Replacement](), dict[str, list[Release]]()
    gone = _gone(deployed, target)
    for host, services in target.services.items():
        state, layout = deployed.states[host], deployed.layouts[host]
        pairs: list[room.Pair] = []
        for service, key in services.items():
            new, old = present.of(layout, host, service, key, state), now.get((host, service))
            if new is None:
                raise DeployError(
                    f"{host}: release {key} of {service} is not kept any more (deploy.update.keep_releases)"
                )
            if old is not None and old.key == key and deployed.is_up(old):
                continue
            pairs.append((new, old))
        up = present.running(layout, host, state)
        modes = room.modes(pairs, state, up)
        vacated[host] = room.vacated(pairs, state, up, [one for one in gone if one.host == host])
        found += [
            Replacement(new, old, mode, is_return=True, is_up=deployed.is_up(new))
            for (new, old), mode in zip(pairs, modes, strict=True)
        ]
    found.sort(key=lambda one: (one.new.kind == "gateway", one.new.service, one.new.host))
    return present.with_vacated(found, vacated)


def _tried(one: Replacement, target: Record) -> Replacement:
    """Return a replacement whose release has not served before."""
    experts = target.sections["topology"]["experts"]
    probes = [desired.question(name, experts[name]["task"]) for name in one.new.answers]
    return replace(one, probes=probes, is_return=False, is_up=False)


def _gone(deployed: Deployed, target: Record) -> list[Release]:
    return [release for release in deployed.current() if release.service not in target.services.get(release.host, {})]


def _trusted_now(deployed: Deployed, target: Record) -> Record:
    """Return a record with the certificates that gateways trust now: hosts may have renewed theirs since."""
    gateway, now = target.sections["gateway"], deployed.last.sections["gateway"].get("upstream_tls", {})
    if not any(gateway.get("upstream_tls", {}).values()) or not any(now.values()):
        return target
    return replace(target, sections={**target.sections, "gateway": {**gateway, "upstream_tls": now}})


def running_gateways(deployed: Deployed) -> list[Release]:
    """Return the gateways that are up."""
    return [release for release in deployed.current() if release.kind == "gateway" and deployed.is_up(release)]


def _only(inventory: Hosts, fleet: Fleet) -> str:
    known = names(inventory, fleet)
    if len(known) != 1:
        reason = f"name one of: {listed(known)}" if known else "none of the hosts that answer has a deployment"
        raise DeployError(reason)
    return known[0]


def _layout(inventory: Hosts, host: str, deployment: str, user: str) -> Layout:
    paths = inventory.hosts[host].paths
    return Layout(paths.root, paths.state, paths.logs, deployment, user, "")


def _request(layout: Layout) -> dict[str, Any]:
    return {
        "root": layout.root, "state": layout.state, "logs": layout.logs, "deployment": layout.deployment,
        "user": layout.user,
    }  # fmt: skip


def _has(state: Mapping[str, Any], layout: Layout) -> bool:
    return f"{layout.home}/deployment.json" in state["paths"]


def _agent(layout: Layout, state: Mapping[str, Any]) -> str:
    """Return the folder of the newest programs there."""
    top = f"{layout.root}/agent/"
    found = {
        path: entry["changed"]
        for path, entry in state["paths"].items()
        if path.startswith(top) and path.endswith("/switch.py")
    }
    return max(found, key=lambda path: found[path]).rpartition("/")[0] if found else f"{layout.root}/agent"
