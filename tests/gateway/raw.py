"""Connections read byte by byte."""

from __future__ import annotations

import contextlib
import socket


def rest(client: socket.socket) -> bytes:
    """Return what a connection still gives until it is closed, in whatever way."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            data += piece
    return data
