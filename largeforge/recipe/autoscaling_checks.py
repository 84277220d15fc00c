"""Autoscaling that can be carried out: of replicas that are placed, and of experts that can be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest

if TYPE_CHECKING:
    from largeforge.recipe.schema import Expert, Recipe, Topology
    from largeforge.recipe.sections.autoscaling import Scaling


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's autoscaling."""
    settings = recipe.autoscaling
    if recipe.topology is None:
        if settings.enabled:
            yield Problem("autoscaling.enabled", "needs a topology: there is nothing to scale.")
        return
    servers = {name: expert for name, expert in recipe.topology.experts.items() if not expert.adapter_on}
    for name in settings.experts:
        if name not in servers:
            carrier = recipe.topology.experts[name].adapter_on if name in recipe.topology.experts else ""
            rule = f"is carried by the server of {carrier}: scale that one." if carrier else (
                f"is no expert; there is: {listed(sorted(servers))}.")  # fmt: skip
            yield Problem(f"autoscaling.experts.{name}", rule, nearest=nearest(name, servers))
    if not settings.enabled:
        return
    if recipe.export.name == "none" and all(host.is_local for host in recipe.hosts.hosts.values()):
        yield Problem("autoscaling.enabled", "needs hosts to scale on: give an inventory with hosts=NAME.")
    for name, expert in servers.items():
        prefix = f"autoscaling.experts.{name}" if name in settings.experts else "autoscaling"
        yield from _expert(prefix, name, expert, settings.of(name), recipe)


def _expert(prefix: str, name: str, expert: Expert, scaling: Scaling, recipe: Recipe) -> Iterator[Problem]:
    for key in ("min_replicas", "max_replicas"):
        if getattr(scaling, key) > expert.replicas and recipe.export.name == "none":
            rule = f"must be at most topology.experts.{name}.replicas = {expert.replicas}: so many are placed."
            yield Problem(f"{prefix}.{key}", rule, given=str(getattr(scaling, key)))
    if scaling.min_replicas or recipe.topology is None:
        return
    if others := _in_place_of(name, recipe.topology):
        rule = (
            f"lets {name} stop, and then {listed(others)} would answer in its place and nothing would start it again: "
            f"say topology.experts.{name}.fallback=[], or keep one replica."
        )
        yield Problem(f"{prefix}.min_replicas", rule)
    for key, longest in (("queue.wait_s", recipe.gateway.queue.wait_s), ("request_timeout_s", recipe.gateway.request_timeout_s)):  # fmt: skip # noqa: E501
        if longest < scaling.start_s:
            rule = (
                f"must be at least {prefix}.start_s = {scaling.start_s:g}: the request that starts {name} waits for it."
            )
            yield Problem(f"gateway.{key}", rule, given=f"{longest:g}")


def _in_place_of(name: str, topology: Topology) -> list[str]:
    """Return the experts of other servers that answer when the server of an expert, or of its adapters, is down."""
    here = {other for other, expert in topology.experts.items() if name in (other, expert.adapter_on)}
    found: dict[str, None] = {}
    for one in sorted(here):
        expert = topology.experts[one]
        usual = [topology.fallback] if expert.task == "generate" and topology.fallback in topology.experts else []
        found |= dict.fromkeys(usual if expert.fallback is None else expert.fallback)
    return [other for other in found if other not in here]
