"""Choose the expert by shares of traffic, so that one who asks again gets the same one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from largeforge.errors import Problem, listed, nearest
from largeforge.gateway import identity
from largeforge.gateway.routing import Decision, Router
from largeforge.gateway.sticky import Division, Shares
from largeforge.recipe.base import Extension, Name
from largeforge.recipe.sections.routing import Sticky

if TYPE_CHECKING:
    from largeforge.gateway.request import Request
    from largeforge.gateway.routing import Services
    from largeforge.recipe.schema import Topology


class Config(Extension):
    """Route by weight."""

    name: Literal["weighted"] = "weighted"
    weights: dict[Name, Annotated[float, Field(ge=0)]] = {}
    """Part of the traffic by expert, beside the weights of the others; empty takes `weight` of each expert."""
    sticky: Sticky = "user"
    """Who always gets the same expert."""


class WeightedRouter(Router):
    """Experts by weight."""

    def __init__(self, config: Config, topology: Topology, services: Services):
        weights = _weights(config, topology)
        whole = sum(weights.values())
        self._shares = Shares(weights)
        self._division = Division("router weighted", topology.salt, services.random)
        self._sticky = config.sticky
        self._scores = {name: weight / whole for name, weight in weights.items()} if whole else {}
        self._decisions = {name: Decision(name, f"weighted:{share:.4g}") for name, share in self._scores.items()}

    def choose(self, request: Request) -> Decision | None:
        """Return the expert in whose share the one who asks stands."""
        place = self._division.place(identity.sticky(request, self._sticky))
        return self._decisions.get(self._shares.at(place))

    def scores(self, request: Request) -> dict[str, float]:
        """Return each expert's share."""
        return self._scores


def build(config: Config, topology: Topology, services: Services) -> WeightedRouter:
    """Return the router for a topology."""
    return WeightedRouter(config, topology, services)


def check(config: Config, topology: Topology) -> Iterator[Problem]:
    """Yield what is wrong with the weights beside a topology, with keys below the router."""
    for name in config.weights:
        if name not in topology.experts:
            rule = f"must be an expert of the topology: {listed(topology.experts)}."
            yield Problem(f"weights.{name}", rule, nearest=nearest(name, topology.experts))
    if not sum(_weights(config, topology).values()):
        yield Problem("weights", "are all 0: no expert would ever be chosen.")


def _weights(config: Config, topology: Topology) -> dict[str, float]:
    return dict(config.weights) or {name: expert.weight for name, expert in topology.experts.items()}
