"""Wheels for tests: small ones that are written here, and what is installed packed into wheels again."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path


def write(
    folder: Path, name: str, version: str, code: str = "", *, scripts: str = "", tag: str = "py3-none-any"
) -> Path:
    """Write a wheel of one module; `scripts` are lines of its console scripts."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}\n",
        f"{info}/RECORD": "",
    }
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
    return path


def source(path: Path, files: dict[str, str]) -> None:
    """Write a source distribution."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def installed(folder: Path, name: str) -> Path:
    """Pack an installed package, of Python files only, into a wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    found = metadata.distribution(name)
    path = folder / f"{name}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files or []:
            if not file.as_posix().startswith("..") and file.suffix != ".pyc":
                archive.write(str(found.locate_file(file)), file.as_posix())
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
