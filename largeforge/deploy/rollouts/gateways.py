"""The gateways of a deployment on their hosts, asked all at once through the program there (`agent/rolling.py`)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from largeforge.deploy import shell
from largeforge.deploy.hands import MOST_AT_ONCE
from largeforge.deploy.rollouts import document as documents
from largeforge.deploy.rollouts.looking import Look, patch
from largeforge.deploy.shell import LockHeld
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.deploy.connection import Reach
    from largeforge.deploy.rollouts.document import Document
    from largeforge.deploy.service import Site
    from largeforge.deploy.shell import Locks

TIMEOUT_S = 60.0


class HostGateways:
    """The gateways that run; `trusted` is by host the file that a gateway's certificate is verified with, empty for
    plain HTTP. See `conduct.Gateways`."""

    def __init__(self, site: Site, reaches: Mapping[str, Reach], locks: Locks, *, trusted: Mapping[str, str]):
        self._site, self._reaches, self._locks, self._trusted = site, reaches, locks, dict(trusted)

    def exchange(self, document: Document) -> tuple[Look, dict[str, str]]:
        """Keep a rollout on their hosts and bring it about there; return what they say, and who does not answer.

        Raises LockHeld when somebody else has a lock, or has had it.
        """
        text, wanted = document.text(), patch(document, is_over=bool(document.ended))
        found: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}

        def ask(host: str) -> None:
            try:
                self._locks.check(host)
                found[host] = self._ask(host, document.id, text, wanted)
            except LockHeld:
                raise
            except DeployError as error:
                failed[host] = str(error)

        with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
            list(pool.map(ask, self._trusted))
        arms = {f"{host}/{worker}": counts for host, said in found.items() for worker, counts in said["arms"].items()}
        commands = tuple(str(said["command"]["do"]) for said in found.values() if said["command"])
        guarded = {expert: reason for said in found.values() for expert, reason in said["guarded"].items()}
        return Look(arms, commands, guarded), failed

    def _ask(self, host: str, name: str, text: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        layout, ca = self._site.layouts[host], self._trusted[host]
        order = {
            "id": name, "path": documents.path(layout, name), "text": text, "command": documents.command_path(layout),
            "url": self._site.gateway_url(is_tls=bool(ca)), "token": layout.gateway_token(self._site.gateway_port),
            "tls": {"ca": ca} if ca else {}, "patch": wanted,
        }  # fmt: skip
        argv = ["python3", f"{layout.agent}/rolling.py"]
        printed = shell.run(self._reaches[host], argv, stdin=json.dumps(order), timeout_s=TIMEOUT_S)
        try:
            said: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise DeployError(f"{host}: it says nothing that can be understood: {printed[-200:]!r}") from None
        return said
