"""The token with which a user of this machine operates the gateways that the same user has started here.

A gateway without a token of its own makes one at each start and keeps it, while it runs, in a file that only its user
can read, named after its port. It is of no use anywhere else or later.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TOKEN_VARIABLE = "LARGEFORGE_ADMIN_TOKEN"
"""Environment variable with a token that is given, for gateways that are operated from elsewhere."""


def kept(port: int) -> str:
    """Return the token of this user's gateway on a port, empty where there is none."""
    try:
        return _path(port).read_text().strip()
    except OSError:
        return ""


@contextmanager
def keep(port: int) -> Iterator[str]:
    """Make a token, and keep it as long as the context lasts."""
    token, path = secrets.token_urlsafe(32), _path(port)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(token)
    new.rename(path)
    try:
        yield token
    finally:
        if kept(port) == token:
            with suppress(OSError):
                path.unlink()


def _path(port: int) -> Path:
    folder = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser() / "largeforge" / "gateways" / f"{port}.token"
