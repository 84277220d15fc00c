"""What divides traffic: routers, variants and shadows that fit the experts of a topology; and gates on routing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest
from largeforge.recipe import extensions, routing_files

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension
    from largeforge.recipe.schema import Gateway, Recipe, Topology

OVERALL = ("accuracy", "decided")
BY_EXPERT = ("recall", "precision")


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong between a recipe's topology, its router, and what routing must show."""
    routing, topology = recipe.routing, recipe.topology
    if topology is None:
        if routing_files.named(routing):
            yield Problem("routing", "needs a topology whose experts requests go to; choose one with +topology=…")
        return
    if recipe.router is not None:
        yield from of_topology(topology, recipe.router)
        yield from of_judge(topology, recipe.gateway)
        yield from _learnt(recipe)
    yield from _gates(recipe, topology)
    for field in ("path", "heldout_path"):
        given = getattr(routing, field)
        for name in given if isinstance(given, dict) else ():
            if name not in topology.experts:
                yield _no_expert(f"routing.{field}.{name}", name, topology)


def of_topology(topology: Topology, router: Extension) -> Iterator[Problem]:
    """Yield what is wrong with a router, with variants and with shadows, beside the experts of a topology."""
    for name, expert in topology.experts.items():
        key = f"topology.experts.{name}"
        for variant in expert.variants:
            if variant not in topology.experts or variant == name:
                yield _no_expert(f"{key}.variants.{variant}", variant, topology)
            elif topology.experts[variant].task != expert.task:
                yield Problem(f"{key}.variants.{variant}", f"has another task than {name}, which is to {expert.task}.")
            elif topology.experts[variant].variants:
                yield Problem(f"{key}.variants.{variant}", f"expert {variant} has variants of its own.")
        if (whole := sum(expert.variants.values())) > 1 + 1e-9:
            yield Problem(f"{key}.variants", f"have shares of {whole:g} in all, and there is no more than 1.")
        if expert.shadow and (expert.shadow.expert not in topology.experts or expert.shadow.expert == name):
            yield _no_expert(f"{key}.shadow.expert", expert.shadow.expert, topology)
    module = extensions.load("router", router.name)
    for problem in getattr(module, "check", _nothing)(router, topology):
        yield replace(problem, key=f"router.{problem.key}")


def of_judge(topology: Topology, gateway: Gateway) -> Iterator[Problem]:
    """Yield what is wrong with the expert that judges answers."""
    key, expert = "gateway.quality.judge.expert", gateway.quality.judge.expert
    if expert and expert not in topology.experts:
        yield _no_expert(key, expert, topology)
    elif expert and topology.experts[expert].task != "generate":
        yield Problem(key, f"cannot judge: its task is to {topology.experts[expert].task}.", given=expert)


def _learnt(recipe: Recipe) -> Iterator[Problem]:
    """Check that routers that learn have something to learn from."""
    for key, router in routing_files.routers(recipe.router):
        needs = getattr(extensions.load("router", router.name), "train", None) and not getattr(router, "path", "")
        if needs and not routing_files.paths(recipe.routing.path):
            rule = f"router {router.name} learns from routed requests: name their files here, or what it learnt before"
            yield Problem("routing.path", f"{rule} in {key}.path.", given="[]")


def _gates(recipe: Recipe, topology: Topology) -> Iterator[Problem]:
    gates = recipe.routing.gates
    allowed = [*OVERALL, *(f"{metric}.{name}" for metric in BY_EXPERT for name in topology.experts)]
    for metric in gates:
        if metric not in allowed:
            rule = f"no such metric of routing; there is: {listed(allowed)}."
            yield Problem(f"routing.gates.{metric}", rule, nearest=nearest(metric, allowed))
    if gates and not routing_files.paths(recipe.routing.heldout_path):
        yield Problem("routing.heldout_path", "is required: gates on routing are judged by its requests.", given="[]")


def _no_expert(key: str, name: str, topology: Topology) -> Problem:
    rule = f"must be another expert of the topology: {listed(topology.experts)}."
    return Problem(key, rule, nearest=nearest(name, topology.experts))


def _nothing(config: Extension, topology: Topology) -> Iterator[Problem]:
    yield from ()
