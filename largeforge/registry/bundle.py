"""One version in a folder or a tar file, for another registry: files, manifest, lock, card, and what was known of it.

The folder can be loaded as any model. A version that is imported gets a new number and says where it came from; it
is verified before it is entered, and a tar file is unpacked once, into the registry.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from largeforge import artifacts
from largeforge.errors import RecipeError, RegistryError
from largeforge.recipe import lock as locks
from largeforge.registry import copying, files, records, staging
from largeforge.registry.copying import Meter

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from largeforge.registry.copying import FileHash
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import Lineage, ModelVersion, VersionSummary

_SMALL = 64 * 2**20
"""Longest file beside the model's own that is read."""


def export(registry: ModelRegistry, version: VersionSummary, target: Path) -> None:
    """Write a verified version to a folder, or to a file that ends with `.tar`, which is read once more.

    Raises RegistryError when it is damaged, or when something is there already.
    """
    if target.exists():
        raise RegistryError(f"{target} is there already; choose another name, or remove it")
    with registry.database.reading() as client:
        tags = client.get_model_version(version.name, str(version.version)).tags
        if fault := records.changed(tags):
            raise RegistryError(f"{version.reference} is damaged: {fault}")
        path = registry.storage.fetch(client, version, registry.watch)
    record = {
        "reference": version.reference,
        "registry": str(registry.database),
        "created": version.created,
        "notes": version.notes,
        "tags": version.tags,
        "own": {key: text for key, text in tags.items() if key.startswith(records.OWN)},
    }
    sheet = files.read_sheet(path / files.MANIFEST, reference=version.reference)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as made:
        unfinished = Path(made) / "unfinished"
        if target.suffix == ".tar":
            _pack(path, record, sheet, unfinished, Meter(registry.watch, f"packing {target.name}", _size(sheet)))
            _check_tar(unfinished, sheet, Meter(registry.watch, f"verifying {target.name}", _size(sheet)))
        else:
            unfinished.mkdir()
            files.compare(files.copy_hashed(path, unfinished, registry.watch), sheet, source=str(path))
            for name in files.BESIDE:
                if (path / name).is_file():
                    artifacts.write_text(unfinished / name, (path / name).read_text(encoding="utf-8"))
            artifacts.write_json(unfinished / files.RECORD, record)
        unfinished.rename(target)
    staging.sync(target.parent)


def take(registry: ModelRegistry, source: Path, *, name: str = "", alias: str = "", why: str = "") -> ModelVersion:
    """Register what `export` wrote, as `name` or as it was called, after it was verified.

    Raises RegistryError when it is damaged or no such thing.
    """
    if source.is_dir():
        return _enter(registry, source, source, name=name, alias=alias, why=why, written=None)
    if not source.is_file():
        raise RegistryError(f"{source} is not there; give a folder or a .tar that `models export` wrote")
    registry.storage.folder.mkdir(parents=True, exist_ok=True)
    with staging.staging(registry.storage.folder) as staged:
        written = _unpack(source, staged, registry)
        return _enter(registry, staged, source, name=name, alias=alias, why=why, written=written)


def _enter(
    registry: ModelRegistry, folder: Path, source: Path, *, name: str, alias: str, why: str,
    written: dict[str, FileHash] | None,
) -> ModelVersion:  # fmt: skip
    sheet = files.read_sheet(folder / files.MANIFEST, reference=str(source))
    record = _record(folder / files.RECORD, source)
    lineage, metrics, lock = _known(folder, source, sheet, record)
    name = name or str(record.get("reference", "")).removeprefix("registry:").rpartition("/")[0]
    if not name:
        raise RegistryError(f"{source} does not say what it is called; give --as NAME")
    origin = lineage.origin or f"{record.get('reference', source.name)} of {record.get('registry', 'a folder')}"
    return registry.register(
        name, folder, kind=sheet.kind, lineage=replace(lineage, origin=origin), metrics=metrics, alias=alias,
        lock=lock, tags={str(key): str(text) for key, text in (record.get("tags") or {}).items()},
        notes=str(record.get("notes") or ""), action="import", why=why, expected=sheet, written=written,
    )  # fmt: skip


