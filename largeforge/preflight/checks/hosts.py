"""Stages run on this machine; servers, and trainings with `launcher=multi_node`, also on the hosts of an inventory."""

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
    remote = [name for name, host in hosts.items() if not host.is_local]
    if remote and context.recipe.launcher.name == "multi_node":
        yield ok(f"training on {listed(hosts, 3)}; each is asked when a training starts")
    elif remote and not context.recipe.training_jobs:
        yield ok(f"{listed(remote, 3)}: python -m largeforge hosts check {context.recipe.hosts.name} looks at them")
    elif remote:
        there = f"{len(remote)} of {len(hosts)} hosts are not this machine ({listed(remote, 3)})"
        text = f"{there}: only trainings run there (launcher=multi_node)"
        yield error(text, "hosts=local")
    else:
        yield ok("this machine alone")
