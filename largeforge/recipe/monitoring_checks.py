"""Monitoring that can be installed: on hosts that there are, on ports of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe
    from largeforge.recipe.sections.monitoring import Monitoring


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's monitoring."""
    monitoring = recipe.monitoring
    if not monitoring.enabled:
        return
    remote = [name for name, host in recipe.hosts.hosts.items() if not host.is_local]
    if not remote:
        yield Problem("monitoring.enabled", "needs hosts to be installed on: give an inventory with hosts=NAME.")
    elif monitoring.host and monitoring.host not in remote:
        rule = f"is no host of the inventory {recipe.hosts.name} besides this machine; there is: {listed(remote)}."
        yield Problem("monitoring.host", rule, given=monitoring.host, nearest=nearest(monitoring.host, remote))
    if monitoring.logs.syslog and monitoring.logs.loki:
        yield Problem("monitoring.logs", "takes syslog or loki, not both.")
    if monitoring.retention_days < recipe.slo.window_days and recipe.slo.objectives:
        rule = f"must be at least slo.window_days = {recipe.slo.window_days:g}: error budgets are counted over that."
        yield Problem("monitoring.retention_days", rule, given=f"{monitoring.retention_days:g}")
    yield from _ports(recipe, monitoring)
    for name, receiver in monitoring.alerts.receivers().items():
        if receiver.channel and receiver.kind != "slack":
            key = f"monitoring.alerts.{name.replace('-', '.')}.channel"
            yield Problem(key, f"is for slack; this receiver is {receiver.kind}.")


def _ports(recipe: Recipe, monitoring: Monitoring) -> Iterator[Problem]:
    counted = Counter([recipe.gateway.port, *monitoring.ports.all()])
    twice = sorted(port for port, count in counted.items() if count > 1)
    if twice:
        rule = f"must be different from each other and from gateway.port; {listed(map(str, twice))} is given twice."
        yield Problem("monitoring.ports", rule)
    if above := [port for port in monitoring.ports.all() if port >= recipe.deploy.first_port]:
        rule = f"must be under deploy.first_port = {recipe.deploy.first_port}: those above are for model servers."
        yield Problem("monitoring.ports", rule, given=", ".join(map(str, above)))
