"""Keys of recipes that were called otherwise once: locks and registered models of then are read as if written today.

A rename is one line in `RENAMED`. Files stay as they were written, and so do their digests: only what is read of a
lock is translated, after it was held against its digest. What is typed today is not: it is told the new name.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RENAMED: dict[str, str] = {
    "deploy.rollout": "deploy.update",
    "rollout.sticky": "topology.sticky",
    "export.waiting_per_server": "autoscaling.waiting",
    "method.rewards.*.schema_path": "method.rewards.*.definition",
    "evaluation.*.rewards.*.schema_path": "evaluation.*.rewards.*.definition",
    "hosts.hosts.*.workdir": "",
}
"""What a key was called, to what it is called now, or nothing where it is gone; `*` is any one name, the same ones on
both sides. Those of `method` and `evaluation` also hold below `jobs.*`."""

SPLIT: dict[str, dict[bool, Any]] = {
    "deploy.tls": {False: {"servers": "off"}, True: {"servers": "self_made"}},
    "deploy.firewall": {False: "off", True: "nftables"},
}
"""Keys that were yes or no, to what each means now."""

_OF_JOBS = ("method.", "evaluation.")


def lock(locked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lock with its recipe in the keys of today; all else, its digest too, is what was written."""
    return {**locked, "recipe": recipe(locked["recipe"])}


def recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved recipe in the keys of today.

    A key that is there by both names, and says something by both, stays: it is for validation to refuse.
    """
    found: dict[str, Any] = copy.deepcopy(dict(values))
    for old, new in _all():
        for path in list(_matching(found, old)):
            _move(found, path, _filled(new, old, path))
    for key, meanings in SPLIT.items():
        for path in list(_matching(found, tuple(key.split(".")))):
            section = _section(found, path)
            if isinstance(section[path[-1]], bool):
                section[path[-1]] = copy.deepcopy(meanings[section[path[-1]]])
    return found


def told(path: Sequence[str | int]) -> str:
    """Return what to say of an unknown key that was one before; nothing of any other."""
    parts = tuple(str(part) for part in path)
    for old, new in _all():
        if len(old) == len(parts) and all(mark in ("*", part) for mark, part in zip(old, parts, strict=True)):
            now = ".".join(_filled(new, old, parts))
            return f"unknown key; it is {now} now." if now else "unknown key; there is no such thing any more."
    return ""


def _all() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the parts of each renamed key, and of what it is called now."""
    for old, new in RENAMED.items():
        for prefix in ("", "jobs.*.") if old.startswith(_OF_JOBS) else ("",):
            yield tuple(f"{prefix}{old}".split(".")), tuple(f"{prefix}{new}".split(".")) if new else ()


def _matching(node: Any, pattern: Sequence[str], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths in nested sections that a pattern matches."""
    if not pattern:
        yield above
    elif isinstance(node, dict):
        for name in node if pattern[0] == "*" else (pattern[0],):
            if name in node:
                yield from _matching(node[name], pattern[1:], (*above, name))


def _filled(new: Sequence[str], old: Sequence[str], path: Sequence[str]) -> tuple[str, ...]:
    """Return the new path with the names that stood for the stars of the old one."""
    names = (part for mark, part in zip(old, path, strict=True) if mark == "*")
    return tuple(next(names) if mark == "*" else mark for mark in new)


def _move(values: dict[str, Any], old: Sequence[str], new: Sequence[str]) -> None:
    section = _section(values, old)
    value = section[old[-1]]
    if not new or value in ("", {}, []):
        del section[old[-1]]
        return
    target = _section(values, new)
    if not target.get(new[-1]):
        target[new[-1]] = section.pop(old[-1])


def _section(values: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Return the section that a path ends in, made where it is not there."""
    node = values
    for part in path[:-1]:
        node = node.setdefault(part, {})
    return node
