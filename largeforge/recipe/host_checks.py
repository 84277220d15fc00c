"""Which hosts a recipe may name, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe

_LOOPBACK = ("localhost", "127.", "[::1]", "::1")


def check(recipe: Recipe) -> Iterator[Problem]:
    """Return what is wrong with the inventory for what the recipe does."""
    hosts = recipe.hosts.hosts
    if recipe.topology and any(not host.is_local for host in hosts.values()):
        yield from _deployment(recipe)
    if recipe.launcher.name == "multi_node" and recipe.training_jobs:
        yield from _training_hosts(recipe)
        return
    for name, host in hosts.items():
        if not host.is_local and recipe.mode == "run" and recipe.training_jobs and host.has_role("train"):
            rule = "training on other hosts takes launcher=multi_node; otherwise use hosts=local, or mode=plan."
            yield Problem(f"hosts.hosts.{name}.address", rule, given=repr(host.address))


def _deployment(recipe: Recipe) -> Iterator[Problem]:
    """Yield what keeps a deployment from being asked what the recipe asks, and rules for experts that there are not."""
    asks = bool(recipe.verify.questions) or recipe.load_test is not None
    if asks and recipe.gateway.host.startswith(_LOOPBACK):
        rule = "the gateway is asked from this machine, which does not reach a host's loopback: 0.0.0.0, or its address."
        yield Problem("gateway.host", rule, given=repr(recipe.gateway.host))
    assert recipe.topology is not None
    for name in recipe.deploy.placing.keys() - recipe.topology.experts.keys():
        near = nearest(name, recipe.topology.experts)
        rule = f"no such expert; there is: {listed(recipe.topology.experts)}."
        yield Problem(f"deploy.placing.{name}", rule, nearest=near)


def _training_hosts(recipe: Recipe) -> Iterator[Problem]:
    hosts = {name: host for name, host in recipe.hosts.hosts.items() if not host.roles or "train" in host.roles}
    if not hosts:
        yield Problem("hosts.hosts", "none of them is for training (roles: [train]).")
    several = any(not host.is_local for host in hosts.values())
    for name, host in hosts.items():
        if several and host.is_local and not host.internal_address:
            rule = "is required beside other hosts: the address of this machine at which they reach it."
            yield Problem(f"hosts.hosts.{name}.internal_address", rule)
        elif several and host.reached_at.startswith(_LOOPBACK):
            key = "internal_address" if host.internal_address else "address"
            rule = "other hosts do not reach it there: their loopback is their own."
            yield Problem(f"hosts.hosts.{name}.{key}", rule, given=repr(host.reached_at))
