"""The one place that writes an export: whole files, and never over what somebody else wrote.

A manifest beside the files has the sha256 of each as it was written. A file that differs from it, or that it does not
know, is somebody's work: then nothing is written at all. Files that an export no longer has are removed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from largeforge.artifacts import file_sha256, write_json, write_text
from largeforge.errors import Problem, RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = ".largeforge-export.json"


@dataclass(frozen=True)
class Written:
    """What became of each file, by its path below the folder."""

    folder: Path
    written: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def write(folder: Path, files: Mapping[str, str]) -> Written:
    """Write the files of an export.

    Raises RecipeError with each file that is not as an export left it; nothing is changed then.
    """
    before = _manifest(folder)
    there = {name: _sha256(folder / name) for name in {*files, *before}}
    wanted = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    strange = [
        name for name, found in sorted(there.items())
        if found and found not in (*before.get(name, ()), wanted.get(name))
    ]  # fmt: skip
    if strange:
        rule = "was not written by this export, or was changed since; remove it, or choose another export.folder."
        raise RecipeError([Problem("export.folder", rule, given=str(folder / name)) for name in strange])
    changed = [name for name in files if there[name] != wanted[name]]
    removed = [name for name in before if name not in files and there[name]]
    if changed or removed:  # a kill in between leaves nothing that the next export does not know
        either = {name: sorted({*before.get(name, ()), *([wanted[name]] if name in wanted else [])}) for name in there}
        write_json(folder / MANIFEST, {"files": either})
    for name in changed:
        write_text(folder / name, files[name])
    for name in removed:
        (folder / name).unlink()
    after = {name: [sha256] for name, sha256 in wanted.items()}
    if before != after:
        write_json(folder / MANIFEST, {"files": after})
    return Written(folder, tuple(changed), tuple(name for name in files if name not in changed), tuple(removed))


def _sha256(path: Path) -> str:
    """Return the sha256 of a file, empty where there is none; anything else in its place is no file of ours."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "no plain file"
    return file_sha256(path) if path.exists() else ""


def _manifest(folder: Path) -> dict[str, list[str]]:
    """Return what each file may be, by its sha256: one content, or two while an export is written."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {str(name): [str(one) for one in known] for name, known in files.items() if _is_inside(str(name))}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
