"""From a recipe and what hosts say of themselves to what they should have.

Seats by the estimate, interpreters, models.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

from largeforge.deploy import monitored, present, room
from largeforge.deploy.content import Content, HubContent, files_of
from largeforge.deploy.desired import Wanted
from largeforge.deploy.environments import HostPython, of_host
from largeforge.deploy.monitored import Monitored
from largeforge.deploy.secret_refs import fetch, within
from largeforge.deploy.service import Layout
from largeforge.deploy.tls import certificate_of
from largeforge.errors import DeployError
from largeforge.placing import Demand, Gpu, HostCapacity, Placing, Seat
from largeforge.placing import place as place_servers
from largeforge.recipe import hub, model_ref

if TYPE_CHECKING:
    from largeforge.recipe.schema import (
        Autoscaling,
        Deploy,
        Gateway,
        Host,
        Hosts,
        Monitoring,
        Rollout,
        Router,
        Serving,
        Slo,
        Topology,
    )
    from largeforge.serving.placement import Placement, ServedExpert


GIB = 2**30
CPU_SHARE = 0.9
"""Part of a host's memory that servers on its CPU may take; the rest is the system's and the gateway's."""


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
    @property
    def monitoring(self) -> Monitoring: ...
    @property
    def slo(self) -> Slo: ...
    @property
    def price_usd(self) -> float: ...
    @property
    def rollout(self) -> Rollout: ...
    @property
    def aliases(self) -> dict[str, str]: ...
    @property
    def autoscaling(self) -> Autoscaling: ...


def wanted_of(
    given: Given,
    experts: Sequence[ServedExpert],
    places: Sequence[Placement],
    looks: Mapping[str, Mapping[str, Any]],
    *,
    lock: str,
) -> Wanted:
    """Return what hosts should have.

    Raises DeployError with what would help when the servers do not fit on the hosts.
    """
    names = involved_hosts(given)
    placing = placed(given, places, looks)
    if placing.refused:
        raise DeployError(f"the servers do not fit on the hosts:\n{placing.refused}")
    wanted = Wanted(
        deploy=given.deploy, deployment=deployment_of(given), topology=given.topology, router=given.router,
        serving=given.serving, gateway=given.gateway, device=given.device,
        hosts={name: given.hosts.hosts[name] for name in names}, gateways=gateway_hosts(given.hosts),
        placements=places, seats={label_of(seat.server, seat.replica): seat for seat in placing.seats},
        models={one.name: found for one in experts if (found := _model(one))},
        addresses=_addresses(given, names) if given.deploy.firewall != "off" else {},
        certificates={
            name: certificate_of(layout_of(given, name), given.hosts.hosts[name], look["state"])
            for name, look in looks.items()
        },
        pythons={name: _python(given, name, look, placing.seats) for name, look in looks.items()}, lock=lock,
        recipe=given.recipe, secrets={name: fetch(reference) for name, reference in given.deploy.secrets.items()},
        monitored=_monitored(given, looks), rollout=given.rollout, slo=given.slo, aliases=given.aliases,
        autoscaling=given.autoscaling if given.autoscaling.enabled else None,
    )  # fmt: skip
    monitored.check(wanted, looks)
    return wanted


def _monitored(given: Given, looks: Mapping[str, Mapping[str, Any]]) -> Monitored | None:
    section = given.monitoring
    if not section.enabled:
        return None
    packages = {name: given.hosts.hosts[name].packages for name in looks}
    return Monitored(
        section, given.slo, section.host or gateway_hosts(given.hosts)[0],
        gpu_hosts=frozenset(name for name, look in looks.items() if look["machine"]["gpus"]),
        price_usd=given.price_usd,
        secrets={name: fetch(one.secret) for name, one in section.alerts.receivers().items()},
        proxies={name: within(one.proxy, one.proxy_password) for name, one in packages.items()},
    )  # fmt: skip


def _content(folder: Path) -> Content:
    return Content(folder, files_of(folder))


def placed(given: Given, places: Sequence[Placement], looks: Mapping[str, Mapping[str, Any]]) -> Placing:
    """Return where the servers are put: where they are now, as long as that is possible."""
    hosts = [_capacity(name, given.hosts.hosts[name], look) for name, look in looks.items()]
    bases = {place.base.name: place for place in places if place.replica == 1}
    demands = [_demand(given, place, given.needs.get(name, {})) for name, place in bases.items()]

    def alternatives(demand: Demand) -> Iterator[tuple[str, Demand]]:
        for other in given.needs.get(demand.name, {}).get("alternatives", ()):
            yield str(other["override"]), _demand(given, bases[demand.name], other)

    return place_servers(demands, hosts, keep=_keep(given, bases, looks), alternatives=alternatives)


def _model(expert: ServedExpert) -> Content | HubContent | None:
    """Return what an expert's model is; None where the hub does not say what a branch means now."""
    if expert.is_local:
        return _content(Path(expert.location))
    ref = model_ref.parse(expert.reference)
    commit = hub.commit_of(ref) if ref.scheme == "hub" else ""
    return HubContent(ref.target, commit) if commit else None


def _addresses(given: Given, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the IP addresses of hosts.

    Raises DeployError for a name that this machine does not know.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        address = given.hosts.hosts[name].reached_at
        try:
            found[name] = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(address.strip("[]"), None)})
        except OSError as error:
            rule = f"deploy.firewall needs its address, and {address} is unknown here ({error.strerror or error})"
            raise DeployError(f"{name}: {rule}; give an IP address, or internal_address") from None
    return found


