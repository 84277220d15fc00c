"""Who asks: tenant, user and session of a request, as far as it says so.

Nothing here proves who somebody is: a header is as good as whoever sets it, so what stands before the gateway must
set or remove these where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.gateway.request import Request
    from largeforge.recipe.sections.routing import Sticky

TENANT = b"x-largeforge-tenant"
SESSION = b"x-largeforge-session"

MAX_CHARS = 256
"""More of a name is not looked at."""


def header(request: Request, name: bytes) -> str:
    """Return a header of a request by its name in lower case; empty when there is none."""
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")


def tenant(request: Request) -> str:
    """Return the tenant, empty when it is not said."""
    return header(request, TENANT)[:MAX_CHARS]


def session(request: Request) -> str:
    """Return the session, empty when it is not said."""
    return header(request, SESSION)[:MAX_CHARS]


def user(request: Request) -> str:
    """Return the end user as OpenAI's bodies name one, empty when it is not said."""
    found = request.payload.get("user") or request.payload.get("safety_identifier")
    return found[:MAX_CHARS] if isinstance(found, str) else ""


def sticky(request: Request, by: Sticky) -> str:
    """Return who must get the same each time, empty where that is nobody in particular."""
    if by == "user":
        return user(request) or session(request)
    if by == "session":
        return session(request) or user(request)
    return tenant(request) if by == "tenant" else ""
