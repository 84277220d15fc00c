"""What a running gateway may take up from a recipe: how requests are routed, not which models are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError
from largeforge.gateway.config import GatewayFile
from largeforge.gateway.learning import as_before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Recipe, Topology

DEPLOYED = ("model", "task", "adapter_on", "replicas")
"""Settings of experts that only a deployment changes."""


def changed(served: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return the gateway file after a recipe's topology, router and gateway have taken over from those of a served one.

    Servers stay. Raises RecipeError where the recipe serves other models than the gateway does.
    """
    before = GatewayFile.model_validate(served)
    if recipe.topology is None or recipe.router is None:
        raise RecipeError([Problem("topology", "and router are what a gateway takes up; this recipe serves nothing.")])
    if problems := list(_not_deployed(recipe.topology, before.topology)):
        raise RecipeError(problems)
    file = before.model_copy(
        update={
            "topology": recipe.topology,
            "router": as_before(recipe.router, before.router),
            "gateway": recipe.served_gateway,
            "upstreams": {name: before.upstreams[name] for name in recipe.topology.experts},
        }
    )
    values: dict[str, Any] = file.model_dump(mode="json")
    return values


def _not_deployed(topology: Topology, before: Topology) -> Iterator[Problem]:
    rule = "is served by a deployment; run the recipe itself"
    for name, expert in topology.experts.items():
        if name not in before.experts:
            yield Problem(f"topology.experts.{name}", f"is not served by this gateway, and {rule}.")
            continue
        for key in DEPLOYED:
            given, served = getattr(expert, key), getattr(before.experts[name], key)
            if given != served:
                yield Problem(
                    f"topology.experts.{name}.{key}", f"was {served!r}; another one {rule}.", given=repr(given)
                )
