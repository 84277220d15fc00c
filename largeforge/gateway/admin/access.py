"""Who may operate the gateway: whoever has its token.

To come from this machine is not enough: so does all that a reverse proxy passes on, and a web page that has its own
name resolved to this machine.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from largeforge.errors import ServingError
from largeforge.gateway.errors import ApiError
from largeforge.operators import TOKEN_VARIABLE, keep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

logger = logging.getLogger(__name__)

LEAST_TOKEN_CHARS = 16


class Access:
    """Lets operators in; without a token there are none."""

    def __init__(self, token: str):
        self._expected = b"Bearer " + token.encode() if token else b""

    def check(self, scope: Scope) -> None:
        """Raise ApiError (401) when a request does not come from an operator."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not self._expected or not hmac.compare_digest(given, self._expected):
            message = f"Operating needs 'Authorization: Bearer …' with the gateway's {TOKEN_VARIABLE}."
            raise ApiError(401, message, code="no_token")


@contextmanager
def token_of(port: int, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Give the token of a gateway: that of the environment, or one that is kept for its user while the context lasts.

    Raises ServingError when the one of the environment is too short to keep anybody out.
    """
    if given := _given(environment):
        yield given
        return
    with ExitStack() as stack:
        try:
            token = stack.enter_context(keep(port))
        except OSError as error:
            logger.warning(
                "nobody can operate this gateway without %s: no token can be kept: %s", TOKEN_VARIABLE, error
            )
            token = ""
        yield token


def _given(environment: Mapping[str, str]) -> str:
    """Return the token of an environment, empty where there is none."""
    found = environment.get(TOKEN_VARIABLE, "")
    if 0 < len(found) < LEAST_TOKEN_CHARS or not found.isascii():
        raise ServingError(f"{TOKEN_VARIABLE} must have at least {LEAST_TOKEN_CHARS} characters, and only ASCII.")
    return found
