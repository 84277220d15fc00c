"""Whether experts stand in only for experts that do the same: nobody who embeds can write an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem

if TYPE_CHECKING:
    from largeforge.recipe.schema import Topology


def check(topology: Topology) -> Iterator[Problem]:
    """Yield which experts are named for something that their `task` is not."""
    experts = topology.experts
    writers = [name for name, expert in experts.items() if expert.task == "generate"]
    fallback = experts.get(topology.fallback)
    if fallback is not None and fallback.task != "generate" and writers:
        rule = f"must be an expert that writes answers (task: generate): {', '.join(writers)}."
        yield Problem("topology.fallback", rule, given=topology.fallback)
    for name, expert in experts.items():
        key = f"topology.experts.{name}"
        if expert.keywords and expert.task != "generate":
            yield Problem(f"{key}.keywords", f"choose who writes an answer, and {name} has task: {expert.task}.")
        shadow = [expert.shadow.expert] if expert.shadow else []
        named = {"fallback": expert.fallback or [], "variants": list(expert.variants), "shadow": shadow}
        for field, others in named.items():
            for other in others:
                if other in experts and experts[other].task != expert.task:
                    rule = f"{other} has task: {experts[other].task}, and {name} has task: {expert.task}."
                    yield Problem(f"{key}.{field}", rule)
