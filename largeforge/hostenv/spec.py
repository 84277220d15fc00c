"""An environment on a host: what is in it, its identity, and the order with which it is built there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.hostenv.pins import Pin

KEY_LENGTH = 24
LAYOUT = 1
"""Part of every key: another one when the same packages would be laid out in another way."""
ROOT = "/opt/largeforge/environments"
"""Where environments are on a host, unless told otherwise."""


@dataclass(frozen=True)
class Wheel:
    """A file that holds one package."""

    name: str
    version: str
    file: str
    """Name of the file."""
    sha256: str
    size_bytes: int
    content: str = ""
    """Digest of what is in it, for LargeForge's own: the same for a checkout and what was installed from it."""


@dataclass(frozen=True)
class Index:
    """Where a host gets packages from when it has no bundle; may hold passwords, so it is shown nowhere."""

    url: str = field(default="", repr=False)
    """Package index; empty leaves it to the configuration of pip on the host."""
    extra_urls: tuple[str, ...] = field(default=(), repr=False)
    """Others that are asked as well, such as PyTorch's of CPU builds."""
    proxy: str = field(default="", repr=False)
    """Proxy on the way there."""


@dataclass(frozen=True)
class HostEnvironment:
    """What a host of one role needs; the same pins, wheel and Python are the same environment, whatever the role."""

    role: str
    device: str
    pins: tuple[Pin, ...]
    wheel: Wheel
    """LargeForge itself."""
    python: str = "3.11"
    index: Index = Index()

    @property
    def key(self) -> str:
        """Name of its folder: the digest of everything that decides its content, and of nothing else.

        Where the packages come from is left out: a host that is moved from an index to a bundle keeps what it has.
        """
        lines = sorted(f"{pin.name}=={pin.version};{pin.marker}" for pin in self.pins)
        return digest([LAYOUT, lines, self.wheel.content or self.wheel.sha256, self.python])[:KEY_LENGTH]

    def folder(self, root: str = ROOT) -> str:
        """Return where it is on a host."""
        return str(PurePosixPath(root) / self.key)

    def interpreter(self, root: str = ROOT) -> str:
        """Return the path of its Python on a host."""
        return str(PurePosixPath(self.folder(root)) / "bin" / "python")

    def order(
        self,
        *,
        wheels_folder: str,
        wheels: Sequence[Wheel] = (),
        pip: str = "",
        machine: str = "",
        root: str = ROOT,
        interpreter: str = "",
    ) -> dict[str, Any]:
        """Return what `remote/build_environment.py` reads from its standard input; passwords of the index are in it.

        `wheels` are those of a bundle, uploaded to `wheels_folder` on the host; without them the packages come from
        the index, and only LargeForge's own wheel is in the folder. `pip` is the file name of a pip wheel in it.
        """
        here = PurePosixPath(wheels_folder)
        given = [*wheels] if wheels else [self.wheel]
        return {
            "action": "build",
            "root": root,
            "key": self.key,
            "python": self.python,
            "interpreter": interpreter,
            "machine": machine,
            "pins": [*(pin.line for pin in self.pins), f"{self.wheel.name}=={self.wheel.version}"],
            "wheels": [{"name": w.name, "path": str(here / w.file), "sha256": w.sha256} for w in given],
            "offline": bool(wheels),
            "pip": str(here / pip) if pip else "",
            "index_url": self.index.url,
            "extra_index_urls": list(self.index.extra_urls),
            "proxy": self.index.proxy,
        }
