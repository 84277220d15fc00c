"""The packs of the working directory, and their choices.

A choice of a pack is `acme/support_bot` for people and `acme:support_bot` for Hydra, which would take a
slash for a folder of the group. A pack that is not there, or not as `packs.lock` says, has no choices
but a problem, so that recipes without it can still be composed.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import PackError, Problem, RecipeError
from largeforge.recipe.packs import cache, lockfile, manifest, project, tree
from largeforge.recipe.vetting import Vetted, vet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA = "pack:"
"""Where a dataset's path begins that lies in a pack: `pack:acme/data/rows.jsonl`."""

_FETCH = "python -m largeforge packs fetch"
_instead: ContextVar[Mapping[str, Pack] | None] = ContextVar("instead", default=None)


@dataclass(frozen=True)
class Pack:
    """One pack under the name that it has here."""

    alias: str
    folder: Path
    """Where its files lie."""
    pinned: lockfile.Pinned | None = None
    problem: str = ""
    """Why its choices cannot be used."""
    _vetted: dict[Path, Vetted] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def groups(self) -> dict[str, dict[str, Path]]:
        """The pack's choices by group and name, without the pack's own name."""
        if self.problem:
            return {}
        found = {"recipe": _choices(self.folder / "recipes")}
        conf = self.folder / "conf"
        for group in sorted(conf.iterdir()) if conf.is_dir() else ():
            if group.is_dir() and group.name not in ("hydra", "recipe"):
                found[group.name] = _choices(group)
        return {group: choices for group, choices in found.items() if choices}

    def group_of(self, path: Path) -> str:
        """Return the group that a file of this pack is a choice of; empty for any other file."""
        for group, choices in self.groups.items():
            if path in choices.values():
                return group
        return ""

    def vet(self, path: Path) -> Vetted:
        """Return what was found in a file of this pack, read once."""
        if path not in self._vetted:
            self._vetted[path] = vet(path)
        return self._vetted[path]

    @property
    def is_in_use(self) -> bool:
        """Whether a file of this pack was read since `forget`."""
        return bool(self._vetted)

    @cached_property
    def verified(self) -> None:
        """Look at all files once.

        Raises RecipeError when they are not what `packs.lock` pins, or when this LargeForge is not one for them.
        """
        if self.pinned is None:
            return
        try:
            is_intact = tree.content_sha256(self.folder) == self.pinned.sha256
        except (PackError, OSError):
            is_intact = False
        if not is_intact:
            rule = f"its files in {self.folder} are not what {lockfile.NAME} pins; fetch them again: {_FETCH}"
            raise RecipeError([Problem(f"pack {self.alias}", f"{rule}.")])
        if problems := manifest.read(self.folder)[1]:
            raise RecipeError(problems)


def packs() -> Mapping[str, Pack]:
    """Return the packs of the working directory by name, usable or not.

    Raises RecipeError or PackError when `largeforge.yaml` or `packs.lock` cannot be read.
    """
    instead = _instead.get()
    if instead is not None:
        return instead
    here = Path.cwd()
    stamps = tuple(_stamp(here / name) for name in (project.NAME, lockfile.NAME))
    return _packs(here, stamps, cache.root(), _stamp(cache.root())) if stamps[0] else {}


def forget() -> None:
    """Look at the packs' files again when they are next used."""
    _packs.cache_clear()


@contextmanager
def using(pack: Pack) -> Iterator[None]:
    """Let this pack, wherever it lies, be the only one."""
    token = _instead.set({pack.alias: pack})
    try:
        yield
    finally:
        _instead.reset(token)


def of_path(path: Path) -> Pack | None:
    """Return the pack that a file lies in."""
    return next((pack for pack in packs().values() if not pack.problem and path.is_relative_to(pack.folder)), None)


def of_choice(name: str) -> Pack | None:
    """Return the pack that `acme/support_bot` names, usable or not."""
    alias, _, rest = name.partition("/")
    return packs().get(alias) if rest else None


