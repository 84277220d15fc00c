"""What an environment is: pinned packages on top of those of the running interpreter, and its identity."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from largeforge.artifacts import digest
from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.recipe import sources
from largeforge.recipe.places import short
from largeforge.recipe.sections.machines import PIN_PATTERN

KEY_LENGTH = 24
_PIN = re.compile(PIN_PATTERN)


@dataclass(frozen=True)
class Base:
    """The interpreter whose packages an environment shares."""

    python: str
    prefix: str
    """Folder of its environment: another environment may hold other packages."""
    version: str
    platform: str
    paths: tuple[str, ...]
    """Folders of its packages, in the order in which they are searched."""


@dataclass(frozen=True)
class Spec:
    """A set of pinned packages under a name."""

    name: str
    requirements: tuple[str, ...]

    @property
    def pins(self) -> dict[str, str]:
        """The packages, by their names as the package index compares them, with their versions."""
        return {normal(name): version for name, _, version in (line.partition("==") for line in self.requirements)}

    def key(self, base: Base) -> str:
        """Return the name of the folder: the same pins on the same interpreter are the same environment."""
        parts = [sorted(self.requirements), base.prefix, base.version, base.platform]
        return digest(parts)[:KEY_LENGTH]


def running() -> Base:
    """Return the interpreter that runs this."""
    paths = tuple(path for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return Base(sys.executable, sys.prefix, version, sysconfig.get_platform(), paths)


def known() -> dict[str, Spec]:
    """Return the environments of `conf/environment/` that name packages; those of packs are left out.

    Raises RecipeError for a file that is no sound choice.
    """
    found = {name: _read(name, path) for name, path in sources.own_choices("environment").items()}
    return {name: spec for name, spec in found.items() if spec.requirements}


def named(name: str) -> Spec:
    """Return an environment of `conf/environment/` by its name.

    Raises RecipeError when there is none.
    """
    specs = known()
    if name not in specs:
        rule = f"no such environment of pinned packages; there is: {listed(specs)}."
        raise RecipeError([Problem("environment", rule, given=repr(name), nearest=nearest(name, specs))])
    return specs[name]


def normal(name: str) -> str:
    """Return a package's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(name: str, path: Path) -> Spec:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        lines = [str(line) for line in content.get("requirements", [])]
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise RecipeError([Problem("environment", f"cannot be read: {error}", short(path))]) from None
    wrong = [line for line in lines if not _PIN.fullmatch(line)]
    if wrong:
        rule = "each is a package with one version, such as name==1.2.3."
        raise RecipeError([Problem("requirements", rule, short(path), repr(wrong[0]))])
    return Spec(name, tuple(lines))
