"""What is installed in an environment, read from its files: damage of an interrupted install, stray packages."""

from __future__ import annotations

import csv
import os
import shutil
from typing import TYPE_CHECKING

from scripts.environment.pins import normal

if TYPE_CHECKING:
    from pathlib import Path


def packages(site: Path) -> dict[str, str]:
    """Return name and version of every installed package."""
    found = {}
    for info in site.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        found[normal(name)] = version
    return found


def remove_damaged(site: Path) -> list[str]:
    """Forget packages whose files are not all there, so that pip installs them again; return their names.

    pip takes a package for installed as soon as its METADATA is there, although RECORD comes last.
    """
    for leftover in site.glob("~*"):  # where pip moves what it is about to replace
        shutil.rmtree(leftover, ignore_errors=True)
    damaged = [info for info in sorted(site.glob("*.dist-info")) if not _is_whole(site, info)]
    for info in damaged:
        shutil.rmtree(info)
    return [info.name.partition("-")[0] for info in damaged]


def _is_whole(site: Path, info: Path) -> bool:
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, csv.Error):
        return False
    for name, _, size, *_ in rows:
        if not size:  # compiled files, which may come and go
            continue
        try:
            if os.stat(os.path.join(site, name)).st_size != int(size):  # noqa: PTH116, PTH118 - 100 000 files
                return False
        except OSError:
            return False
    return bool(rows)
