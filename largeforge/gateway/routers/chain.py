"""Ask several routers one after the other: the first that is sure enough decides.

Cheap and certain routers stand first, those that ask a server last; no opinion of any goes to the fallback.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from largeforge.errors import Problem, listed, nearest
from largeforge.gateway.routing import Abstained, Decision, Opinion, Router
from largeforge.gateway.routing import build as built
from largeforge.recipe import extensions
from largeforge.recipe.base import Extension, Name
from largeforge.recipe.sections.routing import Share

if TYPE_CHECKING:
    from typing import TypeAlias

    from largeforge.gateway.request import Request
    from largeforge.gateway.routing import Services
    from largeforge.recipe.schema import Topology

    Member: TypeAlias = Extension
else:
    Member = extensions.union("router", without=("chain",))


class Config(Extension):
    """Route by the first of several routers that is sure enough."""

    name: Literal["chain"] = "chain"
    routers: dict[Name, Member] = {}
    """Routers by name, asked in this order: `- /router@router.routers.rules: rules` under defaults adds one."""
    order: list[str] = []
    """Another order in which they are asked, as names; empty for the one in which they stand."""
    thresholds: dict[str, Share] = {}
    """Least score that lets a router decide, by its name; 0 where there is none."""

    @model_validator(mode="before")
    @classmethod
    def _ordered(cls, values: Any) -> Any:
        """Write down the order in which the routers stand, since files of a run do not keep it."""
        if isinstance(values, dict) and isinstance(values.get("routers"), dict) and not values.get("order"):
            return {**values, "order": list(values["routers"])}
        return values


class ChainRouter(Router):
    """Routers in their order."""

    def __init__(self, members: Sequence[tuple[str, Router, float]]):
        self._members = list(members)

    @property
    def members(self) -> Sequence[tuple[str, Router, float]]:
        """The routers of the chain."""
        return self._members

    async def start(self) -> None:
        """Let all routers prepare themselves."""
        for _, router, _ in self._members:
            await router.start()

    async def stop(self) -> None:
        """Let all routers end."""
        for _, router, _ in self._members:
            await router.stop()

    def choose(self, request: Request) -> Opinion | Awaitable[Opinion]:
        """Return the first opinion whose score reaches its router's threshold."""
        return self._from(0, request, "")

    def choose_named(self, request: Request) -> Decision | None:
        """Return the first opinion on a model name that is no expert."""
        found = (router.choose_named(request) for _, router, _ in self._members)
        return next((opinion for opinion in found if opinion is not None), None)

    def _from(self, first: int, request: Request, notes: str) -> Opinion | Awaitable[Opinion]:
        for place in range(first, len(self._members)):
            _, router, threshold = self._members[place]
            opinion = router.choose(request)
            if inspect.isawaitable(opinion):
                return self._later(opinion, place, request, notes)
            if isinstance(opinion, Decision) and opinion.score >= threshold:
                return _noted(opinion, notes)
            notes = _further(notes, opinion)
        return Abstained(notes) if notes else None

    async def _later(self, asked: Awaitable[Opinion], place: int, request: Request, notes: str) -> Opinion:
        opinion = await asked
        if isinstance(opinion, Decision) and opinion.score >= self._members[place][2]:
            return _noted(opinion, notes)
        rest = self._from(place + 1, request, _further(notes, opinion))
        return await rest if inspect.isawaitable(rest) else rest


def build(config: Config, topology: Topology, services: Services) -> ChainRouter:
    """Return the router for a topology."""
    return ChainRouter(
        [
            (name, built(config.routers[name], topology, services), config.thresholds.get(name, 0.0))
            for name in config.order
        ]
    )


def check(config: Config, topology: Topology) -> Iterator[Problem]:
    """Yield what is wrong with the chain and its routers, with keys below the router."""
    if not config.routers:
        yield Problem("routers", "a chain has at least one: `- /router@router.routers.rules: rules` under defaults.")
    for key, named in (("order", config.order), ("thresholds", list(config.thresholds))):
        for name in named:
            if name not in config.routers:
                rule = f"must be one of the chain's routers: {listed(config.routers)}."
                yield Problem(key, rule, given=repr(name), nearest=nearest(name, config.routers))
    if config.order and (missing := [name for name in config.routers if name not in config.order]):
        yield Problem("order", f"leaves out {listed(missing)}: name all routers of the chain, or none.")
    for name, router in config.routers.items():
        module = extensions.load("router", router.name)
        for problem in getattr(module, "check", _nothing)(router, topology):
            yield replace(problem, key=f"routers.{name}.{problem.key}")


def _nothing(config: Extension, topology: Topology) -> Iterator[Problem]:
    yield from ()


def _further(notes: str, opinion: Opinion) -> str:
    if not isinstance(opinion, Abstained):
        return notes
    return f"{notes};{opinion.reason}" if notes else opinion.reason


def _noted(decision: Decision, notes: str) -> Decision:
    return decision._replace(reason=f"{decision.reason};{notes}") if notes else decision
