"""The answers that are in progress, so that some can be broken off at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from largeforge.gateway.admin.controls import expert_isolated, tenant_isolated
from largeforge.gateway.identity import MAX_CHARS, TENANT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.admin.controls import Document
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.errors import ApiError
    from largeforge.gateway.link import Link
    from largeforge.gateway.respond import Outbox


class Running:
    """All answers in progress, each with the task that gives it."""

    def __init__(self) -> None:
        self._answers: dict[asyncio.Task[object], tuple[Link, Outbox]] = {}
        self.num_interactive = 0
        """Those that somebody waits for: all but the lines of batches."""

    def __len__(self) -> int:
        return len(self._answers)

    def begin(self, task: asyncio.Task[object], link: Link, out: Outbox) -> None:
        """Note that a task answers."""
        self._answers[task] = (link, out)
        self.num_interactive += link.is_interactive

    def end(self, task: asyncio.Task[object]) -> None:
        """Note that a task has answered."""
        link, _ = self._answers.pop(task)
        self.num_interactive -= link.is_interactive

    def obey(self, document: Document) -> None:
        """Break off the answers of who has just been isolated; each ends with the error that says so."""
        state = document.state
        if not state.is_emergency:
            return
        for task, (link, out) in self._answers.items():
            if out.refusal is None and (error := _refusal(state, link.exchange, link.headers)):
                out.refusal = error
                task.cancel()


def _refusal(state: State, exchange: Exchange, headers: Sequence[tuple[bytes, bytes]]) -> ApiError | None:
    if exchange.expert in state.experts:
        return expert_isolated(exchange.expert)
    tenants = (value.decode("latin-1")[:MAX_CHARS] for name, value in headers if name == TENANT)
    if state.tenants and any(tenant in state.tenants for tenant in tenants):
        return tenant_isolated()
    return None
