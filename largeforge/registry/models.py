"""Register models and find them again.

A registration prepares the files completely, creates the version in one transaction, and moves
the alias last. Whatever is interrupted before that is invisible, and the next registration
clears it away. On a local database registrations take turns; on an MLflow server two identical
ones at the same instant may become two versions.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from largeforge.errors import RegistryError, nearest
from largeforge.registry import files, records
from largeforge.registry.database import Database, every
from largeforge.registry.records import ModelVersion, RegisteredModel, VersionSummary
from largeforge.registry.storage import ARTIFACT, storage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Registry
    from largeforge.registry.records import Kind, Lineage

DEFAULT_ALIAS = "champion"

_EXPERIMENT = "largeforge registry"
_NAME = re.compile(r"(?!\.+$)[\w.-]+")
_ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]+", re.IGNORECASE)


class ModelRegistry:
    """The models of one MLflow database or server."""

    def __init__(self, settings: Registry):
        self._database = Database(settings.uri)
        self._storage = storage(settings)

    def register(
        self,
        name: str,
        folder: Path,
        *,
        kind: Kind,
        lineage: Lineage,
        metrics: Mapping[str, float],
        alias: str,
    ) -> ModelVersion:
        """Make the files below `folder` a new version of `name` and point `alias` at it.

        The same files under the same name are the version that they already are: only the alias
        moves, and damaged registered files are replaced. Raises RegistryError.
        """
        _check_names(name, alias)
        with files.staging(self._storage.folder) as staged:
            hashes = files.copy_hashed(folder, staged)
            digest = files.content_digest(kind, hashes)
            about = {"lineage": records.lineage_json(lineage), "metrics": records.metrics_json(metrics)}
            files.write_manifest(staged, kind, hashes, about)
            tags = records.to_tags(kind, digest, lineage, metrics)
            with self._database.writing() as client:
                known = [version for version in _summaries(client, name) if version.digest == digest]
                if known:
                    self._storage.restore(known[-1], staged)
                    number = known[-1].version
                else:
                    number = self._create(client, name, staged, tags=tags, metrics=metrics)
                client.set_registered_model_alias(name, alias, str(number))
                made = next(version for version in _summaries(client, name) if version.version == number)
                return self._with_files(client, made)

    def resolve(self, ref: ModelRef) -> ModelVersion:
        """Find a version by number or alias (`champion` when neither is given) and verify its files.

        Raises RegistryError with what exists when it is missing, and with each bad file when it
        is damaged.
        """
        with self._database.reading() as client:
            found = _summaries(client, ref.target)
            if not found:
                raise self._no_model(client, ref)
            selector = ref.selector or DEFAULT_ALIAS
            for version in found:
                if selector == str(version.version) if ref.is_version else selector in version.aliases:
                    return self._with_files(client, version)
            raise _no_version(ref, selector, RegisteredModel(ref.target, found))

    def list_models(self) -> list[RegisteredModel]:
        """Return every model that has a version, by name."""
        with self._database.reading() as client:
            return _models(client)

    def versions(self, name: str) -> list[VersionSummary]:
        """Return the versions of `name`, oldest first; none when there is no such model."""
        with self._database.reading() as client:
            return _summaries(client, name)
