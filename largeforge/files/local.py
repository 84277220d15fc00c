"""The files that a local path means: one file, all data files of a folder, or those that match a pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from largeforge.errors import DataError
from largeforge.files.paths import SUFFIXES, is_pattern, may_have_rows, within
from largeforge.os_errors import explain_os_error


def expand(path: str) -> list[Path]:
    """Return the files in a fixed order; a single file is returned whether it is there or not.

    Raises DataError for a folder or pattern that holds no data files, or cannot be read.
    """
    place = Path(path)
    try:
        if place.is_dir():
            return _in_folder(place)
        if is_pattern(path) and not place.exists():
            return _matching(path)
    except OSError as error:
        raise DataError(explain_os_error(error, place)) from error
    return [place]


def _in_folder(folder: Path) -> list[Path]:
    found = []
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        inside = Path(root)
        found += [inside / name for name in names if may_have_rows(name)]
    if not found:
        raise DataError(f"{folder} is a folder without data files ({', '.join(SUFFIXES)}, also compressed)")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _matching(pattern: str) -> list[Path]:
    matches = [Path(match) for match in glob.iglob(pattern, recursive=True)]  # noqa: PTH207 - "**" of Path is folders
    files = [match for match in matches if match.is_file()]
    known = [file for file in files if may_have_rows(within(file.as_posix(), pattern))]
    if not files:
        raise DataError(f"no file matches {pattern}")
    return sorted(known or files, key=lambda path: path.as_posix())


def _raise(error: OSError) -> None:
    raise error
