"""Look up a registered model without MLflow, which takes more than a second to import.

Reads the tables of MLflow 3's SQLite store (`registered_model_aliases`, `model_versions`, `model_version_tags`) and
the layout of `largeforge.registry.storage.LocalFolder`. Only to look: files are not verified, and a registry on a
server is not asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from largeforge.recipe.hub import NotFound

if TYPE_CHECKING:
    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Registry

_SQLITE = "sqlite:///"
_DEFAULT_ALIAS = "champion"


@dataclass(frozen=True)
class Found:
    """One version of a registered model."""

    number: str
    run_id: str
    source: str
    """Address of its files, as the registry has it."""
    tags: Mapping[str, str]


def version(ref: ModelRef, registry: Registry) -> Found:
    """Return the version that a reference means.

    Raises NotFound when the registry is no local database, cannot be read, or has no such version.
    """
    if not registry.uri.startswith(_SQLITE):
        raise NotFound("the registry is not a local one")
    database = Path(registry.uri.removeprefix(_SQLITE)).absolute()
    if not database.is_file():
        raise NotFound("nothing is registered yet")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=1)) as connection:
            found = _version(connection, ref)
    except sqlite3.Error as error:
        raise NotFound(f"{database} cannot be read ({error})") from error
    if found is None:
        raise NotFound(f"the registry has no {ref}")
    return found


def folder(ref: ModelRef, registry: Registry) -> Path:
    """Return the folder of a version's files.

    Raises NotFound when the registry is no local one, or has no such version.
    """
    if "://" in registry.artifacts:
        raise NotFound("the registry is not a local one")
    found = version(ref, registry)
    here = Path(registry.artifacts).expanduser().absolute() / found.run_id / "artifacts" / "model"
    recorded = Path(url2pathname(urlsplit(found.source).path))
    return here if here.is_dir() else recorded


def _version(connection: sqlite3.Connection, ref: ModelRef) -> Found | None:
    number = ref.selector
    if not ref.is_version:
        alias = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
        row = connection.execute(alias, (ref.target, ref.selector or _DEFAULT_ALIAS)).fetchone()
        if row is None:
            return None
        number = str(row[0])
    key = (ref.target, int(number))
    # MLflow keeps the rows of deleted versions, so that their numbers are not given again.
    there = "SELECT run_id, source FROM model_versions WHERE name = ? AND version = ? AND current_stage <> ?"
    row = connection.execute(there, (*key, "Deleted_Internal")).fetchone()
    tags = connection.execute("SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", key)
    return Found(number, str(row[0]), str(row[1]), {name: str(text) for name, text in tags}) if row else None
