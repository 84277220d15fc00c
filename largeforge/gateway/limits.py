"""What an expert is not sent by a router: conversations longer than it takes, and requests with a smaller budget.

A client that names an expert gets that one; its server then says what it cannot do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from largeforge.gateway import facts, identity
from largeforge.recipe.sections.serving import Budget

if TYPE_CHECKING:
    from largeforge.gateway.request import Request
    from largeforge.recipe.schema import Expert, Topology

BUDGET_HEADER = b"x-largeforge-budget"
BUDGETS = get_args(Budget)
"""From the cheapest to the dearest."""
CHARS_A_TOKEN = 4.0
"""Characters of a token of English text, about (help.openai.com, "What are tokens and how to count them?")."""


class Limits:
    """The limits of the experts of a topology."""

    def __init__(self, topology: Topology):
        self._experts = topology.experts
        self._fallback = topology.fallback
        self._are_any = any(expert.max_context or expert.budget for expert in topology.experts.values())

    def within(self, name: str, request: Request) -> tuple[str, str]:
        """Return the expert that takes a request in the place of one that may not, with the reason; the same and an
        empty reason where it may, or where nobody may."""
        if not self._are_any:
            return name, ""
        tokens, budget = num_tokens(request), _budget(request)
        if not (reason := _exceeded(self._experts[name], tokens, budget)):
            return name, ""
        expert = self._experts[name]
        written = expert.fallback or ()
        for other in (*written, self._fallback, *self._experts):
            candidate = self._experts[other]
            if candidate.task == expert.task and not _exceeded(candidate, tokens, budget):
                return other, f"{reason}:{name}"
        return name, ""


def num_tokens(request: Request) -> float:
    """Return about how many tokens a request and its longest answer have; nothing is tokenized for it."""
    payload = request.payload
    wanted: Any = payload.get("max_completion_tokens", payload.get("max_tokens"))
    longest = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else 0
    return facts.chars(request) / CHARS_A_TOKEN + longest


def _exceeded(expert: Expert, tokens: float, budget: int) -> str:
    """Return which limit a request exceeds, empty for none."""
    if expert.max_context and tokens > expert.max_context:
        return "context"
    return "budget" if expert.budget and BUDGETS.index(expert.budget) > budget else ""


def _budget(request: Request) -> int:
    """Return the place of a request's budget among all; one that is not understood is no limit."""
    given = identity.header(request, BUDGET_HEADER).strip().lower()
    return BUDGETS.index(given) if given in BUDGETS and given else len(BUDGETS)