def _python(given: Given, name: str, look: Mapping[str, Any], seats: Sequence[Seat]) -> HostPython:
    """Return what a host's services run with; one without any model server needs no vLLM."""
    if name not in deployed_hosts(given.hosts):
        return HostPython("")  # nothing there runs with it
    role = "serve" if any(seat.host == name for seat in seats) else "gateway"
    device = "cpu" if given.device == "cpu" else "cuda"
    version = ".".join(str(look["machine"]["python"]).split(".")[:2])
    return of_host(given.hosts.hosts[name], role, device, python=version)


def label_of(server: str, replica: int) -> str:
    """Return the name of one of a server's replicas, counted from 0."""
    return server if replica == 0 else f"{server}-{replica + 1}"


def _demand(given: Given, place: Placement, need: Mapping[str, Any]) -> Demand:
    """Return what one server asks for; one whose memory is not known has its GPUs for itself."""
    asked = [given.deploy.placing[expert.name] for expert in place.experts if expert.name in given.deploy.placing]
    labels = {key: value for one in asked for key, value in one.labels.items()}
    spreads = {one.spread for one in asked} or {"prefer"}
    return Demand(
        name=place.base.name, experts=tuple(expert.name for expert in place.experts), replicas=place.base.replicas,
        device="cpu" if given.device == "cpu" else "cuda",
        tensor_parallel_size=int(need.get("tensor_parallel_size", given.serving.tensor_parallel_size)),
        needed_bytes=int(need.get("needed_bytes", 0)), wanted_bytes=int(need.get("wanted_bytes", 0)),
        exclusive=not need.get("needed_bytes") or not all(one.shared_gpu for one in asked),
        labels={key: wanted for key, value in labels.items() if (wanted := _values(value, refused=False))},
        avoid={key: wanted for key, value in labels.items() if (wanted := _values(value, refused=True))},
        spread="hosts!" if "require" in spreads else "hosts" if "prefer" in spreads else "none",
    )  # fmt: skip


def _values(value: str | list[str], *, refused: bool) -> tuple[str, ...]:
    """Return the values that a label must have, or those that it must not (they begin with `!`)."""
    listed = [value] if isinstance(value, str) else value
    return tuple(one.removeprefix("!") for one in listed if one.startswith("!") is refused)


def _capacity(name: str, host: Host, look: Mapping[str, Any]) -> HostCapacity:
    """Return what a host has for this deployment: not what others of ours have taken."""
    machine, others = look["machine"], look["state"]["others"]
    limit = len(machine["gpus"]) if host.gpus == "auto" else host.gpus
    gpus = [
        Gpu(gpu["index"], gpu["name"], room.usable_bytes(gpu), room.unclaimed_bytes(gpu, others))
        for gpu in machine["gpus"][:limit]
    ]
    taken = sum(other["bytes"] for other in others if not other["gpus"])
    total = host.memory_gib * GIB or machine["memory_bytes"] * CPU_SHARE
    return HostCapacity(
        name, tuple(gpus), tuple(tuple(group) for group in machine.get("links", ())),
        memory_bytes=max(0, int(total - taken)), cores=machine["cores"], labels=dict(host.labels),
        roles=tuple(host.roles),
    )  # fmt: skip


def _keep(given: Given, bases: Mapping[str, Placement], looks: Mapping[str, Mapping[str, Any]]) -> list[Seat]:
    """Return where servers of this deployment are now."""
    labels = {
        label_of(name, replica): (name, replica)
        for name, place in bases.items()
        for replica in range(place.base.replicas)
    }
    found: dict[str, Seat] = {}
    for host, look in looks.items():
        layout = layout_of(given, host)
        for release in present.current(layout, host, look["state"]):
            if release.service in labels:
                name, replica = labels[release.service]
                found[release.service] = Seat(name, replica, host, release.gpus, release.num_bytes)
    return list(found.values())


def layout_of(given: Given, host: str) -> Layout:
    """Return where things are on a host."""
    paths = given.hosts.hosts[host].paths
    return Layout(paths.root, paths.state, paths.logs, deployment_of(given), given.deploy.user, "")


def deployed_hosts(hosts: Hosts) -> list[str]:
    """Return the names of the hosts that servers may be put on."""
    return [
        name
        for name, host in hosts.hosts.items()
        if not host.is_local and (host.has_role("serve") or host.has_role("gateway"))
    ]


def involved_hosts(given: Given) -> list[str]:
    """Return the names of the hosts that get anything, in the order of the inventory."""
    more = given.monitoring.host if given.monitoring.enabled else ""
    names = {*deployed_hosts(given.hosts), more}
    return [name for name in given.hosts.hosts if name in names]


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
        "user": given.deploy.user, "salt": token_hex(16),
    }  # fmt: skip


def url_of(given: Given) -> str:
    """Return the address at which this machine reaches the first gateway."""
    host = given.hosts.hosts[gateway_hosts(given.hosts)[0]]
    is_tls = given.gateway.tls.certificate or given.deploy.tls.clients == "self_made"
    return f"{'https' if is_tls else 'http'}://{host.address}:{given.gateway.port}"
