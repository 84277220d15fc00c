"""What was deployed when: one file for each update that succeeded, on every host of the deployment. Pure.

A record holds the release of each service and the gateways' file without its servers: enough to go back to it without
the recipe, as long as the releases are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.deploy import steps

if TYPE_CHECKING:
    from largeforge.deploy.service import Layout

KEPT = 20


@dataclass(frozen=True)
class Record:
    """One update."""

    id: str
    """Begins with its time, so that sorting is by time."""
    recipe: str
    lock: str
    by: str
    services: dict[str, dict[str, str]]
    """By host and service, the digest of the release."""
    sections: dict[str, Any]
    """`gateway`, `router` and `topology` of the gateways' file."""
    gateways: list[str]
    gateway_host: str
    gateway_port: int
    user: str
    note: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    autoscaling: dict[str, Any] = field(default_factory=dict)
    """How replicas are scaled, for `deploy.scaling`; empty where they are not."""

    @property
    def state(self) -> tuple[Any, Any]:
        """What is served, whoever did it and when."""
        return self.services, self.sections

    def file(self, layout: Layout) -> steps.File:
        """Return the step that writes it on a host."""
        return steps.File(f"{folder(layout)}/{self.id}.json", json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


def folder(layout: Layout) -> str:
    """Return the folder of the records on a host."""
    return f"{layout.home}/history"


def records(layout: Layout, state: Mapping[str, Any]) -> list[Record]:
    """Return the records that a host has, the newest last; those that cannot be read are left out."""
    found = []
    for path, entry in sorted(state["paths"].items()):
        if path.startswith(f"{folder(layout)}/") and path.endswith(".json"):
            try:
                found.append(Record(**json.loads(entry["text"])))
            except (LookupError, ValueError, TypeError):
                continue
    return found
