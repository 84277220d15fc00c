"""A socket that listens already, from the service manager (sd_listen_fds(3)).

It outlives the process: while one gateway finishes, another accepts from the same socket, and no connection is refused.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING

from largeforge.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
NAME = "gateway"
"""Which socket is meant where there are several (FileDescriptorName= of a socket unit)."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited(host: str, port: int, environment: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """Return the socket that this process was given, None where it was given none; its children are not told of it.

    Raises ServingError when it is not one that listens on this address; port 0 agrees with any.
    """
    said = {name: environment.pop(name, "") for name in VARIABLES}
    if said["LISTEN_PID"] != str(os.getpid()) or not said["LISTEN_FDS"].isdigit() or said["LISTEN_FDS"] == "0":
        return None
    listener = adopt(_descriptor(int(said["LISTEN_FDS"]), said["LISTEN_FDNAMES"].split(":")))
    try:
        _check(listener, host, port)
    except ServingError:
        listener.detach()
        raise
    return listener


def adopt(descriptor: int) -> socket.socket:
    """Return a socket by its descriptor, ready to be served."""
    try:
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ServingError(f"descriptor {descriptor}, handed over to listen on: {error.strerror or error}.") from error
    if _is_tcp(listener):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `listening.bind` does
    return listener


def _descriptor(count: int, names: list[str]) -> int:
    named = [number for number, name in enumerate(names[:count]) if name == NAME]
    candidates = named or list(range(count))
    if len(candidates) > 1:
        raise ServingError(
            f"{len(candidates)} sockets were handed over, and a gateway listens on one: name it with "
            f"FileDescriptorName={NAME} in its socket unit, or leave the others out."
        )
    return FIRST_DESCRIPTOR + candidates[0]


def _check(listener: socket.socket, host: str, port: int) -> None:
    if not _is_tcp(listener):
        raise ServingError("The socket that was handed over is not one of TCP (ListenStream=HOST:PORT).")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ServingError("The socket that was handed over does not listen (Accept=no in its socket unit).")
    of_host, of_port = listener.getsockname()[:2]
    if port not in (0, of_port):
        _disagree("port", str(port), of_host, of_port)
    if ipaddress.ip_address(of_host.partition("%")[0]) not in _addresses(host):
        _disagree("host", repr(host), of_host, of_port)


def _is_tcp(listener: socket.socket) -> bool:
    return listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM


def _disagree(key: str, given: str, host: str, port: int) -> None:
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise ServingError(
        f"gateway.{key} = {given}: the socket that was handed over listens on {at}. Write the same address in the "
        "recipe and in the socket unit (ListenStream=)."
    )


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServingError(f"gateway.host = {host!r}: {error.strerror or error}.") from error
    return {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
