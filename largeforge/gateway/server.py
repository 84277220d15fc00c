"""Run the gateway as a process: bind, serve, and stop without dropping the answers in progress."""

from __future__ import annotations

import errno
import gc
import signal
import socket
import sys
from typing import TYPE_CHECKING, cast

import uvicorn

from largeforge.errors import ServingError
from largeforge.gateway import clients, logs
from largeforge.gateway.app import create_app

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from largeforge.gateway.admin.service import Admin
    from largeforge.gateway.config import GatewayFile

GRACE_S = 5
"""How long running answers may take to finish once the gateway is told to stop."""

CLIENT_KEEPALIVE_S = 75
"""Idle client connections stay open longer than clients keep them, so that none is reused while closing."""

WS_SPARE_BYTES = 2**20
"""Messages this much over the limit of bodies are still refused with an error; larger ones end the connection."""

BACKLOG = 2048


def serve(file: GatewayFile, admin: Admin, *, on_listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `on_listening` is called once with the address.

    Raises ServingError when the address cannot be listened on, RecipeError when what operators have set cannot be read.
    """
    listener = bind(file.gateway.host, file.gateway.port)
    url = url_of(listener)
    config = uvicorn.Config(
        create_app(file, log=logs.Lines(sys.stderr.fileno(), "largeforge.gateway.access"), admin=admin),
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=int(file.gateway.max_body_mib * 2**20) + WS_SPARE_BYTES,
        http=cast("type[asyncio.Protocol]", clients.protocol(clients.most_connections())),
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=CLIENT_KEEPALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = Server(config, on_started=lambda: on_listening(url))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    _spare_the_collector()
    with listener:
        server.run(sockets=[listener])


def _spare_the_collector() -> None:
    """Keep what is here for good out of garbage collections, and have fewer of them: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Server(uvicorn.Server):
    """uvicorn's server that says when it serves."""

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None]):
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._on_started()

    def stop(self) -> None:
        """Ask the server to stop accepting, finish and return."""
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    It listens at once, so that a second gateway fails here and not after its start.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServingError(_explain(host, port, error)) from error
    # Accepted connections inherit this on Linux; asyncio sets it only on sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address under which this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"gateway.port = {port}: another process listens on {host}:{port}. Stop it (`ss -ltnp 'sport = :{port}'` "
            "shows it), or choose another port with gateway.port=N (0 takes any free one)."
        )
    if error.errno == errno.EACCES:
        return f"gateway.port = {port}: not permitted; ports below 1024 need privileges, choose a higher one."
    return f"gateway.host = {host!r}: cannot listen there: {error.strerror or error}. Use an address of this machine."
