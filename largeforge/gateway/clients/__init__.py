"""The connections of clients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from largeforge.gateway.clients.client import Client
from largeforge.gateway.clients.room import Room, most_connections

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from largeforge.gateway.completions import Completions

__all__ = ["most_connections", "protocol", "protocol_in"]


def protocol(most: int, completions: Completions | None = None) -> Callable[..., asyncio.Protocol]:
    """Return what makes the protocol of each connection for uvicorn, of which there are at most so many.

    With `completions` those are answered without ASGI.
    """
    return protocol_in(Room(most, completions))


def protocol_in(room: Room) -> Callable[..., asyncio.Protocol]:
    """Return what makes the protocol of each connection, all in one room."""
    return partial(Client, room)
