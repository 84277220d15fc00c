"""Rollouts that can be carried out: of experts that there are, on hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's rollouts."""
    experts = recipe.topology.experts if recipe.topology else {}
    for name in recipe.rollout.experts:
        if name not in experts:
            rule = f"must be an expert of the topology: {listed(experts)}."
            yield Problem(f"rollout.experts.{name}", rule, nearest=nearest(name, experts))
    gradual = sorted({recipe.rollout.of(name).strategy for name in experts} - {"immediate"})
    if gradual and not any(not host.is_local for host in recipe.hosts.hosts.values()):
        rule = f"needs hosts to be rolled out on ({', '.join(gradual)}): give an inventory with hosts=NAME."
        yield Problem("rollout.strategy", rule)
