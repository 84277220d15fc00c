"""Decide which expert answers: the name in `model`, the router, or the fallback; then its variant and its shadow.

Knows nothing of sockets or health: whether the chosen expert is alive is `proxy.py`'s concern.

A reason is short, has no word of the request, and is for programs: `router:detail` of what decided (`keyword:order`,
`classifier:0.97`, `model`, `default`), then further facts after semicolons (`variant:support-next`).
"""

from __future__ import annotations

import inspect
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from largeforge.gateway import identity
from largeforge.gateway.flags import Flags
from largeforge.gateway.limits import Limits
from largeforge.gateway.request import AUTO
from largeforge.gateway.sticky import Division, Shares
from largeforge.recipe import extensions

if TYPE_CHECKING:
    from largeforge.gateway.request import Request
    from largeforge.recipe.base import Extension
    from largeforge.recipe.schema import Topology

Fallback = Literal["", "unknown-model", "expert-down", "degraded"]

MAX_REASON = 160
"""Longest reason in characters."""
_BY = re.compile("[:;]")


class Decision(NamedTuple):
    """What a router chose, and why, in the form that `x-largeforge-route` shows."""

    expert: str
    reason: str
    score: float = 1.0
    """How sure the router is, from 0 to 1; a chain compares it with a threshold."""
    shadow: str = ""
    """Expert that is also asked, and whose answer is thrown away."""


@dataclass(frozen=True, slots=True)
class Abstained:
    """A router has no opinion for a reason that is worth saying, such as a server that does not answer."""

    reason: str


Opinion = Decision | Abstained | None
"""None is no opinion, without anything to say about it."""


class ServiceFailed(Exception):
    """A server that a router asks gave no usable answer; the message is one word or two."""


async def _nobody(server: str, path: str, body: Mapping[str, Any]) -> Any:
    raise ServiceFailed("no-server")


@dataclass(frozen=True)
class Services:
    """What routers may use beside the topology; the gateway and the evaluation of routing each make one."""

    post_json: Callable[[str, str, Mapping[str, Any]], Awaitable[Any]] = _nobody
    """Sends JSON to a server, an expert's by its name or one by its address, at a path such as `/v1/embeddings`, and
    returns the JSON of its answer. For an expert it fills in `model`. Raises ServiceFailed, and has no time limit."""
    count: Callable[[str, str], None] = lambda router, outcome: None
    """Counts what became of a router's work: router, then one word."""
    decided: Callable[[str, str], None] = lambda by, expert: None
    """Counts where requests go: what decided (`model`, `default`, or a router), and the expert."""
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    kept: MutableMapping[Any, Any] = field(default_factory=dict)
    """What routers keep from one topology to the next, such as the vectors of examples."""


class Router:
    """Chooses an expert for a request that names none; called on the event loop, so it must be quick."""

    def choose(self, request: Request) -> Opinion | Awaitable[Opinion]:
        """Return the opinion on `request`; never raises. Only a router that asks a server returns an awaitable."""
        raise NotImplementedError

    def choose_named(self, request: Request) -> Decision | None:
        """Return the opinion on a request that names a model which is no expert; never raises."""
        return None

    def scores(self, request: Request) -> dict[str, float] | Awaitable[dict[str, float]]:
        """Return what speaks for each expert, from 0 to 1, for people who ask why; empty where nothing does."""
        return {}

    @property
    def members(self) -> Sequence[tuple[str, Router, float]]:
        """Routers that this one consists of, with the least score that lets each decide."""
        return ()

    async def start(self) -> None:
        """Do what needs a server and is better done before the first request; never raises."""

    async def stop(self) -> None:
        """End what still goes on; there are no requests any more."""


class Route(NamedTuple):
    """Where a request goes: the expert, why, the name asked for, and whether that is a fallback."""

    expert: str
    reason: str
    requested: str
    fallback: Fallback = ""
    score: float = 1.0
    shadow: str = ""
    """Expert that is also asked, and whose answer is thrown away; empty for none."""


