"""Which hosts a recipe may name, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest

if TYPE_CHECKING:
    from largeforge.recipe.schema import Host, Recipe, Topology

COMPUTED = ("init", "train", "evaluate", "merge", "quantize", "parity")
"""Kinds of stages that run on hosts for training; the others are short, or belong to this machine."""
OWN_PARTS = ("alertmanager", "gateway", "gpus", "hooks", "logs", "metrics", "node", "prometheus", "textfile")
"""Parts that a deployment has on its hosts besides its model servers, by the names of their folders and logs."""
_LOOPBACK = ("localhost", "127.", "[::1]", "::1")


def training_hosts(recipe: Recipe) -> dict[str, Host]:
    """Return the hosts of the inventory that stages are run on; none where this machine runs them."""
    if recipe.launcher.name in ("slurm", "ray") or not recipe.training_jobs:
        return {}
    return recipe.hosts.for_training()


def check(recipe: Recipe) -> Iterator[Problem]:
    """Return what is wrong with the inventory for what the recipe does."""
    if recipe.topology and any(not host.is_local for host in recipe.hosts.hosts.values()):
        yield from _deployment(recipe)
    if not recipe.training_jobs:
        return
    if recipe.launcher.name == "multi_node":
        yield from _training_together(recipe)
    if training_hosts(recipe):
        yield from _planned_for(recipe)
    elif recipe.hosts.queue.labels:
        yield Problem("hosts.queue.labels", "no host for training has them.", given=str(recipe.hosts.queue.labels))


def _planned_for(recipe: Recipe) -> Iterator[Problem]:
    """Return what the plan would take from this machine, although the training runs on another."""
    hardware, hosts = recipe.hardware, ", ".join(training_hosts(recipe))
    if hardware.device == "auto":
        yield _of_this_machine(recipe, f"the training runs on {hosts}")
        return
    if hardware.device == "cuda" and not hardware.num_gpus:
        rule = f"is required for a training on {hosts}: how many GPUs of a host it takes."
        yield Problem("hardware.num_gpus", rule)
    if hardware.device == "cpu" and not hardware.memory_gib:
        yield Problem("hardware.memory_gib", f"is required for a training on {hosts}: the memory of one of them.")
    if not hardware.cores:
        yield Problem("hardware.cores", f"is required for a training on {hosts}: how many cores of a host it uses.")


def _of_this_machine(recipe: Recipe, what: str) -> Problem:
    rule = f"reads this machine, and {what}: name what is there, such as hardware=cpu or a GPU of conf/hardware/."
    return Problem("hardware", rule, given=recipe.hardware.name)


def _deployment(recipe: Recipe) -> Iterator[Problem]:
    """Yield what keeps a deployment from being asked what the recipe asks, and rules for experts that there are not."""
    asks = bool(recipe.verify.questions) or recipe.load_test is not None
    if asks and recipe.gateway.host.startswith(_LOOPBACK):
        rule = (
            "the gateway is asked from this machine, which does not reach a host's loopback: 0.0.0.0, or its address."
        )
        yield Problem("gateway.host", rule, given=repr(recipe.gateway.host))
    servers = [name for name, host in recipe.hosts.hosts.items() if not host.is_local and host.has_role("serve")]
    if servers and recipe.hardware.device == "auto" and not training_hosts(recipe):
        yield _of_this_machine(recipe, f"the servers run on {listed(servers, 5)}")
    yield from _tls(recipe)
    assert recipe.topology is not None
    yield from _server_names(recipe.topology)
    for name in recipe.deploy.placing.keys() - recipe.topology.experts.keys():
        near = nearest(name, recipe.topology.experts)
        rule = f"no such expert; there is: {listed(recipe.topology.experts)}."
        yield Problem(f"deploy.placing.{name}", rule, nearest=near)


def _server_names(topology: Topology) -> Iterator[Problem]:
    """Yield experts whose server would have the name of something else of the deployment."""
    servers = {name: expert.replicas for name, expert in topology.experts.items() if not expert.adapter_on}
    replicas = {f"{name}-{number}": name for name, count in servers.items() for number in range(2, count + 1)}
    for name in servers:
        key = f"topology.experts.{name}"
        if name in OWN_PARTS:
            rule = f"is what a part of every deployment is called on hosts; any name but {listed(OWN_PARTS)} will do."
            yield Problem(key, rule, given=f"'{name}'")
        if base := replicas.get(name):
            taken = listed(f"{base}-{number}" for number in range(2, servers[base] + 1))
            rule = f"is what a replica of {base} is called on hosts; with topology.experts.{base}.replicas = "
            rule += f"{servers[base]} any name but {taken} will do."
            yield Problem(key, rule, given=f"'{name}'")


def _tls(recipe: Recipe) -> Iterator[Problem]:
    """Yield what of TLS a deployment cannot do."""
    given = recipe.gateway.tls
    if given.client_ca:
        rule = "a deployment's own host would be refused by its gateway; leave it out, or deploy without it."
        yield Problem("gateway.tls.client_ca", rule, given=repr(given.client_ca))
    if given.certificate and recipe.deploy.tls.clients == "self_made":
        yield Problem("deploy.tls.clients", "gateway.tls.certificate names another certificate.", given="'self_made'")
    for key, path in (("tls.certificate", given.certificate), ("tls.key", given.key)):
        if path and not path.startswith("/"):
            yield Problem(f"gateway.{key}", "is a file on the hosts: give its whole path.", given=repr(path))


def _training_together(recipe: Recipe) -> Iterator[Problem]:
    """Return what keeps the hosts of an inventory from training together."""
    if not any(host.has_role("train") for host in recipe.hosts.hosts.values()):
        yield Problem("hosts.hosts", "none of them is for training (roles: [train]).")
    hosts = training_hosts(recipe)
    for name, host in recipe.hosts.hosts.items():
        if hosts and host.is_local and host.has_role("train"):
            rule = "trains with others only as one of them, over ssh: give its address and not `local`."
            yield Problem(f"hosts.hosts.{name}.address", rule, given="'local'")
    for name, host in hosts.items():
        if len(hosts) > 1 and host.reached_at.startswith(_LOOPBACK):
            key = "internal_address" if host.internal_address else "address"
            rule = "other hosts do not reach it there: their loopback is their own."
            yield Problem(f"hosts.hosts.{name}.{key}", rule, given=repr(host.reached_at))
