"""Choose the expert by ordered rules: the first rule all of whose conditions hold decides.

What each condition says about all rules is one number with a bit for every rule, and those numbers are put together,
so the cost depends on the request and not on how many rules or experts there are. All patterns are RE2's and are
looked for in one pass.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.errors import Problem, listed, nearest
from largeforge.gateway import facts, identity
from largeforge.gateway.flags import Flags
from largeforge.gateway.patterns import MAX_SET, Pattern, PatternSet, size
from largeforge.gateway.routing import Decision, Router
from largeforge.recipe.base import Extension, Name, Strict

if TYPE_CHECKING:
    from largeforge.gateway.request import Request
    from largeforge.gateway.routing import Services
    from largeforge.recipe.schema import Topology

MAX_CHARS = 8_192
"""Patterns are looked for in this many characters at the start of the last user message."""


class When(Strict):
    """Conditions of a rule; those that are left out always hold."""

    text: Pattern = ""
    """Pattern somewhere in the last user message; `(?i)` at its start ignores case."""
    model: Pattern = ""
    """Pattern of the whole model name; only with it does a rule see requests that name a model which is no expert."""
    headers: dict[str, Pattern] = {}
    """Pattern of the whole value, by header; a header that is missing has none."""
    tenants: list[str] = []
    """Tenants of whom one must ask (header x-largeforge-tenant)."""
    users: list[str] = []
    """Users of whom one must ask (field `user` of the body)."""
    flag: str = ""
    """Flag of the topology that must be on."""
    has_tools: bool | None = None
    """Whether the model may call tools."""
    has_images: bool | None = None
    """Whether a message has an image."""
    stream: bool | None = None
    """Whether the answer is asked for piece by piece."""
    min_chars: int = Field(default=0, ge=0)
    """Fewest characters of the whole conversation."""
    max_chars: int = Field(default=0, ge=0)
    """Most characters of the whole conversation; 0 for any number."""


class Rule(Strict):
    """One rule."""

    name: Name | Literal[""] = ""
    """Name that reasons show; `rule-1` and so on where there is none."""
    when: When = When()
    """What must hold."""
    expert: Name
    """Expert that it chooses."""
    shadow: Name | Literal[""] = ""
    """Expert that is also asked, and whose answer is thrown away."""


class Config(Extension):
    """Route by ordered rules on words, headers, tenants, length, tools, images, model names and flags."""

    name: Literal["rules"] = "rules"
    rules: list[Rule] = []
    """Rules in their order; the first whose conditions all hold decides."""


Condition = Callable[["Request"], int]
"""Returns the rules that a request leaves possible, a bit for each."""


class RulesRouter(Router):
    """Rules, compiled once."""

    def __init__(self, rules: Sequence[Rule], flags: Flags):
        self._decisions = [
            Decision(rule.expert, f"rules:{rule.name or f'rule-{number}'}", shadow=rule.shadow)
            for number, rule in enumerate(rules, 1)
        ]
        self._all = (1 << len(rules)) - 1
        self._of_models = _bits(rules, lambda rule: bool(rule.when.model))
        self._conditions = [(concerned, tell) for concerned, tell in _conditions(rules, flags) if concerned]

    def choose(self, request: Request) -> Decision | None:
        """Return what the first rule says whose conditions hold."""
        return self._first(self._all, request)

    def choose_named(self, request: Request) -> Decision | None:
        """Return what the first rule says that has a pattern for the request's model name."""
        return self._first(self._of_models, request) if self._of_models else None

    def _first(self, possible: int, request: Request) -> Decision | None:
        for concerned, tell in self._conditions:
            if possible & concerned:
                possible &= tell(request) | ~concerned
                if not possible:
                    return None
        return self._decisions[(possible & -possible).bit_length() - 1] if possible else None


def build(config: Config, topology: Topology, services: Services) -> RulesRouter:
    """Return the router for a topology."""
    return RulesRouter(config.rules, Flags(topology, services.random))


def check(config: Config, topology: Topology) -> Iterator[Problem]:
    """Yield what is wrong with the rules beside a topology, with keys below the router."""
    experts = topology.experts
    for index, rule in enumerate(config.rules):
        key = f"rules.{index}"
        for field, expert in (("expert", rule.expert), ("shadow", rule.shadow)):
            if expert and expert not in experts:
                rule_text = f"must be an expert of the topology: {listed(experts)}."
                yield Problem(f"{key}.{field}", rule_text, nearest=nearest(expert, experts))
            elif expert and experts[expert].task != "generate":
                yield Problem(
                    f"{key}.{field}", f"expert {expert} does not write answers: its task is {experts[expert].task}."
                )
        flag = rule.when.flag
        if flag and flag not in topology.flags:
            rule_text = f"no such flag in topology.flags; there is: {listed(topology.flags)}."
            yield Problem(f"{key}.when.flag", rule_text, nearest=nearest(flag, topology.flags))
        if rule.when.max_chars and rule.when.max_chars < rule.when.min_chars:
            yield Problem(f"{key}.when.max_chars", f"is less than min_chars, {rule.when.min_chars}.")
        if rule.when == When() and index + 1 < len(config.rules):
            yield Problem(f"{key}.when", "has no conditions, so that no rule after this one is ever reached.")
    if (whole := sum(size(rule.when.text) for rule in config.rules if rule.when.text)) > MAX_SET:
        yield Problem("rules", f"have patterns of {whole} instructions of RE2 in all, at most {MAX_SET}; repeat less.")


