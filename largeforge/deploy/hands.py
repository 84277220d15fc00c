"""What an update does on hosts: switches through the agent there, and the gateways through their operators' pages."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from largeforge.deploy import shell, steps, tls
from largeforge.deploy.desired import GATEWAY
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from largeforge.deploy.connection import Reach
    from largeforge.deploy.service import Site
    from largeforge.deploy.shell import Locks
    from largeforge.deploy.update import Event, Release, Replacement

ENDINGS = ("committed", "restored", "refused", "lost")
FOLLOW_AGAIN_S = 3.0
MOST_AT_ONCE = 10


class HostHands:
    """Carries out what an update decides; see `update.Hands`."""

    def __init__(self, site: Site, reaches: Mapping[str, Reach], locks: Locks, *, running_gateways: Iterable[Release]):
        self._site, self._reaches, self._locks = site, dict(reaches), locks
        self._gateways = {gateway.host: gateway.ca for gateway in running_gateways}
        """Hosts with a gateway that runs, and the file that its certificate is verified with."""

    def check(self) -> None:
        """Raise DeployError when a lock is lost."""
        self._locks.check()

    def switch(self, replacement: Replacement, on_event: Callable[[Event], None]) -> Event:
        """Order a switch and follow it; over a connection that breaks, again."""
        new, old = replacement.new, replacement.old
        layout = self._site.layouts[new.host]
        self._locks.check(new.host)
        order = {
            "id": f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(3)}",
            "deployment": self._site.deployment, "service": new.service, "root": layout.home,
            "from": old.key if old else "", "to": new.key, "mode": replacement.mode,
            "units": {release.key: release.unit for release in (new, old) if release},
            "watch_s": 0 if replacement.is_return else self._site.watch_s, "log": layout.log(new.service),
            "probes": list(replacement.probes),
            "vacates": [{"service": one.service, "key": one.key, "unit": one.unit} for one in replacement.vacates],
        }  # fmt: skip
        ending = self._follow(new.host, "begin", order, on_event)
        if new.service == GATEWAY and ending["kind"] == "committed":
            self._gateways[new.host] = new.ca
        return ending

    def retire(self, release: Release, *, idle_timeout_s: float) -> None:
        """Stop a server that is not asked any more, once it has nothing to answer."""
        layout = self._site.layouts[release.host]
        order = {
            "deployment": self._site.deployment, "service": release.service, "root": layout.home,
            "to": release.key, "units": {release.key: release.unit}, "idle_timeout_s": idle_timeout_s,
        }  # fmt: skip
        self._agent(release.host, "switch", "retire", json.dumps(order), timeout_s=idle_timeout_s + 120)

    def put_gateway_file(
        self, file: Mapping[str, Any], *, unasked: Collection[str] = (), undrained: Collection[str] = ()
    ) -> None:
        """Write the file on every host with a gateway, and have those that run take it up, but for the unasked."""
        text = json.dumps(file, indent=1) + "\n"

        def put(host: str) -> None:
            layout = self._site.layouts[host]
            step = steps.File(layout.gateway_file, tls.located(text, layout), user=layout.user, mode="640")
            if host in self._gateways and host not in unasked:
                self._gateway(host, first=step, do="reload", servers=dict.fromkeys(undrained, ""))
            else:
                shell.carry_out(self._reaches[host], step)

        with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
            list(pool.map(put, self._site.gateways))

    def drain(self, url: str, *, timeout_s: float) -> int:
        """Have the gateways send a server nothing new, and wait for what it answers."""
        for host in self._gateways:
            self._gateway(host, do="drain", servers={url: "update"})
        until = time.monotonic() + timeout_s
        left = 0
        for host in self._gateways:
            rest = max(0.0, until - time.monotonic())
            left += int(self._gateway(host, timeout_s=rest, do="wait", server=url)["left"])
        return left

    def _gateway(
        self, host: str, *, timeout_s: float = 30.0, first: steps.Step | None = None, **order: Any
    ) -> dict[str, Any]:
        """Tell the gateway of a host what to do, after a first step there, and return what it says."""
        layout, ca = self._site.layouts[host], self._gateways[host]
        whole = {
            "url": self._site.gateway_url(is_tls=bool(ca)), "token": layout.gateway_token(self._site.gateway_port),
            "timeout_s": timeout_s, "tls": {"ca": ca} if ca else {}, **order,
        }  # fmt: skip
        try:
            said = self._agent(host, "gateway", json.dumps(whole), timeout_s=timeout_s + 60, first=first)
        except DeployError as error:
            raise DeployError(f"the gateway cannot be told what to do: {error}") from None
        return shell.answer(host, said)

    def _agent(
        self, host: str, program: str, *arguments: str, timeout_s: float = 120.0, first: steps.Step | None = None
    ) -> str:
        argv = ["python3", f"{self._site.layouts[host].agent}/{program}.py", *arguments]
        if first is None:
            return shell.run(self._reaches[host], argv, timeout_s=timeout_s)
        both = ["sh", "-c", f"{first.command()}; exec {shlex.join(argv)}"]
        return shell.run(self._reaches[host], both, stdin=first.input(), timeout_s=timeout_s)

    def _follow(self, host: str, action: str, order: Mapping[str, Any], on_event: Callable[[Event], None]) -> Event:
        """Tell what happens to its end, from the beginning again after the connection broke."""
        agent, seen, until = f"{self._site.layouts[host].agent}/switch.py", 0, 0.0
        while True:
            for number, event in enumerate(
                _events(self._reaches[host], ["python3", agent, action, json.dumps(order)]), 1
            ):
                if number > seen:
                    seen, until = number, 0.0
                    on_event(event)
                if event["kind"] in ENDINGS:
                    return event
            until = until or time.monotonic() + self._site.unreachable_s
            if time.monotonic() > until:
                raise DeployError(
                    f"{host}: the connection is lost while {order['service']} is switched; the host finishes that"
                )
            time.sleep(FOLLOW_AGAIN_S)


def _events(reach: Reach, argv: list[str]) -> Iterator[Event]:
    """Yield what a host tells until the connection is lost; raises DeployError when the program there fails."""
    lines = shell.lines(reach, argv)
    while True:
        try:
            line = next(lines, None)
        except shell.ConnectionLost:
            return
        if line is None:
            return
        if line.startswith("{"):
            yield dict(json.loads(line))
