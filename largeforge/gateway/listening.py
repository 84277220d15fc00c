"""The socket that a gateway listens on, and the address under which it is reached."""

from __future__ import annotations

import errno
import socket

from largeforge.errors import ServingError

BACKLOG = 2048
"""Connections that wait to be accepted."""


def bind(host: str, port: int, *, is_shared: bool = False, listens: bool = True) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    It listens at once, so that a second gateway fails here and not after its start. One that is shared lets other
    processes of this user listen on the same port, and the kernel spreads connections over those that do.

    Raises ServingError when the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        if listens:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ServingError(_explain(host, port, error)) from error
    # Accepted connections inherit this on Linux; asyncio sets it only on sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, *, is_tls: bool = False) -> str:
    """Return the address under which this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"gateway.port = {port}: another process listens on {host}:{port}. Stop it (`ss -ltnp 'sport = :{port}'` "
            "shows it), or choose another port with gateway.port=N (0 takes any free one)."
        )
    if error.errno == errno.EACCES:
        return f"gateway.port = {port}: not permitted; ports below 1024 need privileges, choose a higher one."
    return f"gateway.host = {host!r}: cannot listen there: {error.strerror or error}. Use an address of this machine."
