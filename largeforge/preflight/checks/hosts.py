"""The hosts of an inventory that trainings and servers are put on; they are asked when that begins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import listed
from largeforge.preflight.finding import Finding, error, ok, skipped
from largeforge.recipe.host_checks import training_hosts

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

QUICK = True


def check(context: Context) -> Iterator[Finding]:
    """Find hosts that nothing can run on yet."""
    if context.recipe is None:
        yield skipped("no recipe was given")
        return
    hosts = context.recipe.hosts.hosts
    remote = [name for name, host in hosts.items() if not host.is_local]
    if remote and (there := training_hosts(context.recipe)):
        yield ok(
            f"training on {listed(there, 3)}: python -m largeforge queue {context.recipe.hosts.name} shows who is there"
        )
        if not shutil.which("rsync"):
            yield error("rsync is not on this machine, and inputs and models are brought with it", "install rsync")
    elif remote:
        yield ok(f"{listed(remote, 3)}: python -m largeforge hosts check {context.recipe.hosts.name} looks at them")
    else:
        yield ok("this machine alone")
