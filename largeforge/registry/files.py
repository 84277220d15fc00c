"""Files of a version: copied and hashed in one pass, and verified later.

The manifest `largeforge.json` lies beside the files. It protects against accidents (a broken
disk, a half copy, a stray file that a loader would pick up), not against someone who may write
to the registry.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from largeforge import artifacts
from largeforge.errors import RegistryError
from largeforge.os_errors import explain_os_error
from largeforge.registry import copying
from largeforge.registry.copying import FileHash, Meter
from largeforge.registry.staging import sync

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.registry.copying import Watch
    from largeforge.registry.records import Kind

MANIFEST = "largeforge.json"
LOCK = "largeforge.lock.json"
"""Lock of the run that made the version; like the manifest, no part of the model's identity."""
CARD = "README.md"
"""What people read of the version; no part of its identity either: the same weights may be judged twice."""
RECORD = "largeforge.version.json"
"""What a registry knew of a version that was exported, beside its files."""
BESIDE = (MANIFEST, LOCK, CARD, RECORD)

_THREADS = 4
"""Files hashed at once; hashlib and file reads release the interpreter's lock."""


@dataclass(frozen=True)
class Sheet:
    """A manifest that was read."""

    kind: Kind
    files: dict[str, FileHash]
    about: dict[str, Any]
    """What else it says: lineage, metrics."""

    @property
    def digest(self) -> str:
        """Identity of the model that it lists."""
        return content_digest(self.kind, self.files)


def copy_hashed(source: Path, target: Path, watch: Watch | None = None) -> dict[str, FileHash]:
    """Copy every file below `source` to `target`, durably, and return what was written by relative path.

    Links to files are followed; an older manifest, lock and card are left out. Raises RegistryError when there
    is nothing to copy, or a linked folder (which might lead anywhere, or round in a circle).
    """
    names = [name for name in names_in(source) if name not in BESIDE]
    if not names:
        raise RegistryError(f"nothing to register: {source} holds no files")
    for parent in sorted({(target / name).parent for name in names}):
        parent.mkdir(parents=True, exist_ok=True)
    meter = Meter(watch, f"copying {source.name}", sum((source / name).stat().st_size for name in names))
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = list(pool.map(lambda name: copying.copy(source / name, target / name, meter), names))
    for parent in {(target / name).parent for name in names} | {target}:
        sync(parent)
    return dict(zip(names, hashes, strict=True))


def adopt(source: Path, target: Path, hashes: dict[str, FileHash]) -> dict[str, FileHash]:
    """Take over files that this process has just written and hashed, and that nobody else uses: as hard links."""
    for name, entry in hashes.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (target / name).hardlink_to(source / name)
        except OSError:
            if copying.copy(source / name, target / name, Meter(None, "", 0)) != entry:
                raise RegistryError(f"{source / name} changed while it was taken over") from None
    for parent in {(target / name).parent for name in hashes} | {target}:
        sync(parent)
    return dict(hashes)


def compare(found: dict[str, FileHash], sheet: Sheet, *, source: str) -> None:
    """Refuse files that are not those of a manifest.

    Raises RegistryError that names each one.
    """
    faults = [f"{name} is missing" for name in sheet.files if name not in found]
    faults += [f"{name} is not in its manifest" for name in found if name not in sheet.files]
    for name, entry in sheet.files.items():
        if name in found and found[name] != entry:
            is_short = found[name].size != entry.size
            told = f"{found[name].size} bytes instead of {entry.size}" if is_short else "another sha256"
            faults.append(f"{name} has {told}")
    if faults:
        raise RegistryError(f"{source} is damaged, nothing was registered: {'; '.join(faults)}")


def content_digest(kind: Kind, files: dict[str, FileHash]) -> str:
    """Return the identity of a model: the same kind and the same files, wherever they came from."""
    return artifacts.digest({"kind": kind, "files": {name: asdict(entry) for name, entry in files.items()}})


