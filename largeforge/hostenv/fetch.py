"""Fetch or build the wheels of some packages with pip, in a folder of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import BuildError
from largeforge.hostenv import pins, pip
from largeforge.hostenv.pip import PipError

if TYPE_CHECKING:
    from largeforge.hostenv.pins import Pin
    from largeforge.hostenv.target import Target


@dataclass(frozen=True)
class Fetch:
    """Called with a batch of packages, it brings their wheels; several may be called side by side."""

    target: Target
    torch_index: str
    """Asked for local builds (`+cpu`) where pip's own sources lack them."""
    folder: Path
    """Where batches get their folders."""
    running: pip.Running = field(default_factory=set)
    """Processes of pip that go on now."""

    def __call__(self, batch: Sequence[Pin]) -> dict[Pin, Path]:
        """Return where the wheel of each package lies.

        Raises BuildError with what is wrong with each that cannot be had.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            self._run_pip(batch, aside)
        except PipError as error:
            self._one_by_one(batch, aside, error)
        return {pin: self._wheel(pin, aside) for pin in batch}

    def _one_by_one(self, batch: Sequence[Pin], aside: Path, error: PipError) -> None:
        """Find out which packages cannot be had together with the others, and get those that can in another way."""
        failed: dict[str, str] = {}
        for pin in batch:
            try:
                if len(batch) == 1:
                    raise error
                self._run_pip([pin], aside)
            except PipError as reason:
                if not self._in_another_way(pin, aside):
                    failed[pin.line] = str(reason)
        if failed:
            where = f"Python {self.target.python} on {self.target.platform}"
            words = "\n".join(f"  {line}:\n{_indented(text)}" for line, text in failed.items())
            raise BuildError(f"cannot be had for {where}:\n{words}")

    def _in_another_way(self, pin: Pin, aside: Path) -> bool:
        """Try what is left: the index of local builds, or a source that has nothing to compile."""
        try:
            if "+" in pin.version and self.torch_index:
                self._run_pip([pin], aside, environ={"PIP_EXTRA_INDEX_URL": self.torch_index})
                return True
            if self.target.is_here:
                return False
            options = ["--no-deps", f"--no-binary={pin.name}", "--wheel-dir", str(aside)]
            pip.run(["wheel", *options, _bare(pin)], running=self.running)
        except PipError:
            return False
        return any(path.name.endswith("-none-any.whl") for path in _files(pin, aside))

    def _run_pip(self, batch: Sequence[Pin], aside: Path, environ: dict[str, str] | None = None) -> None:
        lines = [_bare(pin) for pin in batch]
        if self.target.is_here:
            words = ["wheel", "--no-deps", "--wheel-dir", str(aside), *lines]
        else:
            platforms = [f"--platform={name}" for name in self.target.platforms]
            options = ["--no-deps", "--only-binary=:all:", f"--python-version={self.target.python}"]
            words = ["download", *options, "--implementation=cp", *platforms, "--dest", str(aside), *lines]
        pip.run(words, environ=environ, running=self.running)

    def _wheel(self, pin: Pin, aside: Path) -> Path:
        files = [path for path in _files(pin, aside) if self.target.fits(path.name)]
        if len(files) != 1:
            seen = ", ".join(path.name for path in _files(pin, aside)) or "none"
            raise BuildError(f"{pin.line}: there should be one wheel for {self.target.platform}, and there is: {seen}")
        return files[0]


def _bare(pin: Pin) -> str:
    """Return a pin without its marker, which was looked at for the target and not for this machine."""
    return pin.line.partition(";")[0].strip()


def _files(pin: Pin, folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.whl") if pins.normal(path.name.partition("-")[0]) == pin.name]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
