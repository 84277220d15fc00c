"""A pack's file as Hydra gets it: its names resolved, its data found, its size known.

In a pack a bare name is the pack's own choice, or LargeForge's when the pack has none of that name; to
have both is an error, since it would not be seen which one is meant. What a file brings in is counted
before Hydra follows it, so that files that include each other in circles, or each other many times,
end here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, listed, nearest
from largeforge.recipe.packs import installed, policy
from largeforge.recipe.places import short

if TYPE_CHECKING:
    from largeforge.recipe.packs.installed import Pack
    from largeforge.recipe.vetting import Choice, Vetted

Outside = Callable[[str], Mapping[str, Path]]
"""Gives the choices of a group that are of no pack."""

MAX_FILES = 1000
MAX_VALUES = 20_000
"""Files and values that one file of a pack may bring in, itself and repetitions included."""
MAX_LEVELS = 20

_KEY = re.compile(r"(?P<words>(?:(?:optional|override) +)*)/?(?P<group>[\w/-]+)(?P<package>@.*)?")
_DATA_KEY = re.compile(r"(.*_)?path|chat_template")


def check(pack: Pack, path: Path, outside: Outside) -> list[Problem]:
    """Return what is wrong with a file of a pack and with all files of the pack that it brings in."""
    pack.verified  # noqa: B018 - raises when the files are not the pinned ones
    checker = _Checker(pack, outside)
    checker.measure(pack.group_of(path), path, ())
    return checker.problems


def rewritten(content: Any, pack: Pack | None, group: str) -> Any:
    """Return a vetted file's data with names of choices as Hydra gets them, and with the pack's paths as `pack:…`."""
    if not isinstance(content, dict):
        return content
    values = {key: value for key, value in content.items() if key != "defaults"}
    if pack is not None:
        values = _with_data(values, pack.alias)
    if "defaults" in content:
        values["defaults"] = [_default(item, pack, group) for item in content["defaults"]]
    return values


class _Checker:
    """Walks from one file of a pack to the others that it brings in."""

    def __init__(self, pack: Pack, outside: Outside):
        self.pack, self.outside = pack, outside
        self.problems: list[Problem] = []
        self._sizes: dict[Path, tuple[int, int]] = {}

    def measure(self, group: str, path: Path, above: tuple[Path, ...]) -> tuple[int, int]:
        """Return how many files and values a file brings in, itself included."""
        if path in self._sizes:
            return self._sizes[path]
        self._sizes[path] = (1, 0)
        vetted = self.pack.vet(path)
        self.problems += vetted.problems
        if vetted.problems:
            return 1, 0
        self.problems += policy.unsound_defaults(vetted, short(path))
        files, values = 1, vetted.size
        for wanted_group, choice in _wanted(vetted, group):
            if len(self.problems) > policy.MAX_PROBLEMS:
                break
            child = self._resolve(wanted_group, choice)
            if child is None:
                continue
            if child in (*above, path) or len(above) > MAX_LEVELS:
                self.problems.append(
                    Problem(
                        "defaults",
                        f"leads back to this file, or is more than {MAX_LEVELS} files deep.",
                        choice.where,
                        repr(choice.name),
                    )
                )
                break
            more_files, more_values = self.measure(wanted_group, child, (*above, path))
            files, values = files + more_files, values + more_values
        if files > MAX_FILES or values > MAX_VALUES:
            rule = f"brings in {files} files with {values} values; at most {MAX_FILES} and {MAX_VALUES} are composed."
            self.problems.append(Problem("defaults", rule, short(path)))
            files, values = 1, 0
        self._sizes[path] = (files, values)
        return files, values

    def _resolve(self, group: str, choice: Choice) -> Path | None:
        """Return the pack's own file of a choice; None for one of LargeForge's, or one with a problem."""
        own, ours = self.pack.groups.get(group, {}), self.outside(group)
        if choice.name in own:
            if choice.name not in ours:
                return own[choice.name]
            rule = f"is a {group} of this pack and one of {short(ours[choice.name])}: give the pack's another name."
            self.problems.append(Problem(group, rule, choice.where, repr(choice.name)))
        elif choice.name not in ours:
            names = [*own, *ours]
            rule = f"no such {group} in the pack or in LargeForge; there is: {listed(names)}."
            hint = nearest(choice.name[:80], names)
            self.problems.append(Problem(group, rule, choice.where, repr(choice.name), hint))
        return None


def _wanted(vetted: Vetted, group: str) -> list[tuple[str, Choice]]:
    """Return group and choice of every entry of a file's defaults; a bare entry is of the file's own group."""
    found = [(choice.group.lstrip("/"), choice) for choice in vetted.choices]
    for choice in vetted.paths:
        first, _, rest = choice.name.lstrip("/").partition("/")
        absolute = choice.name.startswith("/") and rest
        inner = type(choice)(first if absolute else group, rest if absolute else choice.name.lstrip("/"), choice.where)
        found.append((inner.group, inner))
    return found


def _default(item: Any, pack: Pack | None, group: str) -> Any:
    if isinstance(item, str):
        if item == "_self_":
            return item
        first, _, rest = item.lstrip("/").partition("/")
        if item.startswith("/") and rest:
            return f"/{first}/{_name(rest, pack, first)}"
        return _name(item, pack, group)
    if isinstance(item, dict) and len(item) == 1:
        key, names = next(iter(item.items()))
        match = _KEY.fullmatch(str(key))
        chosen = match["group"] if match else ""
        return {key: [_name(n, pack, chosen) for n in names] if isinstance(names, list) else _name(names, pack, chosen)}
    return item


def _name(name: Any, pack: Pack | None, group: str) -> Any:
    if not isinstance(name, str):
        return name
    if pack is None:
        return installed.internal(name)
    return installed.internal(f"{pack.alias}/{name}") if name in pack.groups.get(group, {}) else name


def _with_data(value: Any, alias: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_data(item, alias, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_data(item, alias, key) for item in value]
    if isinstance(value, str) and value.startswith("recipe:") and _DATA_KEY.fullmatch(key):
        return f"{installed.DATA}{alias}/{value.removeprefix('recipe:')}"
    return value
