"""Find where a key of a composed recipe was written: file and line, or the command line.

Hydra merges many files and forgets which one a value came from. The list of merged files is
kept here, and the files are read again, with line numbers, only when something is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Source:
    """One merged file, and the key below which its content stands."""

    path: Path
    package: str


@dataclass(frozen=True)
class Places:
    """All sources of one composition, the last one winning."""

    sources: tuple[Source, ...] = ()
    overrides: tuple[str, ...] = ()
    _trees: dict[Path, Any] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of(loader: Any, overrides: list[str]) -> Places:
        """Ask Hydra's config loader which files it merged, in order."""
        from hydra.types import RunMode

        defaults = loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults
        found = []
        for entry in defaults:
            path = _file_of(loader, entry.config_path)
            if path is not None and not str(entry.package or "").startswith("hydra"):
                found.append(Source(path, entry.package or ""))
        return Places(tuple(found), tuple(overrides))

    @property
    def recipe_folder(self) -> str:
        """The folder of recipes that the chosen recipe came from, or an empty string."""
        for source in self.sources:
            for parent in source.path.parents:
                if parent.name == "recipes":
                    return str(parent)
        return ""

    def of_key(self, key: str) -> str:
        """Return `command line` or `file:line` for a dotted key, or the place of its nearest parent."""
        parts = key.split(".")
        for depth in range(len(parts), 0, -1):
            place = self._exact(parts[:depth])
            if place:
                return place
        return ""

    def _exact(self, parts: list[str]) -> str:
        key = ".".join(parts)
        for override in self.overrides:
            name = override.lstrip("+~").partition("=")[0]
            if name == key or name.startswith(f"{key}."):
                return "command line"
        for source in reversed(self.sources):
            line = self._line(source, parts)
            if line:
                return f"{_short(source.path)}:{line}"
        return ""

    def _line(self, source: Source, parts: list[str]) -> int:
        package = source.package.split(".") if source.package else []
        if parts[: len(package)] != package or len(parts) == len(package):
            return 0
        if source.path not in self._trees:
            try:
                self._trees[source.path] = yaml.compose(source.path.read_text(encoding="utf-8"))
            except (OSError, yaml.YAMLError):
                self._trees[source.path] = None
        return _find(self._trees[source.path], parts[len(package) :])


def _find(node: Any, parts: list[str]) -> int:
    """Return the 1-based line of the key path in a YAML node tree, or 0."""
    line = 0
    for part in parts:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                return 0
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return 0
    return line


def _file_of(loader: Any, config_path: str | None) -> Path | None:
    if not config_path:
        return None
    result = loader.repository.load_config(config_path)
    if result is None:
        return None
    scheme, _, folder = str(result.path).partition("://")
    relative = config_path.partition("/")[2] if scheme == "lf-group" else config_path
    path = Path(folder) / f"{relative}.yaml"
    return path if path.is_file() else None


def _short(path: Path) -> str:
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
