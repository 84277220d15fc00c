"""LargeForge's own wheel, made from what runs here: hosts get the very code that planned for them.

What is in the wheel is part of an environment's identity; it is the same for a checkout and for what was installed from
its wheel. The wheel is made once for each state of the sources and kept in the cache.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import largeforge
from largeforge import cache
from largeforge.artifacts import digest, file_sha256
from largeforge.errors import BuildError
from largeforge.hostenv import pins, pip
from largeforge.hostenv.spec import HostEnvironment, Index, Wheel

_PACKAGE = Path(largeforge.__file__).resolve().parent
_SOURCES = ("largeforge", "conf", "recipes", "hosts", "requirements", "pyproject.toml", "README.md", "LICENSE")
_OF_THE_INSTALLATION = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s")
_LONG_AGO = (2020, 2, 2, 0, 0, 0)


def wheel() -> tuple[Wheel, Path]:
    """Return LargeForge's own wheel, and where it lies; made when the sources changed since the last time.

    Raises BuildError when it cannot be made.
    """
    sources = _checkout_sources() if _is_checkout() else _installed_files()
    hashes = {name: file_sha256(path) for name, path in sources.items()}
    base = cache.folder() or Path(tempfile.gettempdir()) / f"largeforge-{os.getuid()}"
    folder = base / "wheels" / digest(hashes)[:24]
    if not list(folder.glob("*.whl")):
        _make(folder, sources)
    (path,) = folder.glob("*.whl")
    version = path.name.split("-")[1]
    return Wheel("largeforge", version, path.name, file_sha256(path), path.stat().st_size, _content(path)), path


def environment(role: str, device: str, *, python: str = "3.11", index: Index | None = None) -> HostEnvironment:
    """Return what a host of a role gets of this LargeForge, with the packages that it pins.

    Raises BuildError when its wheel cannot be made, RecipeError for a role or a device that there is not.
    """
    pinned = pins.requirements(role, device)
    return HostEnvironment(role, device, pinned, wheel()[0], python, index or Index())


def _content(path: Path) -> str:
    """Return the digest of the files in a wheel, from its RECORD: how and when they were packed is left out."""
    with zipfile.ZipFile(path) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        rows = csv.reader(io.StringIO(archive.read(record).decode()))
    return digest(sorted(row for row in rows if row and row[0] != record))


def _is_checkout() -> bool:
    return not (_PACKAGE / "shipped").is_dir()


def _checkout_sources() -> dict[str, Path]:
    root, found = _PACKAGE.parent, {}
    if not (root / "pyproject.toml").is_file():
        raise BuildError(f"LargeForge in {_PACKAGE} is neither a checkout nor installed: no wheel can be made of it")
    for top in _SOURCES:
        paths = (root / top).rglob("*") if (root / top).is_dir() else [root / top]
        found.update({path.relative_to(root).as_posix(): path for path in paths if _counts(path)})
    return found


def _installed_files() -> dict[str, Path]:
    """Return the files of the installed distribution by their names in a wheel.

    Raises BuildError when LargeForge was not installed by a package manager.
    """
    try:
        distribution = metadata.distribution("largeforge")
    except metadata.PackageNotFoundError:
        raise BuildError(f"LargeForge in {_PACKAGE} was not installed with pip: no wheel can be made of it") from None
    names = [file.as_posix() for file in distribution.files or []]
    wanted = {name: Path(str(distribution.locate_file(name))) for name in names if not name.startswith(("..", "/"))}
    return {n: p for n, p in wanted.items() if _counts(p) and p.name not in _OF_THE_INSTALLATION}


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"


def _make(folder: Path, sources: dict[str, Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    try:
        if _is_checkout():
            isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
            pip.run(["wheel", "--no-deps", *isolation, "--wheel-dir", str(aside), str(_PACKAGE.parent)])
        else:
            _pack(aside, sources)
        aside.chmod(0o755)
        with suppress(OSError):  # another process was quicker
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _pack(folder: Path, sources: dict[str, Path]) -> None:
    """Put the files of an installation into a wheel again."""
    (info,) = {name.partition("/")[0] for name in sources if name.partition("/")[0].endswith(".dist-info")}
    rows: list[tuple[str, str, str | int]] = []
    with zipfile.ZipFile(folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl", "w") as archive:
        for name in sorted(sources, key=lambda name: (name.startswith(f"{info}/"), name)):
            content = sources[name].read_bytes()
            hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            rows.append((name, f"sha256={hashed}", len(content)))
            _add(archive, name, content)
        rows.append((f"{info}/RECORD", "", ""))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        _add(archive, f"{info}/RECORD", text.getvalue().encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
