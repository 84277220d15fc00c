"""Where YAML comes from: `conf/`, `recipes/` and `hosts/` of LargeForge and of the working directory.

`+recipe=NAME` finds `recipes/NAME.yaml` although the folder is not called `recipe`: a config
source with its own scheme maps one group onto one folder. Sources are registered in code,
since Hydra's plugin discovery finds nothing in editable installs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import largeforge

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath

GROUP_FOLDERS = {"recipe": "recipes", "hosts": "hosts"}
"""Config group to the folder, beside `conf/`, that holds its choices."""


def shipped_root() -> Path:
    """Return the folder that holds LargeForge's own `conf/`, `recipes/` and `hosts/`."""
    package = Path(largeforge.__file__).resolve().parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent


def roots() -> list[Path]:
    """Return the folders to search, the working directory's own before LargeForge's."""
    found = [shipped_root()]
    here = Path.cwd()
    if here != found[0] and any((here / name).is_dir() for name in ("conf", *GROUP_FOLDERS.values())):
        found.insert(0, here)
    return found


def recipe_files() -> dict[str, Path]:
    """Return all recipes by name; one in the working directory hides a shipped one."""
    files: dict[str, Path] = {}
    for root in reversed(roots()):
        folder = root / GROUP_FOLDERS["recipe"]
        for path in sorted(folder.rglob("*.yaml")):
            if "data" not in path.relative_to(folder).parts:
                files[path.relative_to(folder).with_suffix("").as_posix()] = path
    return dict(sorted(files.items()))


def description(path: Path) -> str:
    """Return the first comment line of a recipe that is not a Hydra directive."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""


def register() -> None:
    """Teach Hydra the folders; to be called before composing. Calling it again does nothing."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.object_type import ObjectType
    from hydra.core.plugins import Plugins
    from hydra.plugins.config_source import ConfigLoadError, ConfigResult
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    Plugins.instance()
    registry = SourcesRegistry.instance()
    if "lf-group" in registry.types:
        return

    class GroupFolder(FileConfigSource):  # type: ignore[misc]
        """`lf-group://GROUP:/folder`: every YAML below the folder is a choice of GROUP."""

        def __init__(self, provider: str, path: str):
            rest = path.removeprefix("lf-group://")
            self.group, _, folder = rest.partition(":")
            super().__init__(provider, path)
            self.path = folder

        @staticmethod
        def scheme() -> str:
            return "lf-group"

        def _inside(self, config_path: str) -> str | None:
            path = config_path.strip("/")
            if path == self.group:
                return ""
            return path.removeprefix(f"{self.group}/") if path.startswith(f"{self.group}/") else None

        def load_config(self, config_path: str) -> ConfigResult:
            inside = self._inside(config_path)
            if not inside:
                raise ConfigLoadError(f"Config not found: {config_path}")
            return super().load_config(inside)

        def is_group(self, config_path: str) -> bool:
            inside = self._inside(config_path)
            return config_path.strip("/") == "" or (inside is not None and bool(super().is_group(inside)))

        def is_config(self, config_path: str) -> bool:
            inside = self._inside(config_path)
            return bool(inside) and bool(super().is_config(inside))

        def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
            if config_path.strip("/") == "":
                return [self.group] if results_filter in (None, ObjectType.GROUP) else []
            inside = self._inside(config_path)
            if inside is None:
                return []
            found = FileConfigSource(self.provider, f"file://{self.path}").list(inside, results_filter)
            return [name for name in found if name != "data"]

    class SearchPath(SearchPathPlugin):  # type: ignore[misc]
        """Adds the folders of every root."""

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for root in roots():
                if root != shipped_root() and (root / "conf").is_dir():
                    search_path.append(root.name, f"file://{root / 'conf'}")
                for group, folder in GROUP_FOLDERS.items():
                    if (root / folder).is_dir():
                        search_path.append(root.name, f"lf-group://{group}:{root / folder}")

    registry.register(GroupFolder)
    Plugins.instance().register(SearchPath)
