"""What all clients share: how many there may be, how much they may hold, and who has to go when it is too much."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

    from largeforge.gateway.clients.client import Client
    from largeforge.gateway.completions import Completions

MOST_HELD_BYTES = 512 * 2**20
"""Bytes of unfinished bodies that all clients together may hold."""
SPARE_DESCRIPTORS = 512
"""File descriptors that are kept free of clients: for servers, files and logs."""
LOOKS = 15
"""How often idle connections are looked for within the time that they may stay open."""


def most_connections() -> int:
    """Return how many clients may be connected, after raising the limit on open files as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    open_files = hard if hard != resource.RLIM_INFINITY else 2**20
    return max(64, open_files // 2 if open_files < 2 * SPARE_DESCRIPTORS else open_files - SPARE_DESCRIPTORS)


class Room:
    """The room that all clients have together."""

    def __init__(self, most: int, completions: Completions | None):
        self.most = most
        """Connections at once."""
        self.completions = completions
        """What is answered without ASGI; None for nothing."""
        self.holding: dict[Client, int] = {}
        """Bytes of unfinished bodies, the longest first."""
        self.coming: WeakSet[Client] = WeakSet()
        """Those that were accepted and are not connected yet: with TLS that takes a while, or comes to nothing."""
        self.is_closing = False
        """Whether the gateway ends: every answer is the last of its connection."""
        self._waiting: dict[Client, float] = {}
        """Those whose request has not come, and since when, the longest first."""
        self._num_held = 0
        self._looking: asyncio.TimerHandle | None = None

    def enter(self, client: Client, num_clients: int) -> None:
        """Take a client in; when there are too many, the one that waits longest has to go."""
        if num_clients + len(self.coming) > self.most and self._waiting:
            next(iter(self._waiting)).transport.abort()
        self.wait(client)

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self._waiting.pop(client, None)
        self.hold(client, 0)

    def wait(self, client: Client) -> None:
        """Note that a client is to send its next request; one that is idle for too long is closed.

        One timer looks after all of them: one for each would have to be set and cancelled for each request.
        """
        self._waiting[client] = client.loop.time()
        if self._looking is None:
            self._looking = client.loop.call_later(client.timeout_keep_alive / LOOKS, self._look, client.loop)

    def wait_no_more(self, client: Client) -> None:
        """Note that its request has come."""
        self._waiting.pop(client, None)

    def hold(self, client: Client, num_bytes: int) -> None:
        """Note what a client holds; who has held something for the longest goes when it is too much together."""
        self._num_held += num_bytes - self.holding.get(client, 0)
        if num_bytes:
            self.holding[client] = num_bytes
        else:
            self.holding.pop(client, None)
        if self._num_held > MOST_HELD_BYTES:
            next(iter(self.holding)).transport.abort()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = None
        now = loop.time()
        for client, since in list(self._waiting.items()):
            if now - since < client.timeout_keep_alive:
                break
            client.close_if_idle()
        if self._waiting:
            every_s = next(iter(self._waiting)).timeout_keep_alive / LOOKS
            self._looking = loop.call_later(every_s, self._look, loop)
