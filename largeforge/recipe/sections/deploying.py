"""How servers are put on the hosts of an inventory, and how a new release takes the place of an old one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from largeforge.recipe.base import NAME_PATTERN, Strict
from largeforge.recipe.sections.hosts import Label, SecretRef

LabelRule = Annotated[str, Field(pattern=r"^!?[A-Za-z0-9][A-Za-z0-9_./-]*$")]


class Placing(Strict):
    """Which hosts an expert's servers may be on."""

    labels: dict[Label, LabelRule | list[LabelRule]] = {}
    """Labels that the host must have, each with one of these values; one that begins with `!` it must not have."""
    spread: Literal["prefer", "require", "none"] = "prefer"
    """Whether replicas are on different hosts: where possible, always, or as it comes."""
    shared_gpu: bool = True
    """Whether its servers may share a GPU with others."""


class Rollout(Strict):
    """How a release takes the place of the one before."""

    strategy: Literal["auto", "blue_green", "fixed"] = "auto"
    """`blue_green` starts the new server beside the old one and needs room for both; `fixed` stops the old one first;
    `auto` takes the first where there is room."""
    watch_s: float = Field(default=30.0, ge=0)
    """How long a new server is watched after it is ready; if it ends in that time, the old one comes back."""
    drain_timeout_s: float = Field(default=60.0, ge=0)
    """How long a server may take to finish what it is answering before it is stopped."""
    unreachable_s: float = Field(default=120.0, ge=0)
    """How long a host may be unreachable while it switches by itself before the rollout is given up."""
    standby: bool = False
    """Whether servers that new ones were started beside stay up until the next deployment: going back is instant."""
    keep_releases: int = Field(default=3, gt=0)
    """Releases of a server that are kept to go back to, with their models."""


class Deploy(Strict):
    """Servers on the hosts of an inventory, as units of systemd."""

    name: str = Field(default="", pattern=f"^$|{NAME_PATTERN}", max_length=40)
    """Name of the deployment, in the names of its units; empty takes the recipe's."""
    user: str = Field(default="largeforge", pattern="^[a-z_][a-z0-9_-]*$")
    """Account that servers run as; it is made where it is not there."""
    placing: dict[str, Placing] = {}
    """By expert, which hosts its servers may be on."""
    rollout: Rollout = Rollout()
    """How a release takes the place of the one before."""
    first_port: Annotated[int, Field(ge=1024, le=60000)] = 18000
    """Ports of model servers begin here."""
    parallel: int = Field(default=10, gt=0)
    """Hosts that are worked on at once."""
    secrets: dict[Annotated[str, Field(pattern="^[A-Z_][A-Z0-9_]*$")], SecretRef] = {}
    """Variables of the servers' environment that are secrets, such as HF_TOKEN, and where they are. Each host's own
    systemd encrypts them (`systemd-creds`), and they stand in no file."""
