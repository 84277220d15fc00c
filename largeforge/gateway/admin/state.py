"""What operators have set on a running gateway: its mode, who is isolated, which servers are drained.

The state is a small JSON document. Its words are changed by a JSON merge patch (RFC 7396): what is given is set, null
takes away, everything else stays.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from largeforge.gateway.admin.rollout_view import RolloutView, Share
from largeforge.gateway.errors import bad_request
from largeforge.recipe.base import Name, Strict

Mode = Literal["normal", "high_load", "degraded", "maintenance"]
MODES: tuple[Mode, ...] = ("normal", "high_load", "degraded", "maintenance")

Reason = Annotated[str, Field(max_length=500)]
Tenant = Annotated[str, Field(min_length=1, max_length=256)]
MOST_ENTRIES = 1000
"""Most experts, tenants or servers that are isolated or drained at once."""
MOST_ROLLOUTS = 100
"""Most rollouts that are told of at once."""


class State(Strict):
    """What is in force beside the topology."""

    mode: Mode = "normal"
    """`normal`; `high_load` leaves out what nobody waits for: shadows, hedges, batches, judging; `degraded` asks no
    router: what names no expert goes to the fallback expert; `maintenance` refuses new requests and finishes old ones.
    """
    reason: Reason = ""
    """Why, in words for people; clients that are refused in maintenance read it."""
    retry_after_s: float = Field(default=30.0, gt=0, le=86_400)
    """When clients that are refused in maintenance are told to come again."""
    experts: dict[Name, Reason] = Field(default={}, max_length=MOST_ENTRIES)
    """Experts that are isolated, with the reason: running answers are broken off, others answer in their place."""
    tenants: dict[Tenant, Reason] = Field(default={}, max_length=MOST_ENTRIES)
    """Tenants that are isolated, with the reason: their running answers are broken off, new requests refused."""
    drained: dict[str, Reason] = Field(default={}, max_length=MOST_ENTRIES)
    """Addresses of servers that get no new requests, with the reason; what they answer already is finished."""

    canaries: dict[Name, Share] = Field(default={}, max_length=MOST_ENTRIES)
    """Share of an expert's requests that its canary answers, from 0 to 1; nothing by default."""
    shadows: dict[Name, Share] = Field(default={}, max_length=MOST_ENTRIES)
    """Share of an expert's requests that its canary gets copies of; stable answers, and both answers are compared."""
    guarded: dict[Name, Reason] = Field(default={}, max_length=MOST_ENTRIES)
    """Experts whose canary the gateway itself took out, with the reason; none gets a share before this is taken
    away."""
    rollouts: dict[Name, RolloutView] = Field(default={}, max_length=MOST_ROLLOUTS)
    """What controllers tell of rollouts, by expert."""

    @property
    def is_emergency(self) -> bool:
        """Whether somebody is isolated."""
        return bool(self.experts or self.tenants)

    @property
    def spares(self) -> bool:
        """Whether work that nobody waits for is left out."""
        return self.mode != "normal"

    @property
    def in_force(self) -> str:
        """The mode in one word: `emergency` while somebody is isolated, unless nothing is answered anyway."""
        return "emergency" if self.is_emergency and self.mode != "maintenance" else self.mode


def patched(state: State, patch: Any) -> State:
    """Return the state after a merge patch.

    Raises ApiError (400) that names the first key which is wrong.
    """
    if not isinstance(patch, dict):
        bad_request("The patch must be a JSON object.", code="invalid_type")
    try:
        return State.model_validate(merged(state.model_dump(), patch))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in details["loc"])
        is_top = details["type"] == "extra_forbidden" and len(details["loc"]) == 1
        known = f"; there is: {', '.join(State.model_fields)}" if is_top else ""
        bad_request(f"'{key}': {details['msg']}{known}.", key)


def merged(target: Any, patch: Any) -> Any:
    """Return a JSON document after a merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