class Routing:
    """All that decides where requests go, for one topology."""

    def __init__(self, topology: Topology, router: Router, services: Services | None = None):
        services = services or Services()
        self._topology = topology
        self._router = router
        self._named = {name: Route(name, "model", name) for name in topology.experts}
        self._fallback = topology.fallback
        self._limits = Limits(topology)
        self._flags = Flags(topology, services.random)
        self._sticky = topology.sticky
        self._decided = services.decided
        self._variants = {
            name: (Shares(expert.variants, whole=1.0), Division(f"variants {name}", topology.salt, services.random))
            for name, expert in topology.experts.items()
            if expert.variants
        }
        self._shadows = {
            name: (expert.shadow, Division(f"shadow {name}", topology.salt, services.random))
            for name, expert in topology.experts.items()
            if expert.shadow
        }

    async def start(self) -> None:
        """Let the router prepare itself; never raises."""
        await self._router.start()

    async def stop(self) -> None:
        """Let the router end what it still does."""
        await self._router.stop()

    async def route(self, request: Request, *, asks: bool = True) -> Route:
        """Return where a request goes; an unknown model name goes to the fallback and says so.

        Where it `asks` no router, what names no expert goes to the fallback.
        """
        route = await self._route(request, asks)
        self._decided(_BY.split(route.reason, 1)[0], route.expert)
        return route

    async def _route(self, request: Request, asks: bool) -> Route:
        if named := self._named.get(request.model):
            return self._divided(named, request)
        if not asks:
            return Route(self._fallback, "degraded", request.model, fallback="degraded")
        if request.model != AUTO:
            return self._divided(self._unknown(request), request)
        opinion = self._router.choose(request)
        if not isinstance(opinion, Decision) and inspect.isawaitable(opinion):
            opinion = await opinion
        return self._divided(self._within(routed(opinion, fallback=self._fallback), request), request)

    async def explain(self, request: Request, *, asks: bool = True) -> dict[str, Any]:
        """Return the route of a request with all that led to it, as plain data; nothing is generated."""
        route = await self._route(request, asks)
        scores = self._router.scores(request)
        return {
            "expert": route.expert,
            "reason": route.reason,
            "score": round(route.score, 4),
            "requested": route.requested,
            "fallback": route.fallback,
            "shadow": route.shadow,
            "scores": _rounded(await scores if inspect.isawaitable(scores) else scores),
            "routers": [await _asked(*member, request) for member in self._router.members],
            "flags": self._flags.on(request),
        }

    def _within(self, route: Route, request: Request) -> Route:
        """Return the route to an expert that takes such a request, where the chosen one does not."""
        expert, reason = self._limits.within(route.expert, request)
        if not reason:
            return route
        return Route(expert, f"{route.reason};{reason}"[:MAX_REASON], route.expert, score=route.score)

    def _unknown(self, request: Request) -> Route:
        """Return the route of a request that names a model which is no expert."""
        if decision := self._router.choose_named(request):
            return routed(decision, fallback=self._fallback)
        return Route(self._fallback, "default", request.model, fallback="unknown-model")

    def _divided(self, route: Route, request: Request) -> Route:
        """Return a route with the variant that answers in the expert's place, and with the shadow of who answers."""
        expert, shadow = route.expert, route.shadow
        if not (self._variants or self._shadows or shadow):
            return route
        who, reason = identity.sticky(request, self._sticky), route.reason
        if expert in self._variants and not route.fallback:
            shares, division = self._variants[expert]
            if variant := shares.at(division.place(who)):
                expert, reason = variant, f"{reason};variant:{variant}"
        if expert in self._shadows and not shadow:
            wanted, division = self._shadows[expert]
            shadow = wanted.expert if division.place(who) < wanted.share else ""
        if expert == route.expert:
            return Route(expert, reason, route.requested, route.fallback, route.score, shadow)
        return Route(expert, reason[:MAX_REASON], expert, route.fallback, route.score, shadow)


def routed(opinion: Opinion, *, fallback: str) -> Route:
    """Return the route that follows from a router's opinion."""
    if isinstance(opinion, Decision):
        reason = opinion.reason[:MAX_REASON]
        return Route(opinion.expert, reason, opinion.expert, score=opinion.score, shadow=opinion.shadow)
    reason = "default" if opinion is None else f"default;{opinion.reason}"[:MAX_REASON]
    return Route(fallback, reason, fallback, score=0.0)


def build(config: Extension, topology: Topology, services: Services) -> Router:
    """Return the router that a section of a recipe names."""
    built: Router = extensions.load("router", config.name).build(config, topology, services)
    return built


def routing_of(config: Extension, topology: Topology, services: Services) -> Routing:
    """Return all that decides where requests go, from the sections of a recipe."""
    return Routing(topology, build(config, topology, services), services)


async def _asked(name: str, router: Router, threshold: float, request: Request) -> dict[str, Any]:
    """Return what one router of a chain says, whether or not it was its turn."""
    opinion, scores = router.choose(request), router.scores(request)
    opinion = await opinion if inspect.isawaitable(opinion) else opinion
    said: dict[str, Any] = {"router": name, "threshold": threshold}
    if isinstance(opinion, Decision):
        said |= {"expert": opinion.expert, "reason": opinion.reason, "score": round(opinion.score, 4)}
        said["decides"] = opinion.score >= threshold
    else:
        said |= {"expert": "", "reason": opinion.reason if opinion else "", "score": 0.0, "decides": False}
    return {**said, "scores": _rounded(await scores if inspect.isawaitable(scores) else scores)}


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return {name: round(float(score), 4) for name, score in ordered}
