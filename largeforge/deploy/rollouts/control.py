"""Look after a rollout without its recipe: what it has come to, and commands for it from any machine.

Where somebody conducts it, a command is left for them on a host with a gateway; otherwise it is carried out here, which
needs the locks of the deployment as everything does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
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
        deployed = operate.find(inventory, fleet, deployed.name)  # whoever had the locks until now may have ended it
        document = _underway(deployed)
        if command == "resume" and not _is_paused(document):
            command = ""  # it goes on as soon as somebody conducts it
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
    is_back = "rolled_back" in (document.verdict, {"abort": "rolled_back"}.get(command))
    if not is_back and (missing := sorted(document.target.services.keys() - deployed.states)):
        raise DeployError(
            f"{', '.join(missing)} cannot be reached; `python -m largeforge rollout abort` needs them not"
        )
    canaries = list(_canaries(deployed, document, report=report, is_back=is_back))
    rolling = Rolling(document, gateways, update, canaries, report=report, site=deployed.site)
    proved = {(one.host, one.service) for one in document.members}
    try:
        return rolling.run(
            lambda: operate.bring_in(
                deployed, reached, update, document.target, note=f"rollout {document.id}", proved=proved
            ),
            settle=lambda ended: settle(ended, deployed.name),
            command=command,
        )
    except GateError:
        if command != "abort":  # what is wanted is no failure
            raise
        return rolling.document


def _canaries(deployed: Deployed, document: Document, *, report: Report, is_back: bool) -> Iterator[Replacement]:
    """Yield the canaries of a rollout, and what they are to replace.

    Raises DeployError when a host is missing, or has lost a release; on the way back that is reported.
    """
    for one in document.members:
        if one.host not in deployed.states:
            if not is_back:
                raise DeployError(f"{one.host}: it cannot be reached, and has the canary of {one.service}")
            report(one.host, f"it cannot be reached; nobody asks its canary of {one.service}, which runs on there")
            continue
        state, layout = deployed.states[one.host], deployed.layouts[one.host]
        new, old = (present.of(layout, one.host, one.service, key, state) for key in (one.new, one.old))
        if new is None and is_back:
            continue
        if new is None:
            raise DeployError(f"{one.host}: release {one.new} of {one.service} is not there any more")
        is_up = deployed.is_up(new) and present.canaries(layout, state).get(one.service) == one.new
        yield Replacement(new, old, "canary", is_up=is_up)


def _leave(
    deployed: Deployed, reached: Mapping[str, Reach], document: Document, command: str, *, report: Report, held: str
) -> Document:
    """Leave a command for whoever conducts the rollout, and see what comes of it."""
    if command == "resume" and not _is_paused(document):
        raise DeployError(f"it is under way already: {held}")
    hosts = [host for host in deployed.site.gateways if host in reached]
    if not hosts:
        raise DeployError("no host with a gateway can be reached")
    layout, reach = deployed.layouts[hosts[0]], reached[hosts[0]]
    path = documents.command_path(layout)
    if _is_there(reach, path):
        raise DeployError("another command is waiting to be noticed by the one who conducts it; try again in a minute")
    left = {"do": command, "by": shell.who(), "rollout": document.id}
    try:
        shell.carry_out(reach, steps.File(path, json.dumps(left) + "\n"))
        report("", f"left for the one who conducts it: {held.partition(': ')[2].partition(' is changing')[0]}")
        _await_taken(reach, path)
    except BaseException:
        with suppress(DeployError):
            shell.carry_out(reach, steps.Gone(path))
        raise
    return _seen(reach, documents.path(layout, document.id), command)


def _is_paused(document: Document) -> bool:
    return any(group.phase == "paused" for group in document.groups)


def _await_taken(reach: Reach, path: str) -> None:
    until = time.monotonic() + TAKEN_WITHIN_S
    while _is_there(reach, path):
        if time.monotonic() > until:
            raise DeployError(f"nobody has taken it within {TAKEN_WITHIN_S:g} s, and it is withdrawn")
        time.sleep(POLL_S)


def _is_there(reach: Reach, path: str) -> bool:
    return bool(shell.run(reach, ["sh", "-c", 'test -e "$1" && echo there || true', "sh", path]).strip())


def _seen(reach: Reach, path: str, command: str) -> Document:
    """Return what a rollout has come to after a command was taken: its end, where that is what was wanted."""
    until = time.monotonic() + (OBEYED_WITHIN_S if command in ("promote", "abort") else 2 * POLL_S)
    while True:
        time.sleep(POLL_S)
        found = documents.parse(shell.run(reach, ["cat", path]))
        if found.ended or time.monotonic() > until:
            return found
