"""Make a bundle: every wheel that hosts of some roles need, in one folder that can be carried to where no index is.

Packages are fetched a few at a time, and each file that arrived is noted with its hash: a run that was killed goes on
behind them. What the index has only as source is built into a wheel here; for another Python or processor that works
where the source has nothing to compile. The manifest is written last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.artifacts import append_line, drop_unfinished_line, file_sha256, write_text
from largeforge.errors import BuildError
from largeforge.hostenv import manifest, own, pins
from largeforge.hostenv.fetch import Fetch
from largeforge.hostenv.manifest import MANIFEST, WHEELS, Bundle
from largeforge.hostenv.spec import Wheel
from largeforge.hostenv.target import Target

if TYPE_CHECKING:
    from largeforge.hostenv.pins import Pin

Report = Callable[[str], None]
"""Takes one line for people."""
JOURNAL = ".fetched.jsonl"
"""What has arrived so far, a line for each wheel."""
_ASIDE = ".fetching"
_TOGETHER, _SIDE_BY_SIDE = 6, 3
"""Packages that one call of pip fetches, and calls at a time; a kill loses no more than what these have under way."""


@dataclass(frozen=True)
class Wanted:
    """What a bundle is to hold."""

    roles: tuple[str, ...]
    device: str
    target: Target
    torch_index: str = pins.TORCH_CPU_INDEX
    """Asked for local builds such as torch's `+cpu` where pip's own sources lack them; may hold a password."""

    @property
    def pins(self) -> dict[str, tuple[Pin, ...]]:
        """Pins of each role."""
        return {role: pins.requirements(role, self.device) for role in self.roles}

    @property
    def packages(self) -> list[Pin]:
        """All that has to be fetched, each once, and the pip that installs it."""
        every = {pin.line: pin for each in self.pins.values() for pin in each if self.target.needs(pin)}
        return [*every.values(), pins.installer()]


def make(wanted: Wanted, folder: Path, report: Report) -> Bundle:
    """Fetch and build what is not in the folder yet, and finish the bundle.

    Raises BuildError with pip's words when a package cannot be had; what arrived before is kept.
    """
    (folder / WHEELS).mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        arrived = _arrived(folder, wanted.target)
        packages = wanted.packages
        missing = [pin for pin in packages if (pin.name, pin.version) not in arrived]
        report(f"{len(packages)} packages for {', '.join(wanted.roles)}, {len(packages) - len(missing)} are there")
        write_text(folder / JOURNAL, "".join(_noted(wheel, wanted.target) for wheel in arrived.values()))
        (folder / MANIFEST).unlink(missing_ok=True)
        count = len(packages) - len(missing)
        for pin, path in _fetched(list(_batches(missing)), wanted, folder / _ASIDE):
            wheel = _take(pin, path, wanted.target, folder)
            count += 1
            arrived[pin.name, pin.version] = wheel
            report(f"{count} of {len(packages)}: {wheel.file}, {wheel.size_bytes / 2**20:.1f} MiB")
        wheels = [arrived[pin.name, pin.version] for pin in packages]
        found = Bundle(wanted.target, wanted.device, wanted.pins, (*wheels, _own(folder)), wheels[-1].file)
        _drop_others(found, folder, report)
        found.write(folder)
        (folder / JOURNAL).unlink(missing_ok=True)
        return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two runs do not write into one bundle."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BuildError(f"{folder}: another run makes a bundle there") from None
    finally:
        os.close(descriptor)


def _arrived(folder: Path, target: Target) -> dict[tuple[str, str], Wheel]:
    """Return the wheels in the folder that are what was noted of them, and noted for such a machine."""
    noted: list[Wheel] = []
    if (folder / MANIFEST).is_file():
        before = manifest.read(folder)
        noted += before.wheels if before.target == target else ()
    drop_unfinished_line(folder / JOURNAL)
    if (folder / JOURNAL).is_file():
        lines = [json.loads(line) for line in (folder / JOURNAL).read_text(encoding="utf-8").splitlines()]
        noted += [Wheel(**line["wheel"]) for line in lines if Target(**line["target"]) == target]
    found = {}
    for wheel in noted:
        path = folder / WHEELS / wheel.file
        if path.is_file() and path.stat().st_size == wheel.size_bytes and file_sha256(path) == wheel.sha256:
            found[wheel.name, wheel.version] = wheel
    return found


def _batches(missing: Sequence[Pin]) -> Iterator[list[Pin]]:
    """Yield what is fetched together; local builds, which may be elsewhere, come alone."""
    ordinary = [pin for pin in missing if "+" not in pin.version]
    for start in range(0, len(ordinary), _TOGETHER):
        yield ordinary[start : start + _TOGETHER]
    yield from ([pin] for pin in missing if "+" in pin.version)


def _fetched(batches: list[list[Pin]], wanted: Wanted, aside: Path) -> Iterator[tuple[Pin, Path]]:
    """Fetch some batches at a time and yield where each package lies; a failure or Ctrl-C ends all of pip.

    Raises BuildError with what is wrong with each package of a batch that cannot be had.
    """
    shutil.rmtree(aside, ignore_errors=True)
    fetch = Fetch(wanted.target, wanted.torch_index, aside)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        try:
            for found in pool.map(fetch, batches):
                yield from found.items()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(fetch.running):
                process.terminate()
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _take(pin: Pin, path: Path, target: Target, folder: Path) -> Wheel:
    """Move the wheel of a package to the others, and note it."""
    wheel = Wheel(pin.name, pin.version, path.name, file_sha256(path), path.stat().st_size)
    path.replace(folder / WHEELS / path.name)
    append_line(folder / JOURNAL, _noted(wheel, target).rstrip())
    return wheel


def _noted(wheel: Wheel, target: Target) -> str:
    return json.dumps({"wheel": asdict(wheel), "target": target.as_dict()}) + "\n"


def _own(folder: Path) -> Wheel:
    """Put LargeForge's own wheel to the others."""
    wheel, path = own.wheel()
    target = folder / WHEELS / wheel.file
    aside = folder / f".{wheel.file}"
    shutil.copyfile(path, aside)
    aside.replace(target)
    return wheel


def _drop_others(found: Bundle, folder: Path, report: Report) -> None:
    """Remove wheels that are no part of the bundle any more: an installer might take them."""
    wanted = {wheel.file for wheel in found.wheels}
    for path in sorted((folder / WHEELS).glob("*.whl")):
        if path.name not in wanted:
            path.unlink()
            report(f"removed {path.name}, which is no longer needed")
