"""Ports of this machine for servers of tests."""

from __future__ import annotations

from contextlib import ExitStack

from largeforge.serving.server import reserved_ports

_HELD = ExitStack()


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody else is given until this process ends."""
    (port,) = _HELD.enter_context(reserved_ports(1))
    return port
