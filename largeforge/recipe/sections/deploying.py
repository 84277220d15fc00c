"""How servers are put on the hosts of an inventory, and how a new release takes the place of an old one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from largeforge.recipe.base import NAME_PATTERN, Strict
from largeforge.recipe.sections.hosts import Label, RemoteFolder, SecretRef

LabelRule = Annotated[str, Field(pattern=r"^!?[A-Za-z0-9][A-Za-z0-9_./-]*$")]


class Placing(Strict):
    """Which hosts an expert's servers may be on."""

    labels: dict[Label, LabelRule | list[LabelRule]] = {}
    """Labels that the host must have, each with one of these values; one that begins with `!` it must not have."""
    spread: Literal["prefer", "require", "none"] = "prefer"
    """Whether replicas are on different hosts: where possible, always, or as it comes."""
    shared_gpu: bool = True
    """Whether its servers may share a GPU with others."""


class Update(Strict):
    """How a release takes the place of the one before."""

    strategy: Literal["auto", "blue_green", "fixed"] = "auto"
    """`blue_green` starts the new server beside the old one and needs room for both; `fixed` stops the old one first;
    `auto` takes the first where there is room."""
    watch_s: float = Field(default=30.0, ge=0)
    """How long a new server is watched after it is ready; if it ends in that time, the old one comes back."""
    drain_timeout_s: float = Field(default=60.0, ge=0)
    """How long a server may take to finish what it is answering before it is stopped."""
    unreachable_s: float = Field(default=120.0, ge=0)
    """How long a host may be unreachable while it switches by itself before the update is given up."""
    standby: bool = False
    """Whether servers that new ones were started beside stay up until the next deployment: going back is instant."""
    keep_releases: int = Field(default=3, gt=0)
    """Releases of a server that are kept to go back to, with their models."""


class GivenTls(Strict):
    """Files of certificates of your own, which are on every host already; the deployment's account must be able to read
    the key, and nobody else but root."""

    certificate: RemoteFolder | Literal[""] = ""
    """PEM file of a host's certificate, for servers and for those who ask."""
    key: RemoteFolder | Literal[""] = ""
    """PEM file of its key."""
    ca: RemoteFolder | Literal[""] = ""
    """PEM file of the authorities that all of these certificates come from."""


class DeployTls(Strict):
    """Which connections of a deployment are over TLS."""

    servers: Literal["auto", "self_made", "given", "off"] = "auto"
    """Between gateways and model servers, each of which shows a certificate: `self_made` by their hosts; `given` are
    files of your own; `auto` has self-made ones where a server is on another host than the gateway."""
    given: GivenTls = GivenTls()
    """Your own certificates for `servers: given`."""
    clients: Literal["off", "self_made"] = "off"
    """Whether gateways show clients a certificate that their host has made. One of your own is named by `gateway.tls`,
    as a file on the hosts."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        named = [value for value in (self.given.certificate, self.given.key, self.given.ca) if value]
        if len(named) not in (0, 3) or (self.servers == "given") is not bool(named):
            raise ValueError("servers: given needs certificate, key and ca in given, and nothing else does")
        return self


class Deploy(Strict):
    """Servers on the hosts of an inventory, as units of systemd."""

    name: str = Field(default="", pattern=f"^$|{NAME_PATTERN}", max_length=40)
    """Name of the deployment, in the names of its units; empty takes the recipe's."""
    user: str = Field(default="largeforge", pattern="^[a-z_][a-z0-9_-]*$")
    """Account that servers run as; it is made where it is not there."""
    placing: dict[str, Placing] = {}
    """By expert, which hosts its servers may be on."""
    update: Update = Update()
    """How a release takes the place of the one before."""
    tls: DeployTls = DeployTls()
    """Which connections are over TLS."""
    firewall: Literal["off", "nftables"] = "off"
    """Whether hosts let only gateways reach model servers, and only `clients` the gateways, by a table of nftables of
    their own. It opens nothing that other rules of a host close."""
    clients: list[Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$")]] = []
    """Addresses and networks that the firewall lets reach gateways, such as 10.0.0.0/24; empty means all."""
    first_port: Annotated[int, Field(ge=1024, le=60000)] = 18000
    """Ports of model servers begin here."""
    parallel: int = Field(default=10, gt=0)
    """Hosts that are worked on at once."""
    secrets: dict[Annotated[str, Field(pattern="^[A-Z_][A-Z0-9_]*$")], SecretRef] = {}
    """Variables of the servers' environment that are secrets, such as HF_TOKEN, and where they are. Each host's own
    systemd encrypts them (`systemd-creds`), and they stand in no file."""
