"""The machine that a bundle is for: its Python, its processor and how old its C library may be."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from largeforge.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.tags import Tag

    from largeforge.hostenv.pins import Pin

_PLATFORM = re.compile(r"manylinux_2_(\d+)_(x86_64|aarch64)|manylinux(2014)_(x86_64|aarch64)")
_OLDEST_GLIBC = 5
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Target:
    """What wheels of a bundle must fit: CPython of one minor version on Linux with glibc 2.`glibc` or newer."""

    python: str
    machine: str
    glibc: int

    @property
    def platform(self) -> str:
        """The platform as wheels name it."""
        return f"manylinux_2_{self.glibc}_{self.machine}"

    @property
    def is_here(self) -> bool:
        """Whether this machine and interpreter are such a one, so that sources can be built for it."""
        return self == this_machine()

    @property
    def platforms(self) -> list[str]:
        """Names of all platforms whose wheels run there, the newest first."""
        return [*self._platforms(), f"linux_{self.machine}"]

    def as_dict(self) -> dict[str, str | int]:
        """Return it as data."""
        return {"python": self.python, "machine": self.machine, "glibc": self.glibc}

    def needs(self, pin: Pin) -> bool:
        """Tell whether a pin's marker asks for it there."""
        from packaging.markers import Marker

        environment = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        return not pin.marker or Marker(pin.marker).evaluate(environment)

    def fits(self, file: str) -> bool:
        """Tell whether a wheel, by its file name, can be installed there."""
        from packaging.utils import parse_wheel_filename

        return bool(parse_wheel_filename(file)[3] & self._tags)

    @cached_property
    def _tags(self) -> frozenset[Tag]:
        from packaging.tags import compatible_tags, cpython_tags

        version = [int(part) for part in self.python.split(".")]
        short = "cp" + "".join(map(str, version))
        return frozenset(
            [*cpython_tags(version, platforms=self.platforms), *compatible_tags(version, short, self.platforms)]
        )

    def _platforms(self) -> Iterator[str]:
        for minor in range(self.glibc, _OLDEST_GLIBC - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _OLD_NAMES and (minor == 17 or self.machine == "x86_64"):
                yield f"{_OLD_NAMES[minor]}_{self.machine}"


def this_machine() -> Target:
    """Return this machine and the Python that runs this."""
    version = platform.libc_ver()[1].split(".")
    glibc = int(version[1]) if len(version) > 1 and version[1].isdigit() else 28
    return Target(f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine(), glibc)


def target(python: str = "", platform_name: str = "") -> Target:
    """Return the machine that is asked for; what is not said is as here.

    Raises RecipeError for a Python or a platform that LargeForge does not run on.
    """
    here = this_machine()
    if python and not re.fullmatch(r"3\.1[1-4]", python):
        raise RecipeError(f"--python {python}: LargeForge runs on 3.11, 3.12, 3.13 and 3.14")
    if not platform_name:
        return Target(python or here.python, here.machine, here.glibc)
    match = _PLATFORM.fullmatch(platform_name)
    if match is None:
        rule = "such as manylinux_2_28_x86_64 or manylinux_2_34_aarch64, for Linux with glibc 2.28 or 2.34 and newer"
        raise RecipeError(f"--platform {platform_name}: not a platform {rule}")
    return Target(python or here.python, match[2] or match[4], int(match[1] or 17))
