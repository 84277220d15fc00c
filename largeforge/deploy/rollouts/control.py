"""Look after a rollout without its recipe: what it has come to, and commands for it from any machine.

Where somebody conducts it, a command is left for them on a host with a gateway; otherwise it is carried out here, which
needs the locks of the deployment as everything does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from largeforge.deploy import operate, present, shell, steps
from largeforge.deploy.rollouts import document as documents
from largeforge.deploy.rollouts.gateways import HostGateways
from largeforge.deploy.rollouts.rolling import Rolling
from largeforge.deploy.shell import LockHeld, Locks
from largeforge.deploy.update import Replacement
from largeforge.errors import DeployError, GateError

if TYPE_CHECKING:
    from largeforge.deploy.connection import Reach
    from largeforge.deploy.operate import Deployed, Report
    from largeforge.deploy.rollouts.document import Document
    from largeforge.recipe.sections.hosts import Hosts

POLL_S = 1.0
TAKEN_WITHIN_S = 60.0
"""How long whoever conducts a rollout may take to notice a command."""
OBEYED_WITHIN_S = 600.0
"""How long that may take to bring a promotion or a way back to its end."""


def rollouts(inventory: Hosts, wanted: str) -> tuple[str, list[Document]]:
    """Return the name of a deployment, and the rollouts that its hosts remember, the newest last."""
    with operate.connected(inventory) as (_, fleet):
        deployed = operate.find(inventory, fleet, wanted)
        return deployed.name, deployed.rollouts()


def act(
    inventory: Hosts, wanted: str, command: str, *, report: Report, settle: Callable[[Document, str], None]
) -> Document:
    """Carry out a command for the rollout that is under way, and return what it has come to; `settle` is told of its
    end with the name of the deployment.

    Raises DeployError when none is under way, and GateError when the models are sent back by what is seen of them.
    """
    with ExitStack() as stack:
        reached, fleet = stack.enter_context(operate.connected(inventory))
        deployed = operate.find(inventory, fleet, wanted)
        document = _underway(deployed)
        there = {host: reached[host] for host in deployed.states}
        try:
            locks = stack.enter_context(Locks(there, deployed.name))
        except LockHeld as error:
            return _leave(deployed, there, document, command, report=report, held=str(error))
        return _carry_out(deployed, there, locks, document, command, report=report, settle=settle)


def _underway(deployed: Deployed) -> Document:
    known = deployed.rollouts()
    now = documents.underway(known)
    if now is None:
        last = f"; the last one, {known[-1].id}, was {known[-1].ended.replace('_', ' ')}" if known else ""
        raise DeployError(f"{deployed.name}: no rollout is under way{last}")
    return now


def _carry_out(
    deployed: Deployed, reached: Mapping[str, Reach], locks: Locks, document: Document, command: str, *,
    report: Report, settle: Callable[[Document, str], None],
) -> Document:  # fmt: skip
    """Conduct the rollout from here on."""
    running = operate.running_gateways(deployed)
    gateways = HostGateways(deployed.site, reached, locks, trusted={one.host: one.ca for one in running})
    update = operate.updating(deployed, reached, locks, report=report)
    rolling = Rolling(document, gateways, update, _canaries(deployed, document), report=report, site=deployed.site)
    try:
        return rolling.run(
            lambda: operate.bring_in(deployed, reached, update, document.target, note=f"rollout {document.id}"),
            settle=lambda ended: settle(ended, deployed.name),
            command=command,
        )
    except GateError:
        if command != "abort":  # what is wanted is no failure
            raise
        return rolling.document


def _canaries(deployed: Deployed, document: Document) -> list[Replacement]:
    """Return the canaries of a rollout, and what they are to replace.

    Raises DeployError when a host is missing, or has lost a release.
    """
    found: list[Replacement] = []
    for one in document.members:
        if one.host not in deployed.states:
            raise DeployError(f"{one.host}: it cannot be reached, and has the canary of {one.service}")
        state, layout = deployed.states[one.host], deployed.layouts[one.host]
        new, old = (present.of(layout, one.host, one.service, key, state) for key in (one.new, one.old))
        if new is None:
            raise DeployError(f"{one.host}: release {one.new} of {one.service} is not there any more")
        is_up = deployed.is_up(new) and present.canaries(layout, state).get(one.service) == one.new
        found.append(Replacement(new, old, "canary", is_up=is_up))
    return found


def _leave(
    deployed: Deployed, reached: Mapping[str, Reach], document: Document, command: str, *, report: Report, held: str
) -> Document:
    """Leave a command for whoever conducts the rollout, and see what comes of it."""
    if command == "resume" and not any(group.phase == "paused" for group in document.groups):
        raise DeployError(f"it is under way already: {held}")
    hosts = [host for host in deployed.site.gateways if host in reached]
    if not hosts:
        raise DeployError("no host with a gateway can be reached")
    layout, reach = deployed.layouts[hosts[0]], reached[hosts[0]]
    path = documents.command_path(layout)
    shell.carry_out(reach, steps.File(path, json.dumps({"do": command, "by": shell.who()}) + "\n"))
    report("", f"left for the one who conducts it: {held.partition(': ')[2].partition(' is changing')[0]}")
    until = time.monotonic() + TAKEN_WITHIN_S
    while shell.run(reach, ["sh", "-c", f"test -e {path} && echo there || true"]).strip():
        if time.monotonic() > until:
            shell.carry_out(reach, steps.Gone(path))
            raise DeployError(f"nobody has taken it within {TAKEN_WITHIN_S:g} s, and it is withdrawn")
        time.sleep(POLL_S)
    return _seen(reach, documents.path(layout, document.id), command)


def _seen(reach: Reach, path: str, command: str) -> Document:
    """Return what a rollout has come to after a command was taken: its end, where that is what was wanted."""
    until = time.monotonic() + (OBEYED_WITHIN_S if command in ("promote", "abort") else 2 * POLL_S)
    while True:
        time.sleep(POLL_S)
        found = documents.parse(shell.run(reach, ["cat", path]))
        if found.ended or time.monotonic() > until:
            return found
