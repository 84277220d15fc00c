"""From a recipe and what hosts say of themselves to what they should have: seats by the estimate, interpreters, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from largeforge.deploy.desired import Seat, Wanted
from largeforge.deploy.models import files_of
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from largeforge.recipe.schema import Deploy, Gateway, Hosts, Router, Serving, Topology
    from largeforge.serving.placement import Placement, ServedExpert


class Given(Protocol):
    """What a deployment is given: the sections of the recipe."""

    topology: Topology
    router: Router
    serving: Serving
    gateway: Gateway
    deploy: Deploy
    hosts: Hosts
    device: Any
    recipe: str
    needs: dict[str, dict[str, Any]]


def wanted_of(
    given: Given,
    experts: Sequence[ServedExpert],
    places: Sequence[Placement],
    looks: Mapping[str, Mapping[str, Any]],
    *,
    expected: Mapping[str, Mapping[str, Any]],
    lock: str,
) -> Wanted:
    """Return what hosts should have."""
    from largeforge.stages.deploy import deployed_hosts, deployment_of, gateway_hosts

    names = deployed_hosts(given.hosts)
    servers = [name for name in names if given.hosts.hosts[name].has_role("serve")]
    if not servers:
        raise DeployError("hosts: none is for model servers (roles: [serve])")
    seats = {place.label: Seat(servers[index % len(servers)]) for index, place in enumerate(places)}
    return Wanted(
        deploy=given.deploy, deployment=deployment_of(given), topology=given.topology, router=given.router,
        serving=given.serving, gateway=given.gateway, device=given.device,
        hosts={name: given.hosts.hosts[name] for name in names}, gateways=gateway_hosts(given.hosts),
        placements=places, seats=seats,
        models={expert.name: files_of(Path(expert.location)) for expert in experts if expert.is_local},
        pythons={name: given.hosts.hosts[name].python for name in names}, expected=expected, lock=lock,
        recipe=given.recipe,
    )  # fmt: skip
