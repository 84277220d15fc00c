"""The sources that Hydra reads YAML from: folders of choices, and packs.

Imported only when something is composed, since it imports Hydra. Sources are registered in code:
Hydra's plugin discovery finds nothing in editable installs. Every file that they load is vetted
first; only LargeForge's own `conf/` is read as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

from largeforge.errors import RecipeError
from largeforge.recipe.folders import GROUP_FOLDERS, shipped_root
from largeforge.recipe.hydra_speed import as_config, plain, speed_up
from largeforge.recipe.packs import installed, loading
from largeforge.recipe.sources import own_choices, roots
from largeforge.recipe.vetting import vet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hydra.core.config_search_path import ConfigSearchPath
    from omegaconf import Container


def register() -> None:
    """Teach Hydra the sources; to be called before composing. Calling it again does nothing."""
    Plugins.instance()
    registry = SourcesRegistry.instance()
    if Folder.scheme() in registry.types:
        return
    speed_up()
    registry.register(Folder)
    registry.register(PackSource)
    Plugins.instance().register(SearchPath)


class Folder(FileConfigSource):  # type: ignore[misc]
    """`lf-folder://GROUP:/folder`: every YAML below the folder is a choice of GROUP.

    Without a group it is a `conf/` folder: the groups are its folders.
    """

    def __init__(self, provider: str, path: str):
        self.group, _, folder = path.removeprefix("lf-folder://").partition(":")
        super().__init__(provider, path)
        self.path = folder

    @staticmethod
    def scheme() -> str:
        return "lf-folder"

    def _inside(self, config_path: str) -> str | None:
        """Return the path below the folder, or None when it is not for this source."""
        path = config_path.strip("/")
        parts = path.split("/")
        if ".." in parts or parts[0] == "hydra":
            return None
        if not self.group:
            return path
        if path == self.group:
            return ""
        return path.removeprefix(f"{self.group}/") if path.startswith(f"{self.group}/") else None

    def load_config(self, config_path: str) -> ConfigResult:
        inside = self._inside(config_path)
        if not inside:
            raise ConfigLoadError(f"Config not found: {config_path}")
        file = Path(self.path) / self._normalize_file_name(inside)
        content, package = _load(file, self.group)
        return ConfigResult(self.provider, f"lf-folder://{file}", content, {"package": package})

    def is_group(self, config_path: str) -> bool:
        inside = self._inside(config_path)
        return config_path.strip("/") == "" or (inside is not None and bool(super().is_group(inside)))

    def is_config(self, config_path: str) -> bool:
        inside = self._inside(config_path)
        is_choice = bool(inside) and (bool(self.group) or "/" in str(inside))
        return is_choice and bool(super().is_config(inside))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if self.group and config_path.strip("/") == "":
            return [self.group] if results_filter in (None, ObjectType.GROUP) else []
        inside = self._inside(config_path)
        if inside is None:
            return []
        found = FileConfigSource(self.provider, f"file://{self.path}").list(inside, results_filter)
        return [name for name in found if name != "data"]


class PackSource(Folder):
    """`lf-pack://acme`: the choices of a pack, under names of their own (`method/acme:dpo_short`)."""

    def __init__(self, provider: str, path: str):
        FileConfigSource.__init__(self, provider, path)
        self.alias = path.removeprefix("lf-pack://")

    @staticmethod
    def scheme() -> str:
        return "lf-pack"

    def _choices(self, group: str) -> Mapping[str, Path]:
        return installed.packs()[self.alias].groups.get(group.strip("/"), {})

    def load_config(self, config_path: str) -> ConfigResult:
        found = installed.choice_file(config_path)
        if found is None:
            raise ConfigLoadError(f"Config not found: {installed.external(config_path)}")
        content, package = _load(found[2], found[1])
        return ConfigResult(self.provider, f"lf-pack://{found[2]}", content, {"package": package})

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") == "" or bool(self._choices(config_path))

    def is_config(self, config_path: str) -> bool:
        found = installed.choice_file(config_path)
        return found is not None and found[0].alias == self.alias

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path.strip("/") == "":
            groups = sorted(installed.packs()[self.alias].groups)
            return groups if results_filter in (None, ObjectType.GROUP) else []
        names = [f"{self.alias}/{name}" for name in self._choices(config_path)]
        return names if results_filter in (None, ObjectType.CONFIG) else []


class SearchPath(SearchPathPlugin):  # type: ignore[misc]
    """Adds the folders of every root."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for root in roots():
            if root != shipped_root() and (root / "conf").is_dir():
                search_path.prepend(root.name, f"lf-folder://:{root / 'conf'}")
            for group, folder in GROUP_FOLDERS.items():
                if (root / folder).is_dir():
                    search_path.append(root.name, f"lf-folder://{group}:{root / folder}")
        for alias in installed.packs():
            search_path.append(alias, f"lf-pack://{alias}")


def _load(file: Path, group: str) -> tuple[Container, str | None]:
    """Return a vetted file as OmegaConf has it, and its package.

    Raises RecipeError with everything that is wrong with the file.
    """
    pack = installed.of_path(file)
    vetted = pack.vet(file) if pack else vet(file)
    problems = loading.check(pack, file, own_choices) if pack else vetted.problems
    if problems:
        raise RecipeError(problems)
    content = plain(vetted.text)
    if installed.packs():
        content = loading.rewritten(content, pack, group)
    return as_config(content), "_global_" if group == "recipe" else vetted.package
