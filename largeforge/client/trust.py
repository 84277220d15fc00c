"""Whom a client trusts over https, and what it shows of itself.

`LARGEFORGE_CA` names a PEM file of authorities; without it they are the usual ones. `LARGEFORGE_CLIENT_CERTIFICATE` and
`LARGEFORGE_CLIENT_KEY` name the certificate that a gateway with `gateway.tls.client_ca` asks for.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from largeforge.errors import ClientError, RecipeError
from largeforge.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VARIABLES = ("LARGEFORGE_CA", "LARGEFORGE_CLIENT_CERTIFICATE", "LARGEFORGE_CLIENT_KEY")


def verification(
    given: ssl.SSLContext | str, urls: Iterable[str], environment: Mapping[str, str] = os.environ
) -> ssl.SSLContext | bool:
    """Return httpx's `verify`: what is given, a context or a file of authorities, or what the environment says.

    Raises ClientError where a file cannot be used.
    """
    if isinstance(given, ssl.SSLContext):
        return given
    ca, certificate, key = (environment.get(name, "") for name in VARIABLES)
    ca = given or ca
    if not (ca or certificate) or not any(url.startswith("https:") for url in urls):
        return True
    names = ("verify" if given else VARIABLES[0], *VARIABLES[1:])
    try:
        return client_context(ca=ca, certificate=certificate, key=key, names=names)
    except RecipeError as error:
        raise ClientError("; ".join(map(str, error.problems))) from error
