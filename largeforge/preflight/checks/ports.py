"""The gateway's port is free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Listen on the gateway's address for a moment."""
    if context.recipe is None or not context.serves:
        yield skipped("nothing is served")
        return
    host, port = context.recipe.gateway.host, context.recipe.gateway.port
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            yield ok(f"{host}:{port or 'any'} is free")
    except OSError as fault:
        yield _explained(fault, host, port)


def _explained(fault: OSError, host: str, port: int) -> Finding:
    if fault.errno == errno.EADDRINUSE:
        cure = f"ss -ltnp 'sport = :{port}' shows who listens; or gateway.port=0 for any free port"
        return error(f"another process listens on {host}:{port}", cure)
    if fault.errno == errno.EACCES:
        return error(f"port {port} needs privileges", "gateway.port=8080")
    return error(f"cannot listen on {host}: {str(fault.strerror or fault).lower()}", "gateway.host=127.0.0.1")
