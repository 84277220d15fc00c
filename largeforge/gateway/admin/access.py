"""Who may operate the gateway: whoever has the token, or, where there is none, who is on this machine.

Without a token the gateway must listen on a loopback address, and the request must come from there without a word of a
proxy and under a name of this machine: so neither what a reverse proxy passes on nor a web page that has its own name
resolved to this machine gets in.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from largeforge.errors import ServingError
from largeforge.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

TOKEN_VARIABLE = "LARGEFORGE_ADMIN_TOKEN"
LEAST_TOKEN_CHARS = 16
_PROXY_HEADERS = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"))


class Access:
    """Lets operators in."""

    def __init__(self, host: str, token: str = ""):
        """Take the address that the gateway listens on, and the token, empty where there is none."""
        self._host = host
        self._token = token

    def check(self, scope: Scope) -> None:
        """Raise ApiError (401 or 403) when a request does not come from an operator."""
        if _is_worker(scope):
            return
        headers = dict(scope["headers"])
        if self._token:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._token.encode()):
                raise ApiError(
                    401, f"Operating needs 'Authorization: Bearer …' with {TOKEN_VARIABLE}.", code="no_token"
                )
            return
        if not is_loopback(self._host):
            message = f"Operating a gateway that listens on {self._host} needs {TOKEN_VARIABLE} in its environment."
            raise ApiError(403, message, code="no_token")
        client = scope.get("client")
        named = _hostname(headers.get(b"host", b""))
        if client is None or not is_loopback(client[0]) or not is_loopback(named) or _PROXY_HEADERS & headers.keys():
            message = f"Without {TOKEN_VARIABLE} the gateway is only operated from its own machine, directly."
            raise ApiError(403, message, code="not_local")


def token(environment: Mapping[str, str] = os.environ) -> str:
    """Return the token of this process's environment, empty where there is none.

    Raises ServingError when it is too short to keep anybody out.
    """
    found = environment.get(TOKEN_VARIABLE, "")
    if 0 < len(found) < LEAST_TOKEN_CHARS or not found.isascii():
        raise ServingError(f"{TOKEN_VARIABLE} must have at least {LEAST_TOKEN_CHARS} characters, and only ASCII.")
    return found


def is_loopback(host: str) -> bool:
    """Return whether a name or address is of this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hostname(header: bytes) -> str:
    try:
        return urlsplit(f"//{header.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _is_worker(scope: Scope) -> bool:
    """Whether a request came over the Unix socket that only the workers of this gateway can open."""
    server = scope.get("server")
    return server is not None and server[1] is None