def _known(
    folder: Path, source: Path, sheet: files.Sheet, record: dict[str, Any]
) -> tuple[Lineage, dict[str, float], dict[str, Any] | None]:
    """Return lineage, metrics and lock, as the record's sealed tags have them, or the manifest.

    Raises RegistryError when they are not as they were written.
    """
    own = record.get("own") or {}
    if fault := records.changed(own):
        raise RegistryError(f"{source} is damaged, nothing was registered: {fault}")
    if own and own.get(records.DIGEST_TAG) != sheet.digest:
        raise RegistryError(f"{source} is damaged, nothing was registered: {files.MANIFEST} is that of another version")
    about = sheet.about
    if own:
        about = {key: json.loads(own[f"{records.OWN}{key}"]) for key in ("lineage", "metrics")}
    lineage = records.lineage_from(about.get("lineage") or {"recipe": "", "recipe_digest": "", "lock": ""})
    metrics = records.metrics_from(about.get("metrics") or {})
    path = folder / files.LOCK
    if not path.is_file():
        return lineage, metrics, None
    try:
        lock = locks.read(path)
    except RecipeError as error:
        raise RegistryError(f"{source} is damaged, nothing was registered: {error}") from error
    raw = json.loads(path.read_text(encoding="utf-8"))
    if lock["digest"] != lineage.lock or own.get(records.LOCK_TAG, "") not in ("", records.lock_digest(raw)):
        raise RegistryError(f"{source} is damaged, nothing was registered: {files.LOCK} is not the one of this version")
    return lineage, metrics, raw


def _record(path: Path, source: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (OSError, ValueError):
        pass
    raise RegistryError(f"{source} is damaged, nothing was registered: {path.name} cannot be read")


def _pack(path: Path, record: dict[str, Any], sheet: files.Sheet, target: Path, meter: Meter) -> None:
    """Write a tar file that has the same bytes for the same version: names in order, no owner, no times."""
    with target.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as written:
            written.write(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
            written.flush()
            _add(tar, Path(written.name), files.RECORD)
        for name in [*(name for name in files.BESIDE if (path / name).is_file()), *sorted(sheet.files)]:
            _add(tar, path / name, name)
            meter.add(sheet.files[name].size if name in sheet.files else 0)
        tar.close()
        stream.flush()
        os.fsync(stream.fileno())


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = path.stat().st_size, 0o644
    with path.open("rb") as stream:
        tar.addfile(entry, stream)


def _check_tar(path: Path, sheet: files.Sheet, meter: Meter) -> None:
    def read(stream: BufferedReader, name: str) -> FileHash:
        return copying.drained(stream, meter)

    found = _members(path, read)
    files.compare({name: entry for name, entry in found.items() if name not in files.BESIDE}, sheet, source=str(path))


def _unpack(source: Path, target: Path, registry: ModelRegistry) -> dict[str, FileHash]:
    """Write the files of a tar file below a folder, and return what was written of the model."""
    meter = Meter(registry.watch, f"unpacking {source.name}", source.stat().st_size)

    def write(stream: BufferedReader, name: str) -> FileHash:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        return copying.write(stream, target / name, meter)

    found = _members(source, write)
    return {name: entry for name, entry in found.items() if name not in files.BESIDE}


def _members(path: Path, use: Callable[[BufferedReader, str], FileHash]) -> dict[str, FileHash]:
    """Give each file of a tar file to a function; nothing but plain files inside the folder is taken.

    Raises RegistryError for anything else.
    """
    found: dict[str, FileHash] = {}
    try:
        with tarfile.open(path, mode="r:") as tar:
            for entry in tar:
                if entry.isdir():
                    continue
                name = entry.name.removeprefix("./")
                if not entry.isreg() or files.leads_out(name) or name in found:
                    raise RegistryError(f"{path}: {entry.name} is no plain file of a model; it is not taken")
                if name in files.BESIDE and entry.size > _SMALL:
                    raise RegistryError(f"{path}: {name} has {entry.size} bytes; no such file is as long")
                found[name] = use(cast("BufferedReader", tar.extractfile(entry)), name)
    except (tarfile.TarError, EOFError) as error:
        raise RegistryError(f"{path} is damaged, nothing was registered: {error}") from error
    if files.MANIFEST not in found:
        raise RegistryError(f"{path} has no {files.MANIFEST}: `models export` did not write it, or not to its end")
    return found


def _size(sheet: files.Sheet) -> int:
    return sum(entry.size for entry in sheet.files.values())
