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
    servers = {name: expert for name, expert in experts.items() if not expert.adapter_on}
    for name in recipe.rollout.experts:
        carrier = experts[name].adapter_on if name in experts else ""
        if carrier:
            rule = (
                f"is carried by the server of {carrier}: say rollout.experts.{carrier}, they are rolled out together."
            )
            yield Problem(f"rollout.experts.{name}", rule)
        elif name not in servers:
            rule = f"must be an expert of the topology: {listed(sorted(servers))}."
            yield Problem(f"rollout.experts.{name}", rule, nearest=nearest(name, servers))
    gradual = sorted({recipe.rollout.of(name).strategy for name in servers} - {"immediate"})
    if gradual and not any(not host.is_local for host in recipe.hosts.hosts.values()):
        rule = f"needs hosts to be rolled out on ({', '.join(gradual)}): give an inventory with hosts=NAME."
        yield Problem("rollout.strategy", rule)
