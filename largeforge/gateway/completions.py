"""The completions of a gateway, for connections that bring requests and take answers without ASGI between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.gateway.access import RequestLog
    from largeforge.gateway.live import Live
    from largeforge.gateway.proxy import Proxy


@dataclass(frozen=True)
class Completions:
    """Who answers which address, and the log that they are told to."""

    proxies: Mapping[bytes, Proxy]
    """By the bytes of a request's first line."""
    log: RequestLog
    live: Live

    @property
    def max_bytes(self) -> int:
        """Largest body that is taken."""
        return int(self.live.now.file.gateway.max_body_mib * 2**20)
