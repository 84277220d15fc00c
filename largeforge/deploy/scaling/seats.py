"""Which replicas of an expert run, and what is to be done so that as many run as are wanted. Pure.

A replica that does not run stays in the gateways' file and is drained there, so that requests wait for it where nobody
else is left. What somebody else has drained or stopped is theirs: it is neither counted nor touched.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

REASON = "autoscaler"
"""Why replicas are drained, as the gateways' state tells."""
FAILING_RESTARTS = 3
"""Starts of a replica in a row that fail before it counts as failing."""

Status = Literal["serving", "warm", "starting", "stopped", "leaving", "failing", "held"]
"""`warm` runs and is drained; `leaving` is being stopped; `failing` starts again and again, whether the gateways have
it drained or not; `held` is somebody else's."""
RANK: dict[Status, int] = {
    "serving": 0, "warm": 1, "starting": 2, "stopped": 3, "leaving": 4, "failing": 5, "held": 6
}  # fmt: skip


IDLE: tuple[Status, ...] = ("stopped", "leaving")


@dataclass(frozen=True)
class Seat:
    """One replica."""

    host: str
    service: str
    unit: str
    url: str
    experts: tuple[str, ...]
    status: Status
    outstanding: int = 0
    """Requests that it has not finished, by all gateways."""
    gpus: tuple[int, ...] = ()
    cache_use: float | None = None
    started_s: float | None = None
    """How long its last start took."""

    @property
    def place(self) -> str:
        """Name for people."""
        return f"{self.service} on {self.host}"


Action = Literal["start", "warm", "drain", "stop"]


@dataclass(frozen=True)
class Order:
    """One thing to do; `warm` asks it a real prompt and then lets the gateways send it requests."""

    action: Action
    seat: Seat


STILL: dict[Action, tuple[Status, ...]] = {
    "start": ("stopped",), "warm": ("warm",), "drain": ("serving",), "stop": ("warm", "starting", "failing")
}  # fmt: skip
"""What a replica must be for an order to be right."""


def seats(looks: Mapping[str, Mapping[str, Any]], *, steady: Mapping[str, int] | None = None) -> list[Seat]:
    """Return all replicas of the hosts that were looked at; `steady` is by unit the restarts that do not count."""
    gateways = [look["gateway"] for look in looks.values() if look.get("gateway") and "error" not in look["gateway"]]
    found = []
    for host, look in looks.items():
        for service, told in look["servers"].items():
            reasons = [gateway["drained"].get(told["url"]) for gateway in gateways]
            failed = told["restarts"] - (steady or {}).get(told["unit"], 0)
            status = _status(told["state"], failed, reasons)
            outstanding = sum(gateway["outstanding"].get(told["url"], 0) for gateway in gateways)
            found.append(Seat(
                host, service, told["unit"], told["url"], tuple(told["experts"]), status, outstanding,
                tuple(told["gpus"]), told["cache_use"], told["started_s"],
            ))  # fmt: skip
    return found


def orders(found: Iterable[Seat], wanted: int, *, given_up: Collection[str], overdue: Collection[str]) -> list[Order]:
    """Return what is to be done so that as many replicas run as are wanted.

    Those that serve stay, then those that are nearest to it; of those, the first by their numbers. One that leaves is
    drained first, and stopped once it has nothing to answer, or is overdue. Units that are given up are stopped,
    and not started. One that fails and is not given up is left to systemd, which tries on, where no other can take
    its place.
    """
    ranked = sorted(usable(found, given_up=given_up), key=lambda seat: (RANK[seat.status], _number(seat), seat.host))
    listed = [Order("stop", seat) for seat in found if seat.unit in given_up and seat.status in STILL["stop"]]
    for index, seat in enumerate(ranked):
        if index < wanted:
            action = {"warm": "warm", "stopped": "start"}.get(seat.status)
        else:
            action = {"serving": "drain", "warm": "stop", "starting": "stop", "failing": "stop"}.get(seat.status)
            if action == "stop" and seat.outstanding and seat.unit not in overdue:
                action = None
        if action:
            listed.append(Order(action, seat))  # type: ignore[arg-type]
    return listed


def still(orders: Iterable[Order], found: Iterable[Seat]) -> list[Order]:
    """Return the orders that are right for replicas as they are found now: others may have seen to them meanwhile."""
    now = {seat.unit: seat.status for seat in found}
    return [order for order in orders if now.get(order.seat.unit) in STILL[order.action]]


def usable(found: Iterable[Seat], *, given_up: Collection[str]) -> list[Seat]:
    """Return the replicas that may run."""
    return [seat for seat in found if seat.status != "held" and seat.unit not in given_up]


def hopeless(found: Collection[Seat], *, given_up: Collection[str]) -> list[Seat]:
    """Return the replicas of an expert that fail, and that another one can take the place of."""
    able = [seat for seat in usable(found, given_up=given_up) if seat.status != "failing"]
    return [seat for seat in usable(found, given_up=given_up) if seat.status == "failing" and able]


def groups(found: Sequence[Seat], carried: Mapping[str, str]) -> dict[str, list[Seat]]:
    """Return the replicas by the expert whose model they load; `carried` is by adapter the expert that carries it."""
    listed: dict[str, list[Seat]] = {}
    for seat in found:
        if base := next((expert for expert in seat.experts if not carried.get(expert)), None):
            listed.setdefault(base, []).append(seat)
    return listed


def gone(looks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the servers that were drained as not needed, and that are on no host any more."""
    there = {told["url"] for look in looks.values() for told in look["servers"].values()}
    drained = {
        url
        for look in looks.values()
        if look.get("gateway") and "error" not in look["gateway"]
        for url, reason in look["gateway"]["drained"].items()
        if reason == REASON
    }
    return sorted(drained - there)


def behind(looks: Mapping[str, Mapping[str, Any]], found: Iterable[Seat]) -> dict[str, list[Seat]]:
    """Return by host the replicas that do not run and that its gateway, which was away, does not know as drained."""
    idle = [seat for seat in found if seat.status in IDLE]
    gateways = {host: look["gateway"] for host, look in looks.items() if look.get("gateway")}
    missed = {
        host: [seat for seat in idle if seat.url not in gateway["drained"]]
        for host, gateway in gateways.items()
        if "error" not in gateway
    }
    return {host: seats for host, seats in missed.items() if seats}


def _status(state: str, failed: int, reasons: Sequence[str | None]) -> Status:
    """Return what a replica is, from its unit's state, how many starts in a row have failed, and why gateways have it
    drained (None where they have not)."""
    drained = [reason for reason in reasons if reason is not None]
    if any(reason != REASON for reason in drained):
        return "held"
    if state in ("activating", "reloading"):
        return "failing" if failed >= FAILING_RESTARTS else "starting"
    if state == "active":
        return "warm" if drained else "serving"
    if not drained:
        return "held"
    return "leaving" if state == "deactivating" else "stopped"


def _number(seat: Seat) -> int:
    found = re.search(r"-(\d+)$", seat.service)
    return int(found[1]) if found else 1