def write_manifest(
    folder: Path,
    kind: Kind,
    files: dict[str, FileHash],
    about: dict[str, Any],
    lock: Mapping[str, Any] | None = None,
    card: str = "",
) -> None:
    """Write `largeforge.json`, lock and card beside it; `about` holds what else is known (lineage, metrics)."""
    listed = {name: asdict(entry) for name, entry in files.items()}
    if lock:
        artifacts.write_json(folder / LOCK, dict(lock))
    if card:
        artifacts.write_text(folder / CARD, card)
    artifacts.write_json(folder / MANIFEST, {"kind": kind, "files": listed, **about})
    sync(folder)


def card_of(folder: Path) -> str:
    """Return the card that lies with files; empty without one."""
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def read_sheet(path: Path, *, reference: str) -> Sheet:
    """Read a manifest.

    Raises RegistryError when it is none.
    """
    try:
        return parse_sheet(path.read_bytes(), source=str(path), reference=reference)
    except OSError as error:
        raise RegistryError(f"{reference} is damaged: {explain_os_error(error, path)}") from error


def parse_sheet(content: bytes, *, source: str, reference: str) -> Sheet:
    """Return the manifest that a file named `source` holds.

    Raises RegistryError when it is none.
    """
    try:
        found = json.loads(content)
        files = {str(name): FileHash(**entry) for name, entry in found.pop("files").items()}
        kind = found.pop("kind")
        if kind not in ("model", "adapter") or any(leads_out(name) for name in files):
            raise ValueError("it names a kind or a file that no model has")
        return Sheet(kind, files, found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RegistryError(f"{reference} is damaged: {source} cannot be read ({error})") from error


def leads_out(name: str) -> bool:
    """Whether a name from elsewhere would be a file outside of the folder that it belongs to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name


def verify(folder: Path, digest: str, *, reference: str, watch: Watch | None = None) -> None:
    """Check every file of a version against its manifest, and the manifest against `digest`.

    Raises RegistryError that names each file that is missing, altered or not listed.
    """
    _raise_for(_faults(folder, _sheet(folder, digest, reference), watch, reference), reference)


def check_sizes(folder: Path, digest: str, *, reference: str) -> None:
    """Check that every file of a version is there with its size: what can be known without reading it.

    Raises RegistryError as `verify` does.
    """
    sheet = _sheet(folder, digest, reference)
    _raise_for([_fault_of_size(folder / name, entry) for name, entry in sheet.files.items()], reference)


def _sheet(folder: Path, digest: str, reference: str) -> Sheet:
    sheet = read_sheet(folder / MANIFEST, reference=reference)
    if sheet.digest != digest:
        raise RegistryError(f"{reference} is damaged: {folder / MANIFEST} is not the manifest that was registered")
    return sheet


def _faults(folder: Path, sheet: Sheet, watch: Watch | None, reference: str) -> list[str]:
    meter = Meter(watch, f"verifying {reference}", sum(entry.size for entry in sheet.files.values()))
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda name: _fault(folder / name, sheet.files[name], meter), sheet.files))
    known = {*sheet.files, *BESIDE}
    return found + [f"{folder / name} is not in its manifest" for name in names_in(folder) if name not in known]


def _raise_for(found: list[str], reference: str) -> None:
    faults = [fault for fault in found if fault]
    if faults:
        hint = "Register the same files again to restore it, or choose another version."
        raise RegistryError(f"{reference} is damaged: {'; '.join(faults)}. {hint}")


def names_in(folder: Path) -> list[str]:
    """Return the relative paths of all files below a folder.

    Raises RegistryError for a link to a folder.
    """
    names = []
    for parent, folders, files in os.walk(folder):
        for linked in (Path(parent) / name for name in folders):
            if linked.is_symlink():
                raise RegistryError(f"{linked} is a link to a folder; put the files themselves there")
        names += [(Path(parent) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def _fault_of_size(path: Path, expected: FileHash) -> str:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return "" if size == expected.size else f"{path} has {size} bytes instead of {expected.size}"


def _fault(path: Path, expected: FileHash, meter: Meter) -> str:
    if fault := _fault_of_size(path, expected):
        return fault
    try:
        found = copying.hashed(path, meter).sha256
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return "" if found == expected.sha256 else f"{path} has sha256 {found} instead of {expected.sha256}"
