"""Where built environments are: found by their key, believed only when whole and still what they were."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge import cache
from largeforge.artifacts import write_json
from largeforge.environments import packages, spec
from largeforge.errors import BuildError

if TYPE_CHECKING:
    from largeforge.environments.spec import Base, Spec

STAMP = "environment.json"
"""Written last: a folder without it is no environment."""


@dataclass(frozen=True)
class Environment:
    """A built environment."""

    name: str
    key: str
    folder: Path
    requirements: tuple[str, ...]
    packages: dict[str, str]
    """Every package that its tool may import, with the version that it had when this was built."""
    base: str
    """Folder of the environment whose packages it shares."""
    python_version: str
    seconds: float = 0.0
    """How long it took to build."""

    @property
    def python(self) -> str:
        """Path of its interpreter."""
        return str(self.folder / "bin" / "python")

    def size_bytes(self) -> int:
        """Return what it takes on the disk."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*"))


def root() -> Path:
    """Return the folder of all environments.

    Raises BuildError when there is no home to put it in.
    """
    folder = cache.folder()
    if folder is None:
        raise BuildError("there is no place for environments: set HOME, or XDG_CACHE_HOME to an absolute folder")
    return folder / "environments"


def site(folder: Path) -> Path:
    """Return the folder of an environment's own packages."""
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def find(wanted: Spec, base: Base) -> Environment | None:
    """Return the built environment, or None when it must be built: there is none, or the packages under it changed."""
    found = read(root() / wanted.key(base))
    if found is None or not os.access(found.python, os.X_OK):
        return None
    paths = (str(site(found.folder)), *base.paths)
    return found if packages.versions(found.packages, paths) == found.packages else None


def read(folder: Path) -> Environment | None:
    """Return what a folder's stamp says; None for one that was not finished."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return Environment(**{**stamp, "folder": folder, "requirements": tuple(stamp["requirements"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(environment: Environment, folder: Path) -> None:
    """Seal a folder that is to become `environment.folder`."""
    stamp = asdict(environment)
    del stamp["folder"]
    write_json(folder / STAMP, stamp)


def built() -> list[Environment]:
    """Return all environments that are there, also those of other interpreters."""
    folder = root()
    found = [read(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [environment for environment in found if environment]


def state(wanted: Spec) -> str:
    """Say in a few words whether an environment is there for the running interpreter."""
    base = spec.running()
    if find(wanted, base):
        return "built"
    return "outdated: packages under it changed" if read(root() / wanted.key(base)) else "not built"


def remove(folder: Path) -> None:
    """Take an environment away; from the first moment on it does not count as one."""
    (folder / STAMP).unlink(missing_ok=True)
    shutil.rmtree(folder)
