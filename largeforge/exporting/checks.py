"""What of a recipe cannot be exported, all at once and before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from largeforge.errors import Problem
from largeforge.exporting import models, names
from largeforge.recipe import model_ref, routing_files

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe

DECIDED = {
    "host": "servers listen on all addresses of their container",
    "port": "servers listen on port 8000",
    "uds": "the gateway calls servers over TCP",
    "api-key": "a key does not belong into a recipe, and only the gateway reaches the servers",
    "ssl-keyfile": "the gateway calls servers without TLS of their own; a mesh encrypts (export.mesh)",
    "ssl-certfile": "the gateway calls servers without TLS of their own; a mesh encrypts (export.mesh)",
    "root-path": "the gateway calls servers at /v1",
}
"""Options of vLLM that an export decides, and why."""
VOLUMES = {"kubernetes": "models_claim", "compose": "models_folder"}
"""Option that names where models are that are on no hub, by exporter."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield every problem."""
    if recipe.topology is None or recipe.router is None:
        yield Problem("export", "needs a topology to export; choose one with +topology=…", given=recipe.export.name)
        return
    yield from _models(recipe)
    yield from _names(recipe)
    yield from _router(recipe)
    for key in recipe.serving.extra.keys() & DECIDED.keys():
        yield Problem(f"serving.extra.{key}", f"cannot be exported: {DECIDED[key]}.")
    host = urlsplit(recipe.gateway.tracing.endpoint).hostname or ""
    if host in _LOOPBACK:
        rule = "in a container that is the container itself; give the collector's address there."
        yield Problem("gateway.tracing.endpoint", rule, given=repr(recipe.gateway.tracing.endpoint))
    if recipe.export.name == "kubernetes":
        yield from _kubernetes(recipe)


def _models(recipe: Recipe) -> Iterator[Problem]:
    assert recipe.topology is not None
    option = VOLUMES.get(recipe.export.name, "")
    for name, expert in recipe.topology.experts.items():
        text = models.reference(recipe, name)
        key = f"topology.experts.{name}.model" if ":" in expert.model else f"models.{expert.model}.ref"
        scheme = model_ref.parse(text).scheme
        if scheme == "tiny":
            yield Problem(key, "cannot be exported: it has no files until a job makes them.", given=repr(text))
        elif scheme != "hub" and not getattr(recipe.export, option, ""):
            rule = (
                f"is on this machine, and nothing can download it. Use a hub: reference, or put its files into the "
                f"folder {name} of a volume and name that in export.{option}."
            )
            yield Problem(key, rule, given=repr(text))


def _names(recipe: Recipe) -> Iterator[Problem]:
    assert recipe.topology is not None
    for name, expert in recipe.topology.experts.items():
        if not expert.adapter_on:
            try:
                names.server(name)
            except ValueError as error:
                yield Problem(f"topology.experts.{name}", f"{error}.")


def _router(recipe: Recipe) -> Iterator[Problem]:
    for key, router in routing_files.routers(recipe.router):
        if hasattr(router, "path"):
            rule = "cannot be exported: what it learnt is a file of this machine. Choose a router that learns nothing."
            yield Problem(key, rule, given=router.name)


def _kubernetes(recipe: Recipe) -> Iterator[Problem]:
    assert recipe.topology is not None
    options: Any = recipe.export
    try:
        names.label(options.namespace or recipe.name)
    except ValueError as error:
        yield Problem("export.namespace", f"is required: the recipe's name is too long: {error}.")
    if options.autoscaling != "none":
        for name, expert in recipe.topology.experts.items():
            if expert.replicas > options.max_replicas:
                rule = f"must be at least the {expert.replicas} replicas of {name}."
                yield Problem("export.max_replicas", rule, given=str(options.max_replicas))
    if options.autoscaling == "keda" and not options.prometheus_url:
        yield Problem("export.prometheus_url", "is required with export.autoscaling=keda.")
    if recipe.gateway.batches.folder and not options.gateway_storage_gib:
        yield Problem("export.gateway_storage_gib", "is required with gateway.batches.folder: batches need a volume.")
    if options.gateway_storage_gib and options.gateway_replicas > 1:
        rule = "must be 1 with export.gateway_storage_gib: one pod has the volume."
        yield Problem("export.gateway_replicas", rule, given=str(options.gateway_replicas))
