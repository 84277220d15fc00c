"""Where YAML comes from: `conf/`, `recipes/` and `hosts/` of LargeForge and of the working directory.

`+recipe=NAME` finds `recipes/NAME.yaml` although the folder is not called `recipe`: a config
source with its own scheme maps one group onto one folder. Sources are registered in code,
since Hydra's plugin discovery finds nothing in editable installs. Every file that they load is
vetted first; only LargeForge's own `conf/` is read as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.recipe.folders import GROUP_FOLDERS, shipped_root
from largeforge.recipe.hydra_speed import as_config, plain, speed_up
from largeforge.recipe.packs import installed, loading
from largeforge.recipe.places import short
from largeforge.recipe.vetting import Choice, vet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hydra.core.config_search_path import ConfigSearchPath
    from omegaconf import Container


def roots() -> list[Path]:
    """Return the folders to search, the working directory's own before LargeForge's."""
    found = [shipped_root()]
    here = Path.cwd()
    if here != found[0] and any((here / name).is_dir() for name in ("conf", *GROUP_FOLDERS.values())):
        found.insert(0, here)
    return found


def groups() -> list[str]:
    """Return the names of all groups that something can be chosen from."""
    found = set(GROUP_FOLDERS)
    for root in roots():
        conf = root / "conf"
        found.update(folder.relative_to(conf).as_posix() for folder in conf.rglob("*") if folder.is_dir())
    for pack in installed.packs().values():
        found.update(pack.groups)
    return sorted(group for group in found if group.partition("/")[0] != "hydra")


def choices(group: str) -> dict[str, Path]:
    """Return the choices of a group by name, those of packs with the pack's name before theirs.

    Raises RecipeError when a folder of one's own has the name of a pack: neither hides the other.
    """
    files = own_choices(group)
    for pack in installed.packs().values():
        same = next((path for name, path in files.items() if name.startswith(f"{pack.alias}/")), None)
        if same is not None:
            rule = "is the name of a pack and of this folder: name one of them otherwise."
            raise RecipeError([Problem(f"{group} {pack.alias}", rule, short(same.parent))])
    for pack in installed.packs().values():
        files.update({f"{pack.alias}/{name}": path for name, path in pack.groups.get(group, {}).items()})
    return dict(sorted(files.items()))


def own_choices(group: str) -> dict[str, Path]:
    """Return the choices of a group that are of no pack; one in the working directory hides a shipped one."""
    files: dict[str, Path] = {}
    for root in reversed(roots()):
        folder = root / GROUP_FOLDERS[group] if group in GROUP_FOLDERS else root / "conf" / group
        for path in sorted(folder.rglob("*.yaml")):
            name = path.relative_to(folder)
            if "data" not in name.parts and path.is_file():
                files[name.with_suffix("").as_posix()] = path
    return dict(sorted(files.items()))


def recipe_name(typed: str) -> str:
    """Return a recipe's name for what was typed: `recipes/my.yaml` means `my`."""
    return typed.removeprefix("./").removeprefix(f"{GROUP_FOLDERS['recipe']}/").removesuffix(".yaml")


def recipe_folder(recipe: Path | None) -> Path:
    """Return the folder that the `recipe:` paths of a recipe file are relative to."""
    if recipe and (pack := installed.of_path(recipe)):
        return pack.folder / GROUP_FOLDERS["recipe"]
    folders = [root / GROUP_FOLDERS["recipe"] for root in roots()]
    return next((folder for folder in folders if recipe and recipe.is_relative_to(folder)), folders[-1])


def check_choices(wanted: Iterable[Choice]) -> list[Problem]:
    """Return a problem for each choice that does not exist."""
    known = groups()
    found: dict[str, dict[str, Path]] = {}
    problems = []
    for choice in wanted:
        group = choice.group.lstrip("/")
        if group not in known:
            rule = f"no such group; there is: {listed(known)}."
            problems.append(Problem(group, rule, choice.where, nearest=nearest(group, known)))
            continue
        names = found[group] = found.get(group) or choices(group)
        pack = installed.of_choice(choice.name)
        if pack is not None and pack.problem:
            problems.append(Problem(group, f"{pack.problem}.", choice.where, repr(choice.name)))
        elif pack is not None and choice.name in names:
            problems += loading.check(pack, names[choice.name], own_choices)
        elif choice.name not in names:
            rule = f"no such {group}; there is: {listed(names, 20)}."
            problems.append(Problem(group, rule, choice.where, repr(choice.name), nearest(choice.name, names)))
    return problems


def check_file(path: Path) -> list[Problem]:
    """Return what is wrong with a recipe's file before it is composed: its form, and choices that do not exist."""
    if pack := installed.of_path(path):
        vetted, problems = pack.vet(path), loading.check(pack, path, own_choices)
    else:
        vetted = vet(path)
        problems = list(vetted.problems)
    if vetted.package not in (None, "_global_"):
        problems.append(Problem("@package", "of a recipe is _global_.", short(path), repr(vetted.package)))
    if pack:
        return problems
    for key, _ in vetted.root.value if isinstance(vetted.root, yaml.MappingNode) else ():
        if key.value == "packs":
            rule = "stands in largeforge.yaml, beside the folder of recipes: python -m largeforge packs add."
            problems.append(Problem("packs", rule, f"{short(path)}:{key.start_mark.line + 1}"))
    for choice in vetted.choices:
        if not choice.group.startswith("/"):
            problems.append(Problem("defaults", f"a group begins with a slash: `/{choice.group}`.", choice.where))
        elif choice.group == "/recipe":
            problems.append(Problem("recipe", f"to build on a recipe, write `- {choice.name}`.", choice.where))
    wanted = [choice for choice in vetted.choices if choice.group.startswith("/")]
    bases = [Choice("recipe", path.name, path.where) for path in vetted.paths if installed.of_choice(path.name)]
    return [*problems, *check_choices([*wanted, *bases])]


def description(path: Path) -> str:
    """Return the first comment line of a recipe that is not an instruction to Hydra or to an editor."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        text = line.lstrip("#\ufeff ").strip()
        if (
            line.lstrip("\ufeff").startswith("#")
            and text
            and not text.startswith(("@package", "yaml-language-server:"))
        ):
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
    if "lf-folder" in registry.types:
        return

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

    speed_up()
    registry.register(Folder)
    registry.register(PackSource)
    Plugins.instance().register(SearchPath)


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