def _conditions(rules: Sequence[Rule], flags: Flags) -> Iterator[tuple[int, Condition]]:
    """Yield each kind of condition with the rules that have it, the cheap ones first."""
    yield from _switch(rules, "stream", facts.streams)
    yield from _switch(rules, "has_tools", facts.has_tools)
    yield _names(rules, lambda rule: rule.when.tenants, identity.tenant)
    yield _names(rules, lambda rule: rule.when.users, identity.user)
    for flag in {rule.when.flag: None for rule in rules if rule.when.flag}:
        yield _flag(rules, flag, flags)
    yield _patterns(rules, lambda rule: rule.when.model, lambda request: request.model[: identity.MAX_CHARS], "full")
    for header in {name: None for rule in rules for name in rule.when.headers}:
        yield _header(rules, header)
    yield _least(rules)
    yield _most(rules)
    yield from _switch(rules, "has_images", facts.has_images)
    yield _patterns(rules, lambda rule: rule.when.text, lambda request: request.text[:MAX_CHARS], "search")


def _bits(rules: Sequence[Rule], holds: Callable[[Rule], bool]) -> int:
    return sum(1 << place for place, rule in enumerate(rules) if holds(rule))


def _switch(rules: Sequence[Rule], field: str, tell: Callable[[Request], bool]) -> Iterator[tuple[int, Condition]]:
    wants = _bits(rules, lambda rule: getattr(rule.when, field) is True)
    refuses = _bits(rules, lambda rule: getattr(rule.when, field) is False)
    yield wants | refuses, lambda request: wants if tell(request) else refuses


def _names(
    rules: Sequence[Rule], wanted: Callable[[Rule], list[str]], tell: Callable[[Request], str]
) -> tuple[int, Condition]:
    by_name: dict[str, int] = {}
    for place, rule in enumerate(rules):
        for name in wanted(rule):
            by_name[name] = by_name.get(name, 0) | 1 << place
    return _bits(rules, lambda rule: bool(wanted(rule))), lambda request: by_name.get(tell(request), 0)


def _flag(rules: Sequence[Rule], flag: str, flags: Flags) -> tuple[int, Condition]:
    concerned = _bits(rules, lambda rule: rule.when.flag == flag)
    return concerned, lambda request: concerned if flags.is_on(flag, request) else 0


def _header(rules: Sequence[Rule], header: str) -> tuple[int, Condition]:
    name = header.lower().encode("latin-1", "replace")
    return _patterns(
        rules, lambda rule: rule.when.headers.get(header, ""), lambda request: identity.header(request, name), "full"
    )


def _patterns(
    rules: Sequence[Rule],
    wanted: Callable[[Rule], str],
    tell: Callable[[Request], str],
    match: Literal["search", "full"],
) -> tuple[int, Condition]:
    places = [place for place, rule in enumerate(rules) if wanted(rule)]
    concerned = sum(1 << place for place in places)
    if not places:
        return 0, lambda request: 0
    patterns = PatternSet([wanted(rules[place]) for place in places], match=match)
    return concerned, lambda request: sum(1 << places[index] for index in patterns.found(tell(request)))


def _least(rules: Sequence[Rule]) -> tuple[int, Condition]:
    """Return the condition on the fewest characters: the more there are, the more rules hold."""
    limits = sorted({rule.when.min_chars for rule in rules if rule.when.min_chars})
    holding = [_bits(rules, lambda rule, limit=limit: 0 < rule.when.min_chars <= limit) for limit in [0, *limits]]  # type: ignore[misc]
    return holding[-1], lambda request: holding[bisect_right(limits, facts.chars(request))]


def _most(rules: Sequence[Rule]) -> tuple[int, Condition]:
    """Return the condition on the most characters: the more there are, the fewer rules hold."""
    limits = sorted({rule.when.max_chars + 1 for rule in rules if rule.when.max_chars})
    holding = [_bits(rules, lambda rule, limit=limit: rule.when.max_chars >= max(limit, 1)) for limit in [0, *limits]]  # type: ignore[misc]
    return holding[0], lambda request: holding[bisect_right(limits, facts.chars(request))]
