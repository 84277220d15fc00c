"""Resolve `${key}`: one value of a recipe that repeats another.

OmegaConf could do it, but its resolvers read the environment, and references to references can
expand without end. Here a reference is one step to another key, and the result stays small.
"""

from __future__ import annotations

import re
from typing import Any

from largeforge.errors import Problem, nearest
from largeforge.recipe.vetting import INTERPOLATION, MAX_NODES

MAX_HINTS = 5
"""Problems for which the nearest key is looked for: among all keys that takes a while."""

_REFERENCE = re.compile(r"(?P<before>[^$]*)\$\{(?P<dots>\.*)(?P<key>[\w.-]+)\}(?P<after>[^$]*)")


def resolve(raw: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values with every reference replaced, and what is wrong with the others (without places)."""
    resolver = _Resolver(raw)
    values = resolver.visit(raw, ())
    return values, resolver.problems


class _Resolver:
    def __init__(self, raw: dict[str, Any]):
        self.raw = raw
        self.problems: list[Problem] = []
        self.copied = 0

    def visit(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, dict):
            return {key: self.visit(value, (*path, str(key))) for key, value in node.items()}
        if isinstance(node, list):
            return [self.visit(value, (*path, str(index))) for index, value in enumerate(node)]
        return self._replaced(node, path) if _refers(node) else node

    def _replaced(self, text: str, path: tuple[str, ...]) -> Any:
        match = _REFERENCE.fullmatch(text)
        if match is None or not INTERPOLATION.fullmatch(text):
            rule = "only one plain reference to another key is allowed, such as ${name}: a recipe is data."
            return self._problem(path, rule, text)
        if match["before"].endswith("\\"):
            return text.replace("\\${", "${")
        above = path[: len(path) - len(match["dots"])] if match["dots"] else ()
        parts = [*above, *match["key"].split(".")]
        try:
            target = _at(self.raw, parts)
        except KeyError:
            hint = nearest(match["key"], _keys(self.raw)) if len(self.problems) < MAX_HINTS else ""
            return self._problem(path, f"there is no key {'.'.join(parts)}.", text, hint)
        size, refers = _size(target)
        self.copied += size
        if refers:
            return self._problem(path, f"{match['key']} itself refers to another key: write the value out.", text)
        if self.copied > MAX_NODES:
            return self._problem(path, f"the references of this recipe copy more than {MAX_NODES} values.", text)
        if not match["before"] and not match["after"]:
            return target
        if isinstance(target, dict | list):
            return self._problem(path, f"{match['key']} is a section and cannot stand within text.", text)
        return f"{match['before']}{target}{match['after']}"

    def _problem(self, path: tuple[str, ...], rule: str, text: str, hint: str = "") -> None:
        given = repr(text) if len(text) <= 80 else f"{text[:77]!r}..."
        self.problems.append(Problem(".".join(path), rule, given=given, nearest=hint))


def _refers(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _at(node: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            raise KeyError(part)
    return node


def _size(node: Any) -> tuple[int, bool]:
    """Return how many values there are in a node, and whether one of them is a reference."""
    if not isinstance(node, dict | list):
        return 1, _refers(node)
    sizes = [_size(value) for value in (node.values() if isinstance(node, dict) else node)]
    return 1 + sum(size for size, _ in sizes), any(refers for _, refers in sizes)


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    names = {key: f"{prefix}.{key}" if prefix else str(key) for key in node}
    return [*names.values(), *(name for key, value in node.items() for name in _keys(value, names[key]))]
