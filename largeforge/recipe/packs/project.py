"""`largeforge.yaml`: the packs that a working directory uses.

    packs:
      - {git: https://example.com/acme/recipes, rev: v1.2, as: acme}

It stands in the working directory, beside `recipes/` and `conf/`, and is read before a recipe is
composed, since the names in a recipe mean nothing until the packs are known.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from largeforge.artifacts import write_text
from largeforge.errors import PackError, Problem, RecipeError, listed, nearest
from largeforge.recipe.packs import address
from largeforge.recipe.places import short
from largeforge.recipe.vetting import vet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "largeforge.yaml"
MAX_PACKS = 50

_KEYS = ("git", "rev", "as")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_RESERVED = {
    "hub",
    "path",
    "run",
    "registry",
    "tiny",
    "job",
    "recipe",
    "pack",
    "data",
    "hydra",
    "conf",
    "recipes",
    "hosts",
}
"""Words that have a meaning of their own before a `:` or as a folder."""

_NEW = "# The packs that are used here, pinned in packs.lock. See `python -m largeforge packs --help`.\npacks:\n"


@dataclass(frozen=True)
class Entry:
    """One pack that is wanted."""

    alias: str
    git: str
    rev: str
    where: str = ""


def read(folder: Path) -> list[Entry]:
    """Return the packs that `largeforge.yaml` of a folder names; none when there is no such file.

    Raises RecipeError with everything that is wrong with the file.
    """
    path = folder / NAME
    if not path.exists():
        return []
    vetted = vet(path)
    if vetted.problems:
        raise RecipeError(vetted.problems)
    reader = _Reader(path)
    entries = reader.entries(yaml.compose(vetted.text, Loader=yaml.SafeLoader))
    if reader.problems:
        raise RecipeError(reader.problems)
    return entries


def problem_of_alias(alias: str) -> str:
    """Return what is wrong with the name that a pack gets here, or an empty string."""
    if alias in _RESERVED:
        return f"is a word with a meaning of its own; none of {', '.join(sorted(_RESERVED))}"
    return "" if _ALIAS.fullmatch(alias) else "a name has lowercase letters, digits, - and _, and begins with a letter"


def add(folder: Path, entry: Entry) -> None:
    """Write one more pack into `largeforge.yaml` and leave the rest of the file as it is.

    Raises PackError when the file's form leaves no place for it; nothing is written then.
    """
    path = folder / NAME
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    line = f"{{git: {_quoted(entry.git)}, rev: {_quoted(entry.rev)}, as: {entry.alias}}}"
    node = _packs_node(text)
    if node is None:
        separator = "" if not text or text.endswith("\n") else "\n"
        changed = f"{text}{separator}{_NEW if not text else 'packs:' + chr(10)}  - {line}\n"
    elif not node.value and re.search(r"^packs:.*$", text, re.MULTILINE):
        changed = re.sub(r"^packs:.*$", lambda _: f"packs:\n  - {line}", text, count=1, flags=re.MULTILINE)
    elif isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        lines = text.splitlines(keepends=True)
        last = _item_lines(node, len(node.value) - 1)[1]
        if not lines[last - 1].endswith("\n"):
            lines[last - 1] += "\n"
        changed = "".join([*lines[:last], f"{' ' * node.start_mark.column}- {line}\n", *lines[last:]])
    else:
        raise PackError(f"{short(path)}: `packs` is not a list with one pack a line; write into it yourself: {line}")
    _replace(folder, text, changed, [*read(folder), entry])


def remove(folder: Path, alias: str) -> None:
    """Take a pack out of `largeforge.yaml` and leave the rest of the file as it is.

    Raises PackError when the file's form does not allow that; nothing is written then.
    """
    path = folder / NAME
    entries = read(folder)
    index = [entry.alias for entry in entries].index(alias)
    text = path.read_text(encoding="utf-8")
    node = _packs_node(text)
    if node is None or node.flow_style:
        raise PackError(f"{short(path)}: `packs` is not a list with one pack a line; take {alias} out yourself")
    lines = text.splitlines(keepends=True)
    first, last = _item_lines(node, index)
    del lines[first:last]
    if len(entries) == 1:
        key_line = next(number for number in range(first - 1, -1, -1) if lines[number].startswith("packs:"))
        lines[key_line] = "packs: []\n" if lines[key_line].strip() == "packs:" else lines[key_line]
    _replace(folder, text, "".join(lines), [entry for entry in entries if entry.alias != alias])


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder while its `largeforge.yaml` and `packs.lock` are read and written."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Reader:
    def __init__(self, path: Path):
        self.path = path
        self.problems: list[Problem] = []

    def entries(self, root: Any) -> list[Entry]:
        found: list[Entry] = []
        for key, value in root.value if root else ():
            if key.value != "packs":
                self._problem(key, key.value, "unknown key; there is: packs.", nearest=nearest(key.value, ["packs"]))
            elif value.tag.endswith(":null"):
                continue
            elif not isinstance(value, yaml.SequenceNode) or len(value.value) > MAX_PACKS:
                rule = f"must be a list of at most {MAX_PACKS} packs: {{git: …, rev: …, as: …}}."
                self._problem(value, "packs", rule)
            else:
                found = [entry for item in value.value if (entry := self._entry(item))]
        aliases = [entry.alias for entry in found]
        for alias in sorted({alias for alias in aliases if aliases.count(alias) > 1}):
            self.problems.append(Problem(f"packs {alias}", "two packs have this name.", short(self.path)))
        return found

    def _entry(self, node: Any) -> Entry | None:
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, "packs", "a pack is a section: {git: …, rev: …, as: …}.")
            return None
        given = {key.value: value for key, value in node.value}
        before = len(self.problems)
        for key in given.keys() - set(_KEYS):
            self._problem(node, f"packs.{key}", f"unknown key; there is: {listed(_KEYS)}.", nearest=nearest(key, _KEYS))
        for key, check in (("git", address.problem_of), ("rev", address.problem_of_rev), ("as", problem_of_alias)):
            value = given.get(key)
            if not isinstance(value, yaml.ScalarNode) or not value.value:
                self._problem(value or node, f"packs.{key}", "is required, as text.")
            elif rule := check(value.value):
                self._problem(value, f"packs.{key}", f"{rule}.", given="" if key == "git" else repr(value.value[:80]))
        if len(self.problems) > before:
            return None
        return Entry(given["as"].value, given["git"].value, given["rev"].value, self._where(node))

    def _problem(self, node: Any, key: str, rule: str, *, given: str = "", nearest: str = "") -> None:
        self.problems.append(Problem(key, rule, self._where(node), given, nearest))

    def _where(self, node: Any) -> str:
        return f"{short(self.path)}:{node.start_mark.line + 1}"


def _packs_node(text: str) -> Any:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return next((value for key, value in root.value if key.value == "packs"), None) if root else None


def _item_lines(node: Any, index: int) -> tuple[int, int]:
    """Return the first line of an item of a block list, and the line after its last one."""
    return node.value[index].start_mark.line, _last_line(node.value[index]) + 1


def _last_line(node: Any) -> int:
    """Return where a node ends; a block of keys ends with its last value, and not where the next thing begins."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1])
    return int(node.end_mark.line)


def _replace(folder: Path, before: str, after: str, wanted: list[Entry]) -> None:
    """Write the file when it says what it should, and otherwise leave it as it was."""
    path = folder / NAME
    write_text(path, after)
    try:
        fine = [(e.alias, e.git, e.rev) for e in read(folder)] == [(e.alias, e.git, e.rev) for e in wanted]
    except (RecipeError, yaml.YAMLError):
        fine = False
    if not fine:
        write_text(path, before) if before else path.unlink()
        raise PackError(f"{short(path)}: cannot be changed without touching the rest of it; edit it yourself")


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z][\w./:@~+-]*[\w/]", text) else "'" + text.replace("'", "''") + "'"
