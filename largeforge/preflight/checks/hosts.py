"""Stages run on this machine; other hosts of an inventory can be planned with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import listed
from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

QUICK = True


def check(context: Context) -> Iterator[Finding]:
    """Find hosts that nothing can run on yet."""
    if context.recipe is None:
        yield skipped("no recipe was given")
        return
    hosts = context.recipe.hosts.hosts
    remote = [name for name, host in hosts.items() if host.address != "local"]
    if remote:
        text = f"{len(remote)} of {len(hosts)} hosts are not this machine ({listed(remote, 3)}): a plan only"
        yield error(text, "hosts=local")
    else:
        yield ok("this machine alone")
