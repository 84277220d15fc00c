"""Find where a key of a composed recipe was written: file and line, or the command line.

Hydra merges many files and forgets which one a value came from. The list of merged files is
asked for, and the files are read again, with line numbers, only when something is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND_LINE = "command line"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """One merged file, and the key below which its content stands."""

    path: Path
    package: str
    parent: str = ""
    """What brought it in, as Hydra names configs."""


@dataclass
class Places:
    """All sources of one composition, the last one winning."""

    overrides: tuple[str, ...] = ()
    recipe: Path | None = None
    """The recipe's file: where a key belongs that nobody wrote."""
    find_sources: Callable[[], tuple[Source, ...]] = tuple
    """Called once, when the first place is asked for."""
    _trees: dict[Path, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The merged files, in order."""
        return self.find_sources()

    @property
    def default(self) -> str:
        """The recipe's file, or the command line where there is none."""
        return short(self.recipe) if self.recipe else COMMAND_LINE

    def of_key(self, key: str) -> str:
        """Return `command line` or `file:line` for a dotted key, or the place of its nearest parent."""
        parts = key.split(".")
        for depth in range(len(parts), 0, -1):
            place = self._exact(parts[:depth])
            if place or self._given_below(parts[:depth]):
                return place or COMMAND_LINE
        return self.default

    def clash(self) -> tuple[str, str]:
        """Return key and place where a file has a list for what an earlier one has as a section, or the reverse."""
        kinds: dict[str, type] = {}
        for source in self.sources:
            for key, node in _sections(self._tree(source.path), source.package):
                if kinds.setdefault(key, type(node)) is not type(node):
                    return key, f"{short(source.path)}:{node.start_mark.line + 1}"
        return "", self.default

    def _exact(self, parts: list[str]) -> str:
        if self._given(parts):
            return COMMAND_LINE
        for source in reversed(self.sources):
            line = self._line(source, parts)
            if line:
                return f"{short(source.path)}:{line}"
        return ""

    def _given(self, parts: list[str]) -> bool:
        """Tell whether an override gives this key, by its name or within `parent={key:…}`."""
        key = ".".join(parts)
        for override in self.overrides:
            name, _, value = override.lstrip("+~").partition("=")
            name = name.rpartition("@")[2]
            if name == key or (key.startswith(f"{name}.") and parts[-1] in value):
                return True
        return False

    def _given_below(self, parts: list[str]) -> bool:
        return any(override.lstrip("+~").startswith(f"{'.'.join(parts)}.") for override in self.overrides)

    def _line(self, source: Source, parts: list[str]) -> int:
        package = source.package.split(".") if source.package else []
        if parts[: len(package)] != package or len(parts) == len(package):
            return 0
        return _find(self._tree(source.path), parts[len(package) :])

    def _tree(self, path: Path) -> Any:
        if path not in self._trees:
            try:
                self._trees[path] = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_LOADER)
            except (OSError, ValueError, yaml.YAMLError):
                self._trees[path] = None
        return self._trees[path]


def places_of(loader: Any, overrides: Sequence[str], recipe: Path | None) -> Places:
    """Return the places of what Hydra's config loader composes from the overrides."""
    return Places(tuple(overrides), recipe, lambda: _merged(loader, list(overrides)))


def short(path: Path) -> str:
    """Return a path as a person in the working directory would type it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def _merged(loader: Any, overrides: list[str]) -> tuple[Source, ...]:
    from hydra.types import RunMode

    found = []
    for entry in loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults:
        path = _file_of(loader, entry.config_path)
        if path is not None and not str(entry.package or "").startswith("hydra"):
            found.append(Source(path, entry.package or "", str(entry.parent or "")))
    return tuple(found)


def _file_of(loader: Any, config_path: str | None) -> Path | None:
    result = loader.repository.load_config(config_path) if config_path else None
    if result is None:
        return None
    scheme, _, place = str(result.path).partition("://")
    path = Path(place) if scheme in ("lf-folder", "lf-pack") else Path(place) / f"{config_path}.yaml"
    return path if path.is_file() else None


def _find(node: Any, parts: list[str]) -> int:
    """Return the 1-based line of the key path in a YAML node tree, or 0; a key may itself have dots."""
    if isinstance(node, yaml.SequenceNode) and parts[0].isdigit() and int(parts[0]) < len(node.value):
        item = node.value[int(parts[0])]
        return _find(item, parts[1:]) if len(parts) > 1 else item.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        return 0
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for key, value in node.value:
            if key.value == name:
                return _find(value, parts[length:]) if length < len(parts) else key.start_mark.line + 1
    return 0


def _sections(node: Any, prefix: str) -> list[tuple[str, Any]]:
    """Return all sections and lists of a file by their key, the outer ones first."""
    found = [(prefix, node)] if prefix and isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if prefix or key.value != "defaults":
                found += _sections(value, f"{prefix}.{key.value}" if prefix else str(key.value))
    return found
