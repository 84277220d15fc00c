"""Run the gateway as a process: bind, serve, and stop without dropping the answers in progress."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import uvicorn

from largeforge.gateway import clients
from largeforge.gateway.admin import access
from largeforge.gateway.app import create_app
from largeforge.gateway.crew.supervisor import stop_without_parent
from largeforge.gateway.listening import BACKLOG, bind, url_of
from largeforge.gateway.log_lines import Lines

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from largeforge.gateway.admin.service import Admin
    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.crew.worker import Place

GRACE_S = 5
"""How long running answers may take to finish once the gateway is told to stop."""

CLIENT_KEEPALIVE_S = 75
"""Idle client connections stay open longer than clients keep them, so that none is reused while closing."""

WS_SPARE_BYTES = 2**20
"""Messages this much over the limit of bodies are still refused with an error; larger ones end the connection."""


def serve(file: GatewayFile, admin: Admin, *, place: Place | None = None, on_listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `on_listening` is called once with the address.

    With a place it is one of several workers, and ends with their parent.

    Raises ServingError when the address cannot be listened on, RecipeError when what operators have set cannot be read.
    """
    port = place.port if place else file.gateway.port
    with ExitStack() as stack:
        listener = stack.enter_context(bind(file.gateway.host, port, is_shared=place is not None))
        token = stack.enter_context(access.token_of(listener.getsockname()[1]))
        url = url_of(listener)
        server = _server(file, replace(admin, token=token), place, on_started=lambda: on_listening(url))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        _spare_the_collector()
        server.run(sockets=[listener])


def _server(file: GatewayFile, admin: Admin, place: Place | None, *, on_started: Callable[[], None]) -> Server:
    log = Lines(sys.stderr.fileno(), "largeforge.gateway.access")
    app = create_app(file, log=log, admin=admin, place=place)
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=int(file.gateway.max_body_mib * 2**20) + WS_SPARE_BYTES,
        http=cast("type[asyncio.Protocol]", clients.protocol(clients.most_connections(), app.completions)),
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=CLIENT_KEEPALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config, on_started=on_started, has_parent=place is not None)


def _spare_the_collector() -> None:
    """Keep what is here for good out of garbage collections, and have fewer of them: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Server(uvicorn.Server):
    """uvicorn's server that says when it serves."""

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None], has_parent: bool):
        super().__init__(config)
        self._on_started = on_started
        self._has_parent = has_parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        if self._has_parent:
            stop_without_parent(self.stop)
        await super().startup(sockets)
        self._on_started()

    def stop(self) -> None:
        """Ask the server to stop accepting, finish and return."""
        self.should_exit = True
