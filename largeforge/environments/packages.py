"""Which packages an environment would import, and whether they are what its pins ask for; imports none of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

from largeforge.environments.spec import normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Closure:
    """All that some packages need, directly or not."""

    versions: dict[str, str] = field(default_factory=dict)
    """Name of each package that is there to its version."""
    problems: list[str] = field(default_factory=list)
    """What is missing or of another version than a package needs."""


def closure(pins: Mapping[str, str], paths: Sequence[str], *, own: Sequence[str]) -> Closure:
    """Follow the needs of pinned packages through the folders `paths`, of which `own` are the environment's.

    What two packages of the running environment want of each other is not looked at: it was so before.
    """
    found = Closure()
    waiting, mine = list(pins), {name for name in pins if version(name, own)}
    for name, wanted in pins.items():
        if (there := version(name, paths)) != wanted:
            found.problems.append(f"{name} is {there or 'not there'}, and {wanted} is pinned")
    while waiting:
        name = waiting.pop()
        installed = _distribution(name, paths)
        if name in found.versions or installed is None:
            continue
        found.versions[name] = installed.version
        for needed, specifier in _needs(installed):
            there = version(needed, paths)
            if {name, needed} & mine and not _fits(there, specifier):
                found.problems.append(
                    f"{name} {installed.version} needs {needed}{specifier}; {there or 'none'} is there"
                )
            waiting.append(needed)
    return found


def version(name: str, paths: Sequence[str]) -> str:
    """Return the version of a package in the first of the folders that has it; empty when none has."""
    found = _distribution(name, paths)
    return found.version if found else ""


def versions(names: Iterable[str], paths: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages that are in the folders."""
    return {name: there for name in names if (there := version(name, paths))}


def _distribution(name: str, paths: Sequence[str]) -> metadata.Distribution | None:
    """Find a package as Python's own import would: the first folder that has it counts."""
    for path in paths:
        if found := next(iter(metadata.distributions(name=name, path=[path])), None):
            return found
    return None


def _needs(installed: metadata.Distribution) -> Iterator[tuple[str, str]]:
    """Yield name and versions (`>=1,<2`) of what a package needs here, without its extras."""
    from packaging.requirements import Requirement

    for line in installed.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield normal(requirement.name), str(requirement.specifier)


def _fits(there: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return bool(there) and SpecifierSet(specifier).contains(there, prereleases=True)
