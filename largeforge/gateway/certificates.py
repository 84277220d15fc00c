"""The certificates that the gateway shows to clients, and those that it asks of them; renewed without a new process.

New connections get what was read last; those that are open keep what they began with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.tls import server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from largeforge.recipe.schema import Gateway
    from largeforge.recipe.sections.tls import ServerTls

Stamp = tuple[tuple[int, ...], ...]


class Certificates:
    """The certificates of a gateway that speaks TLS; `context` is what its server is given, for good."""

    def __init__(self, settings: ServerTls):
        """Read them; raises RecipeError where a file cannot be used."""
        self._settings = settings
        self._now = self.read()
        self.context = self.read()
        self.context.sni_callback = self._choose

    def show(self, read: ssl.SSLContext) -> None:
        """Show new clients what was read."""
        self._now = read

    def read(self) -> ssl.SSLContext:
        """Return what is in the files now; raises RecipeError where one cannot be used."""
        settings = self._settings
        return server_context(settings.certificate, settings.key, client_ca=settings.client_ca)

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._now


def certificates(settings: Gateway) -> Certificates | None:
    """Return the certificates of a gateway, None where it speaks plain HTTP."""
    return Certificates(settings.tls) if settings.tls.certificate else None


def stamp(settings: Gateway) -> Stamp:
    """Return what changes when a file of a gateway's certificates does, those for servers included."""
    files = (*settings.tls.model_dump().values(), *settings.upstream_tls.model_dump().values())
    return tuple(_stamps(path for path in files if path))


def _stamps(paths: Iterable[str]) -> Iterable[tuple[int, ...]]:
    for path in paths:
        try:
            found = Path(path).stat()
        except OSError:
            yield ()
        else:
            yield found.st_mtime_ns, found.st_size, found.st_ino
