"""Run the gateway as a process: listen, serve, and stop without dropping the answers in progress."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from largeforge.gateway import clients
from largeforge.gateway.activation import adopt, inherited
from largeforge.gateway.admin import access
from largeforge.gateway.app import create_app
from largeforge.gateway.certificates import certificates
from largeforge.gateway.clients.room import Room
from largeforge.gateway.clients.sockets import WebSockets
from largeforge.gateway.crew.supervisor import stop_without_parent
from largeforge.gateway.listening import BACKLOG, bind, url_of
from largeforge.gateway.log_lines import Lines

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import FrameType

    from largeforge.gateway.admin.service import Admin
    from largeforge.gateway.app import Application
    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.crew.worker import Place
    from largeforge.gateway.live import Live
    from largeforge.gateway.notify import Told

CLIENT_KEEPALIVE_S = 75
"""Idle client connections stay open longer than clients keep them, so that none is reused while closing."""

WS_SPARE_BYTES = 2**20
"""Messages this much over the limit of bodies are still refused with an error; larger ones end the connection."""

TLS_HANDSHAKE_S = 10.0
"""How long a client may take to agree on TLS."""
TLS_SHUTDOWN_S = 2.0
"""How long it may take to agree to its end."""
LOOK_EVERY_S = 0.02


def serve(
    file: GatewayFile, admin: Admin, *, told: Told, place: Place | None = None, on_listening: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, and end at once at the second; `on_listening` is called once with the address.

    With a place it is one of several workers, and ends with their parent.

    Raises ServingError when the address cannot be listened on, RecipeError when what operators have set, or a
    certificate, cannot be read.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(file, place))
        shown = certificates(file.gateway)
        url = url_of(listener, is_tls=shown is not None)
        token = stack.enter_context(access.token_of(listener.getsockname()[1]))
        admin = replace(admin, token=token, certificates=shown, told=told)
        server = _server(file, admin, place, on_started=lambda: on_listening(url))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        signal.signal(signal.SIGQUIT, lambda *_: server.stop_at_once())
        _spare_the_collector()
        server.run(sockets=[listener])


def _listener(file: GatewayFile, place: Place | None) -> socket.socket:
    if place is None:
        return inherited(file.gateway.host, file.gateway.port) or bind(file.gateway.host, file.gateway.port)
    if place.listener >= 0:
        return adopt(place.listener)
    return bind(file.gateway.host, place.port, is_shared=True)


def _server(file: GatewayFile, admin: Admin, place: Place | None, *, on_started: Callable[[], None]) -> Server:
    log = Lines(sys.stderr.fileno(), "largeforge.gateway.access")
    app = create_app(file, log=log, admin=admin, place=place)
    room = Room(clients.most_connections(), app.completions)
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws=WebSockets,
        ws_max_size=int(file.gateway.max_body_mib * 2**20) + WS_SPARE_BYTES,
        http=cast("type[asyncio.Protocol]", clients.protocol_in(room)),
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=CLIENT_KEEPALIVE_S,
    )
    context = admin.certificates.context if admin.certificates else None
    return Server(
        config, app, room, told=admin.told, context=context, on_started=on_started, has_parent=place is not None
    )


def _spare_the_collector() -> None:
    """Keep what is here for good out of garbage collections, and have fewer of them: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Server(uvicorn.Server):
    """uvicorn's server that says how it is, and ends without losing a request."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Application,
        room: Room,
        *,
        told: Told,
        context: ssl.SSLContext | None,
        on_started: Callable[[], None],
        has_parent: bool,
    ):
        super().__init__(config)
        self._live: Live = app.completions.live
        self._room, self._told, self._tls = room, told, context
        self._on_started = on_started
        self._has_parent = has_parent
        self._beating: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then listen, then tell."""
        if self._has_parent:
            stop_without_parent(self.stop)
        await super().startup([])
        await self._listen(sockets or [])
        if self._told.beat_s:
            self._beating = asyncio.create_task(self._beat())
        self._on_started()
        self._told.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, give running answers their time, and end."""
        drain_s = self._live.now.file.gateway.drain_timeout_s
        self._told.stopping(drain_s)
        self._room.is_closing = True
        self.config.timeout_graceful_shutdown = ceil(drain_s)
        for server in self.servers:
            server.close()
        await self._until_all_came()
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating

    def stop(self) -> None:
        """Ask the server to stop accepting, finish and return."""
        self.should_exit = True

    def stop_at_once(self) -> None:
        """Ask it not to wait for running answers either."""
        self.should_exit = self.force_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; the second time at once, unless it is a worker: its parent may not be the only one that tells it."""
        self.force_exit = self.force_exit or (self.should_exit and not self._has_parent)
        self.should_exit = True

    async def _listen(self, sockets: list[socket.socket]) -> None:
        """Serve sockets as uvicorn does, and have TLS end in time."""
        loop = asyncio.get_running_loop()
        make: Callable[[], asyncio.Protocol] = partial(
            cast("Any", self.config.http_protocol_class),
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop,
        )  # fmt: skip
        for listener in sockets:
            server = await loop.create_server(
                make, sock=listener, ssl=self._tls, backlog=BACKLOG,
                ssl_handshake_timeout=TLS_HANDSHAKE_S if self._tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S if self._tls else None,
            )  # fmt: skip
            self.servers.append(server)

    async def _until_all_came(self) -> None:
        """Wait for clients that were accepted and still agree on TLS: nobody else will ever answer them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TLS_SHUTDOWN_S):
                while self._room.coming and not self.force_exit:  # noqa: ASYNC110 - nobody tells when they are gone
                    await asyncio.sleep(LOOK_EVERY_S)

    async def _beat(self) -> None:
        """Tell that the event loop turns, and how the gateway is."""
        while True:
            self._told.alive(self._status())
            await asyncio.sleep(self._told.beat_s)

    def _status(self) -> str:
        if self._room.is_closing:
            return f"finishes; {len(self.server_state.connections)} connections are open"
        targets = self._live.now.targets.values()
        up = sum(target.is_up for target in targets)
        return f"{up} of {len(targets)} experts up"
