"""Conduct a rollout: look at the gateways again and again, do what is decided, until it is over.

Whoever conducts has the locks of the deployment. What was decided is kept on the hosts before it is done, so that it
can be gone on with from anywhere at any time. Meanwhile gateways look after their canaries themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from largeforge.deploy.rollouts.looking import Look, Told, aborted, advance
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from largeforge.deploy.rollouts.document import Document

Report = Callable[[str, str], None]
"""Takes a host's name (or an empty one) and a line for people."""


class Gateways(Protocol):
    """All gateways of a deployment, as a rollout sees them."""

    def exchange(self, document: Document) -> tuple[Look, Mapping[str, str]]:
        """Keep a rollout on their hosts and bring it about there; return what they say, and by host why one does not
        answer. Raises LockHeld when this is not the only controller any more."""


def conduct(
    document: Document,
    gateways: Gateways,
    *,
    report: Report,
    unreachable_s: float,
    command: str = "",
    left: Sequence[str] = (),
    on_look: Callable[[Document], None] = lambda document: None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Document:
    """Return the rollout once it has come to a verdict, or rests until somebody says how to go on; a first command may
    be given along, after those that were `left` for it before.

    Raises DeployError when no gateway answers for longer than `unreachable_s`.
    """
    began = answered = clock()
    pending = [*left, *([command] if command else [])]
    silent: set[str] = set()
    while True:
        look, failed = gateways.exchange(document)
        now = clock()
        for host in failed.keys() - silent:
            report(host, f"its gateway does not answer, and is not counted meanwhile: {failed[host]}")
        silent = set(failed)
        if look.arms:
            answered = now
        elif now - answered > unreachable_s:
            reasons = "; ".join(f"{host}: {reason}" for host, reason in sorted(failed.items()))
            raise DeployError(
                f"no gateway has answered for {unreachable_s:g} s (deploy.update.unreachable_s): {reasons}"
            )
        look = Look(look.arms, (*pending, *look.commands), look.guarded)
        pending, before = [], shares(document)
        document, told = advance(document, look, now, began=began)
        is_over = document.verdict or document.is_at_rest or (command == "pause" and "pause" in look.commands)
        if is_over or told or shares(document) != before:
            pending = list(gateways.exchange(document)[0].commands)
        for one in told:
            report("", said(one, is_one=len(document.groups) == 1))
        on_look(document)
        if document.verdict == "promoted" and "abort" in pending:
            document = aborted(document, clock())
            gateways.exchange(document)
            on_look(document)
        if document.verdict or (is_over and not pending):
            return document
        sleep(min(group.settings.look_s for group in document.groups))


def shares(document: Document) -> list[tuple[float, float]]:
    """Return what each group has of the traffic, and of copies."""
    return [(group.share, group.shadow) for group in document.groups]


def said(told: Told, *, is_one: bool) -> str:
    """Return a decision as a line for people."""
    decision = told.decision
    words = {
        "step": f"{decision.share:.4g} of the traffic",
        "hold": "held",
        "promote": "promoted",
        "roll_back": "sent back",
        "finish": "its time is over",
        "refuse": "refused",
    }.get(decision.action, f"{decision.action}d")
    reasons = "; ".join(decision.reasons)
    return f"{'' if is_one else told.server + ': '}{words}{': ' + reasons if reasons else ''}"
