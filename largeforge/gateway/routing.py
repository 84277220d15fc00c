"""Decide which expert answers: the name in `model`, the router, or the fallback.

Pure: knows nothing of sockets or health; whether the chosen expert is alive is `proxy.py`'s
concern. Imports only the standard library, so that router modules can be validated anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from largeforge.gateway.request import AUTO

if TYPE_CHECKING:
    from collections.abc import Container

    from largeforge.gateway.request import Request

Fallback = Literal["", "unknown-model", "expert-down"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a router chose, and why, in the form that `x-largeforge-route` shows."""

    expert: str
    reason: str


class Router(Protocol):
    """Chooses an expert for a request that names none; called on the event loop, so it must be quick."""

    def choose(self, request: Request) -> Decision:
        """Return the expert for `request`; never raises."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: the expert, why, the name asked for, and whether that is a fallback."""

    expert: str
    reason: str
    requested: str
    fallback: Fallback = ""


def resolve(request: Request, *, experts: Container[str], fallback: str, router: Router) -> Route:
    """Return the route of `request`; an unknown model name goes to `fallback` and says so."""
    if request.model == AUTO:
        decision = router.choose(request)
        return Route(decision.expert, decision.reason, decision.expert)
    if request.model in experts:
        return Route(request.model, "model", request.model)
    return Route(fallback, "default", request.model, fallback="unknown-model")
