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

    @property
    def topology(self) -> Topology: ...
    @property
    def router(self) -> Router: ...
    @property
    def serving(self) -> Serving: ...
    @property
    def gateway(self) -> Gateway: ...
    @property
    def deploy(self) -> Deploy: ...
    @property
    def hosts(self) -> Hosts: ...
    @property
    def device(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def needs(self) -> dict[str, dict[str, Any]]: ...


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


def deployed_hosts(hosts: Hosts) -> list[str]:
    """Return the names of the hosts that servers may be put on."""
    return [
        name
        for name, host in hosts.hosts.items()
        if not host.is_local and (host.has_role("serve") or host.has_role("gateway"))
    ]


def gateway_hosts(hosts: Hosts) -> tuple[str, ...]:
    """Return the hosts with a gateway: those with that role, or else the first of those without any."""
    named = tuple(name for name, host in hosts.hosts.items() if "gateway" in host.roles and not host.is_local)
    return named or tuple(deployed_hosts(hosts)[:1])


def deployment_of(given: Given) -> str:
    """Return the name of the deployment."""
    return given.deploy.name or given.recipe.replace("_", "-")


def request(given: Given, host: str) -> dict[str, Any]:
    """Return what a host is asked to tell of itself (`remote/look.py`)."""
    paths = given.hosts.hosts[host].paths
    return {
        "root": paths.root, "state": paths.state, "logs": paths.logs, "deployment": deployment_of(given),
        "user": given.deploy.user,
    }  # fmt: skip


def url_of(given: Given) -> str:
    """Return the address at which this machine reaches the first gateway."""
    host = given.hosts.hosts[gateway_hosts(given.hosts)[0]]
    return f"http://{host.address}:{given.gateway.port}"
