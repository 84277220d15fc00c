"""Operate a running gateway: look at its state, change it, and give it another topology.

    with Operator("http://127.0.0.1:8080") as gateway:
        gateway.set(mode="maintenance", reason="new disks")
        gateway.wait_until_idle()

It needs the gateway's token: `token`, or the variable LARGEFORGE_ADMIN_TOKEN; that of a gateway which the same user
runs on this machine is found by its port. Whom it trusts over https is said by `verify`, or by the environment
(`trust.py`).
"""

from __future__ import annotations

import ipaddress
import os
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx

from largeforge.client.answer import parse_failure
from largeforge.client.trust import verification
from largeforge.errors import ClientError
from largeforge.operators import TOKEN_VARIABLE, kept

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.1


class Operator:
    """Operates one gateway; every method raises RequestFailed with what the gateway says, ClientError without it."""

    def __init__(self, url: str, *, token: str = "", timeout_s: float = TIMEOUT_S, verify: ssl.SSLContext | str = ""):
        self._url = url.rstrip("/")
        token = token or os.environ.get(TOKEN_VARIABLE) or _kept_token(self._url)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=self._url, headers=headers, timeout=timeout_s, trust_env=False,
                verify=verification(verify, [self._url]),
            )  # fmt: skip
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
            raise ClientError(f"{url!r} is no address of a gateway: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def state(self) -> dict[str, Any]:
        """Return what is in force."""
        found: dict[str, Any] = self._call("GET", "/admin/state").json()
        return found

    def set(self, **patch: Any) -> dict[str, Any]:
        """Change the state by a merge patch: `mode`, `experts={"support": "why"}`, `experts={"support": None}`, …"""
        found: dict[str, Any] = self._call("PATCH", "/admin/state", patch).json()
        return found

    def arms(self) -> dict[str, Any]:
        """Return what was counted of experts with a canary, by expert and side."""
        found: dict[str, Any] = self._call("GET", "/admin/arms").json()["data"]
        return found

    def health(self) -> dict[str, Any]:
        """Return the body of `/ready`, whether or not the gateway is."""
        found: dict[str, Any] = self._call("GET", "/ready", allowed=(503,)).json()
        return found

    def config(self) -> tuple[dict[str, Any], str]:
        """Return the gateway file that is served, and its digest."""
        answer = self._call("GET", "/admin/config")
        return answer.json(), answer.headers["etag"].strip('"')

    def put_config(self, file: dict[str, Any], *, instead_of: str = "") -> str:
        """Serve another gateway file and return its digest; `instead_of` is the digest that must still be served."""
        headers = {"if-match": f'"{instead_of}"'} if instead_of else {}
        return self._call("PUT", "/admin/config", file, headers=headers).headers["etag"].strip('"')

    def reload(self) -> str:
        """Have the gateway read the file again that it was started with; return its digest."""
        return self._call("POST", "/admin/reload").headers["etag"].strip('"')

    def wait_until_idle(
        self, *, server: str = "", timeout_s: float = 600.0, report: Callable[[int], None] = lambda left: None
    ) -> None:
        """Return when nothing is being answered any more, by the gateway or by one server behind it.

        `report` gets the number of requests that are left, whenever it changes. Raises ClientError after `timeout_s`.
        """
        until, told = time.monotonic() + timeout_s, -1
        while left := self._outstanding(server) if server else int(self.state()["in_flight"]):
            if left != told:
                report(left)
                told = left
            if time.monotonic() > until:
                raise ClientError(f"{left} requests are still being answered after {timeout_s:g} s.")
            time.sleep(LOOK_EVERY_S)

    def _outstanding(self, server: str) -> int:
        found = self.state()["outstanding"]
        if server not in found:
            raise ClientError(f"{server} is no server of the gateway; there is: {', '.join(found)}.")
        return int(found[server])

    def _call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None,
        allowed: tuple[int, ...] = (),
    ) -> httpx.Response:  # fmt: skip
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ClientError(f"{self._url} cannot be reached: {error}") from error
        if answer.status_code >= 400 and answer.status_code not in allowed:
            raise parse_failure(answer.status_code, answer.headers, answer.content)
        return answer


def _kept_token(url: str) -> str:
    """Return the token of a gateway on this machine, empty for another: it must not learn the token."""
    try:
        parts = urlsplit(url)
        is_here = ipaddress.ip_address(parts.hostname or "").is_loopback if parts.hostname != "localhost" else True
        return kept(parts.port or (443 if parts.scheme == "https" else 80)) if is_here else ""
    except ValueError:
        return ""
