"""Looking at the hosts of a deployment, and starting and stopping replicas there, through their agent."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from largeforge.deploy import shell, steps
from largeforge.deploy.hands import MOST_AT_ONCE, HostHands
from largeforge.deploy.scaling import seats as seating
from largeforge.deploy.scaling.readings import METRICS
from largeforge.deploy.scaling.seats import REASON
from largeforge.deploy.shell import Locks
from largeforge.deploy.update import gateway_file
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from largeforge.deploy.connection import Reach
    from largeforge.deploy.operate import Deployed
    from largeforge.deploy.scaling.seats import Order, Seat

LOOK_S, WARM_S = 30.0, 300.0
"""Longest that a look, and warming up, may take."""
NOBODY: Mapping[str, Collection[Seat]] = {}
STATE = "autoscaler.json"
"""File in the deployment's folder on hosts with a gateway."""
LOOKED = ("record", "servers", "canaries", "gpu_use", "gateway")


class Changed(Exception):
    """The deployment is another one than at the last look."""


class ScalingHands:
    """Carries out what the autoscaler decides on hosts that can be reached."""

    def __init__(self, deployed: Deployed, reaches: Mapping[str, Reach], *, gpus: bool):
        self._deployed, self._reaches, self._gpus = deployed, dict(reaches), gpus
        self._gateways = {release.host: release for release in deployed.current() if release.kind == "gateway"}
        self._answering = list(self._gateways)
        """Hosts whose gateway has answered the last look: another one finds out when it is back."""
        self._records: dict[str, str] = {}
        """The deployment that was in force at the last look, by host."""

    def look(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Return what each host says, and why others say nothing."""
        looks, failed = self._looks(self._reaches)
        self._answering = [host for host in self._gateways if "error" not in looks.get(host, {"error": ""})]
        self._records = {host: look["record"] for host, look in looks.items()}
        return looks, failed

    def warm(self, seat: Seat, questions: Sequence[Mapping[str, Any]]) -> str:
        """Ask a replica real questions; return what is wrong with its answers, empty where nothing is."""
        try:
            said = self._scale(
                seat.host, do="warm", service=seat.service, questions=list(questions), timeout_s=WARM_S, keys=("wrong",)
            )
        except DeployError as error:
            return str(error)
        return str(said["wrong"])

    def carry_out(
        self, orders: Sequence[Order], *, unlisted: bool, gone: Collection[str] = (),
        behind: Mapping[str, Collection[Seat]] = NOBODY,
    ) -> list[Order]:  # fmt: skip
        """Tell the gateways whom to ask, then systemd what is to run, and return what was done.

        No deployment can begin meanwhile. What came between the last look and this is found out first: orders that
        are not right any more are left out. The gateways forget that servers which are `gone` were drained; those of
        hosts that are `behind` are told which do not run. With `unlisted`, they are first given a file with
        all replicas: some are not in theirs.

        Raises Changed when the deployment is another one by now, DeployError while somebody else changes it.
        """
        missed = [seat for host in self._answering for seat in behind.get(host, ())]
        # deployments need those of all hosts
        hosts = {*self._answering, *(one.seat.host for one in orders), *(seat.host for seat in missed)}
        with Locks({host: self._reaches[host] for host in hosts}, self._deployed.name) as locks:
            found = self._unchanged(hosts)
            orders = seating.still(orders, found)
            if not orders and not missed:
                return []
            if unlisted:
                self._list(locks)
            drained: dict[str, str | None] = dict.fromkeys(gone)
            drained |= {
                one.seat.url: REASON if one.action in ("drain", "stop") else None
                for one in orders if one.action != "start"
            }  # fmt: skip
            idle = {seat.url for seat in found if seat.status in seating.IDLE}
            for host in self._answering:
                late = {seat.url: REASON for seat in behind.get(host, ()) if seat.url in idle}
                self._scale(host, do="act", drained={**late, **drained})
            for host in {one.seat.host for one in orders if one.action in ("start", "stop")}:
                locks.check(host)
                units = {
                    action: [one.seat.unit for one in orders if (one.action, one.seat.host) == (action, host)]
                    for action in ("start", "stop")
                }
                self._scale(host, do="act", start=units["start"], stop=units["stop"])
        return list(orders)

    def keep(self, state: Mapping[str, Any]) -> None:
        """Write down what was decided, on every host with a gateway."""
        text = json.dumps(state) + "\n"
        for host in self._answering:
            path = f"{self._deployed.layouts[host].home}/{STATE}"
            shell.carry_out(self._reaches[host], steps.File(path, text, mode="600"))

    def kept(self) -> dict[str, str]:
        """Return what was written down on each host with a gateway, empty where there is nothing."""

        def text(host: str) -> str:
            path = f"{self._deployed.layouts[host].home}/{STATE}"
            return shell.run(self._reaches[host], ["sh", "-c", 'cat -- "$1" 2>/dev/null || true', "sh", path])

        return {host: text(host) for host in self._gateways}

    def _unchanged(self, hosts: Collection[str]) -> list[Seat]:
        """Return the replicas of hosts as they are now, their locks being held.

        Raises Changed when the deployment is not that of the last look, DeployError while a rollout is under way.
        """
        looks, failed = self._looks(hosts)
        if failed:
            raise DeployError("; ".join(failed.values()))
        if any(look["record"] != self._records[host] for host, look in looks.items()):
            raise Changed
        if under_way := sorted(host for host, look in looks.items() if look["canaries"]):
            raise DeployError(f"a rollout is under way on {', '.join(under_way)}")
        return seating.seats(looks)

    def _looks(self, hosts: Collection[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        looks: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}

        def look(host: str) -> None:
            try:
                looks[host] = self._scale(
                    host, do="look", metrics=METRICS, gpus=self._gpus, timeout_s=LOOK_S, keys=LOOKED
                )
            except DeployError as error:
                failed[host] = str(error)

        shell.side_by_side(look, hosts, at_once=MOST_AT_ONCE)
        return {host: looks[host] for host in hosts if host in looks}, failed

    def _list(self, locks: Locks) -> None:
        """Give the gateways that answer, whose hosts' locks are held, a file with all replicas."""
        site = replace(self._deployed.site, gateways=tuple(self._answering))
        hands = HostHands(site, self._reaches, locks, running_gateways=self._gateways.values())
        servers = [release for release in self._deployed.current() if release.kind != "gateway"]
        hands.put_gateway_file(gateway_file(self._deployed.last.sections, servers))

    def _scale(
        self, host: str, *, timeout_s: float = 60.0, keys: Collection[str] = (), **order: Any
    ) -> dict[str, Any]:  # fmt: skip
        layout, gateway = self._deployed.layouts[host], self._gateways.get(host)
        site = self._deployed.site
        about = None if gateway is None else {
            "url": site.gateway_url(is_tls=bool(gateway.ca)), "token": layout.gateway_token(site.gateway_port),
            "tls": {"ca": gateway.ca} if gateway.ca else {},
        }  # fmt: skip
        whole = {"home": layout.home, "deployment": layout.deployment, "gateway": about, **order}
        argv = ["python3", f"{layout.agent}/scale.py", json.dumps(whole)]
        return shell.answer(host, shell.run(self._reaches[host], argv, timeout_s=timeout_s), keys=keys)


def listed_everywhere(looks: Iterable[Mapping[str, Any]], seats: Iterable[Seat]) -> bool:
    """Whether every gateway that answers knows all of these replicas."""
    gateways = [look["gateway"] for look in looks if look.get("gateway") and "error" not in look["gateway"]]
    return all(seat.url in gateway["outstanding"] for seat in seats for gateway in gateways)
