"""`packs.lock`: for each pack the commit and the content that its revision meant when it was added.

Meant to be committed to git: the same packs give the same bytes, whoever writes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from largeforge.artifacts import write_json
from largeforge.errors import PackError
from largeforge.recipe.packs import address

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "packs.lock"
MAX_BYTES = 2**20
_VERSION = 1


@dataclass(frozen=True)
class Pinned:
    """One pack as it was fetched."""

    git: str
    rev: str
    commit: str
    sha256: str
    """Hash of the pack's files."""


def read(folder: Path) -> dict[str, Pinned]:
    """Return what `packs.lock` of a folder pins, by the pack's name; nothing when there is no such file.

    Raises PackError for a file that is not as this module writes it.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PackError(f"{path}: has more than {MAX_BYTES // 2**20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise PackError(f"{path}: is of version {content['version']!r}; this LargeForge reads {_VERSION}")
        return {str(name): _pinned(found) for name, found in content["packs"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PackError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, PackError):
            raise
        remedy = "restore it from git, or remove it and run: python -m largeforge packs update"
        raise PackError(f"{path}: is damaged ({type(error).__name__}); {remedy}") from None


def write(folder: Path, pinned: Mapping[str, Pinned]) -> None:
    """Write `packs.lock`, atomically."""
    write_json(folder / NAME, {"version": _VERSION, "packs": {name: asdict(found) for name, found in pinned.items()}})


def _pinned(found: dict[str, str]) -> Pinned:
    pinned = Pinned(found["git"], found["rev"], found["commit"], found["sha256"])
    if not address.is_commit(pinned.commit) or not re.fullmatch("[0-9a-f]{64}", pinned.sha256):
        raise ValueError("not a hash")
    if address.problem_of(pinned.git) or address.problem_of_rev(pinned.rev):
        raise ValueError("not an address")
    return pinned
