"""What a bundle of wheels holds, as its `bundle.json` says; written last, so a bundle without one is not finished."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.artifacts import file_sha256, write_json
from largeforge.errors import BuildError, listed
from largeforge.hostenv.pins import Pin
from largeforge.hostenv.spec import HostEnvironment, Wheel
from largeforge.hostenv.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = "bundle.json"
WHEELS = "wheels"
"""Folder of the wheels in a bundle."""
FORMAT = 1
_THREADS = 4


@dataclass(frozen=True)
class Bundle:
    """A finished bundle: for which machines and roles it is, and its files."""

    target: Target
    device: str
    pins: dict[str, tuple[Pin, ...]]
    """What a host of each role needs, LargeForge left out."""
    wheels: tuple[Wheel, ...]
    """Every file, the pip that is no part of an environment among them."""
    pip: str
    """File name of that pip."""

    @property
    def roles(self) -> list[str]:
        """Roles that hosts can be set up for."""
        return sorted(self.pins)

    @property
    def size_bytes(self) -> int:
        """What all files take."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    def environment(self, role: str) -> HostEnvironment:
        """Return what a host of a role gets from this bundle.

        Raises BuildError when the bundle was not made for the role.
        """
        if role not in self.pins:
            raise BuildError(f"the bundle is for {listed(self.roles)}: make one with --role {role}")
        (own,) = (wheel for wheel in self.wheels if wheel.name == "largeforge")
        return HostEnvironment(role, self.device, self.pins[role], own, self.target.python)

    def needed(self, role: str) -> tuple[Wheel, ...]:
        """Return the wheels of a role; `pip`, which installs them, is taken along besides."""
        pins = self.environment(role).pins
        names = {pin.name for pin in pins if self.target.needs(pin)} | {"largeforge"}
        return tuple(wheel for wheel in self.wheels if wheel.name in names and wheel.file != self.pip)

    def problems(self, folder: Path, *, on_file: Callable[[str], None] | None = None) -> list[str]:
        """Return what is missing or damaged in a folder that should hold this bundle, a line each."""

        def look(wheel: Wheel) -> str:
            path = folder / WHEELS / wheel.file
            if on_file:
                on_file(wheel.file)
            if not path.is_file():
                return f"{wheel.file} is missing"
            if (size := path.stat().st_size) != wheel.size_bytes:
                return f"{wheel.file} is damaged: {size} bytes instead of {wheel.size_bytes}"
            return "" if file_sha256(path) == wheel.sha256 else f"{wheel.file} is damaged: its sha256 is another"

        with ThreadPoolExecutor(_THREADS) as pool:
            return [problem for problem in pool.map(look, self.wheels) if problem]

    def write(self, folder: Path) -> None:
        """Finish the bundle."""
        wheels = [
            {**asdict(wheel), "roles": [role for role in self.roles if wheel in self.needed(role)]}
            for wheel in self.wheels
        ]
        content = {
            "format": FORMAT,
            "target": self.target.as_dict(),
            "device": self.device,
            "pins": {role: [asdict(pin) for pin in pins] for role, pins in self.pins.items()},
            "wheels": wheels,
            "pip": self.pip,
        }
        write_json(folder / MANIFEST, content)


def read(folder: Path) -> Bundle:
    """Return the bundle of a folder; its files are not looked at.

    Raises BuildError when there is none, or it was not finished.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "the same `largeforge bundle` command goes on with it" if (folder / WHEELS).is_dir() else "there is none"
        raise BuildError(f"{folder} holds no finished bundle (no {MANIFEST}): {hint}") from None
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} cannot be read: {error}") from None
    try:
        if content["format"] != FORMAT:
            raise BuildError(f"{path} is of format {content['format']}, and this LargeForge reads {FORMAT}")
        pins = {role: tuple(Pin(**pin) for pin in pins) for role, pins in content["pins"].items()}
        wheels = tuple(Wheel(**{k: v for k, v in wheel.items() if k != "roles"}) for wheel in content["wheels"])
        return Bundle(Target(**content["target"]), content["device"], pins, wheels, content["pip"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{path} is not the manifest of a bundle: {error!r}") from None