def internal(name: str) -> str:
    """Return the name of a choice as Hydra gets it; one that is not of a pack stays as it is."""
    alias, _, rest = name.partition("/")
    return f"{alias}:{rest.replace('/', ':')}" if rest and alias in packs() else name


def external(text: str) -> str:
    """Return a name, or a message with names, as people write them."""
    known = packs()
    return re.sub(
        r"(?<![\w:/])([a-z][a-z0-9_-]*):([\w.:-]+)",
        lambda match: f"{match[1]}/{match[2].replace(':', '/')}" if match[1] in known else match[0],
        text,
    )


def choice_file(config_path: str) -> tuple[Pack, str, Path] | None:
    """Return pack, group and file of Hydra's `group/acme:support_bot`."""
    group, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
    alias, _, inner = name.partition(":")
    pack = packs().get(alias) if inner else None
    path = pack.groups.get(group, {}).get(inner.replace(":", "/")) if pack else None
    return (pack, group, path) if pack and path else None


def data_folder(path: str) -> tuple[Path, str] | None:
    """Return the folder of data that `pack:acme/data/rows.jsonl` means and the path in it; None for no such pack.

    Raises RecipeError when the pack's files are not the pinned ones.
    """
    alias, _, inside = path.removeprefix(DATA).partition("/")
    pack = packs().get(alias)
    if pack is None or pack.problem:
        return None
    pack.verified  # noqa: B018 - raises when the files are not the pinned ones
    return pack.folder / "recipes", inside


def portable(path: Path) -> str:
    """Return a path in a pack so that it means the same on any machine; empty for any other path."""
    pack = of_path(path)
    if pack is None or not path.is_relative_to(pack.folder / "recipes"):
        return ""
    return f"{DATA}{pack.alias}/{path.relative_to(pack.folder / 'recipes').as_posix()}"


def used(values: Any) -> dict[str, dict[str, str]]:
    """Return git, rev, commit and sha256 of the packs, by name, that files or data of a composed recipe come from."""
    names = {pack.alias for pack in packs().values() if pack.is_in_use}
    names |= {text.removeprefix(DATA).partition("/")[0] for text in _texts(values) if text.startswith(DATA)}
    return {
        name: {"git": pinned.git, "rev": pinned.rev, "commit": pinned.commit, "sha256": pinned.sha256}
        for name in sorted(names)
        if (pack := packs().get(name)) and (pinned := pack.pinned)
    }


@lru_cache(maxsize=4)
def _packs(here: Path, stamps: tuple[Any, ...], cached: Path, cache_stamp: Any) -> dict[str, Pack]:
    """Read the files of a working directory; the stamps make it read them again when they changed."""
    pins = lockfile.read(here)
    return {entry.alias: _pack(entry, pins.get(entry.alias)) for entry in project.read(here)}


def _pack(entry: project.Entry, pinned: lockfile.Pinned | None) -> Pack:
    problem = ""
    if pinned is None:
        problem = f"pack {entry.alias} is not in {lockfile.NAME}: python -m largeforge packs update {entry.alias}"
    elif (pinned.git, pinned.rev) != (entry.git, entry.rev):
        asks = f"is pinned at another address or revision than {entry.where} asks for"
        problem = f"pack {entry.alias} {asks}: python -m largeforge packs update {entry.alias}"
    elif not cache.folder_of(pinned.sha256).is_dir():
        problem = f"pack {entry.alias} is not fetched: {_FETCH}"
    folder = cache.folder_of(pinned.sha256) if pinned else Path()
    return Pack(entry.alias, folder, pinned, problem)


def _choices(folder: Path) -> dict[str, Path]:
    files = sorted(folder.rglob("*.yaml")) if folder.is_dir() else []
    found = {path.relative_to(folder): path for path in files if path.is_file() and not path.is_symlink()}
    return {name.with_suffix("").as_posix(): path for name, path in found.items() if "data" not in name.parts}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _texts(value)
    elif isinstance(values, str):
        yield values
