"""Feature flags: named switches of a topology, on or off for a request by its user, its tenant, or a share of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.gateway import identity
from largeforge.gateway.sticky import Division

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.gateway.request import Request
    from largeforge.recipe.schema import Topology


class Flags:
    """The flags of a topology."""

    def __init__(self, topology: Topology, random: Callable[[], float]):
        self._flags = {
            name: (flag, Division(f"flag {name}", topology.salt, random)) for name, flag in topology.flags.items()
        }
        self._by = topology.sticky

    def is_on(self, name: str, request: Request) -> bool:
        """Tell whether a flag is on for a request: what is said of its user counts first, then of its tenant."""
        flag, division = self._flags[name]
        share = flag.share
        if flag.tenants:
            share = flag.tenants.get(identity.tenant(request), share)
        if flag.users:
            share = flag.users.get(identity.user(request), share)
        if share in (0.0, 1.0):
            return share == 1.0
        return division.place(identity.sticky(request, self._by)) < share

    def on(self, request: Request) -> dict[str, bool]:
        """Return all flags as they are for a request."""
        return {name: self.is_on(name, request) for name in self._flags}
