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

from largeforge.errors import RecipeError, RegistryError, nearest
from largeforge.recipe import lock as locks
from largeforge.registry import files, records
from largeforge.registry.database import Database, every
from largeforge.registry.mlflow_runs import key
from largeforge.registry.records import ModelVersion, RegisteredModel, VersionSummary
from largeforge.registry.storage import ARTIFACT, storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
        lock: Mapping[str, Any] | None = None,
        card: str = "",
    ) -> ModelVersion:
        """Make the files below `folder` a new version of `name` and point `alias` at it.

        `lock` is that of the run that made them, `card` the README.md; both are kept beside the files. The same
        files under the same name are the version that they already are: only the alias moves, and damaged
        registered files are replaced. Raises RegistryError.
        """
        _check_names(name, alias)
        with files.staging(self._storage.folder) as staged:
            hashes = files.copy_hashed(folder, staged)
            digest = files.content_digest(kind, hashes)
            about = {"lineage": records.lineage_json(lineage), "metrics": records.metrics_json(metrics)}
            files.write_manifest(staged, kind, hashes, about, lock, card or files.card_of(folder))
            tags = records.to_tags(kind, digest, lineage, metrics)
            with self._database.writing() as client:
                known = [version for version in _summaries(client, name) if version.digest == digest]
                if known:
                    files.drop_lock(staged, unless=known[-1].lock)
                    number, path = known[-1].version, self._storage.restore(known[-1], staged)
                else:
                    number, path = self._create(client, name, staged, tags=tags, metrics=metrics)
                client.set_registered_model_alias(name, alias, str(number))
                made = next(version for version in _summaries(client, name) if version.version == number)
        return _with_path(made, path)

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
                    return _with_path(version, self._storage.fetch(client, version))
            raise _no_version(ref, selector, RegisteredModel(ref.target, found))

    def lock(self, version: ModelVersion) -> dict[str, Any]:
        """Return the lock of the run that made a version; empty when it was registered without one.

        Raises RegistryError when it is not the one that was registered.
        """
        path = version.path / files.LOCK
        if not path.is_file():
            return {}
        try:
            found = locks.read(path)
        except RecipeError as error:
            raise RegistryError(f"{version.reference} is damaged: {error}") from error
        if found["digest"] != version.lock:
            raise RegistryError(f"{version.reference} is damaged: {path} is the lock of another run")
        return found

    def list_models(self) -> list[RegisteredModel]:
        """Return every model that has a version, by name."""
        with self._database.reading() as client:
            return _models(client)

    def versions(self, name: str) -> list[VersionSummary]:
        """Return the versions of `name`, oldest first; none when there is no such model."""
        with self._database.reading() as client:
            return _summaries(client, name)

    def _create(
        self, client: Any, name: str, staged: Path, *, tags: dict[str, str], metrics: Mapping[str, float]
    ) -> tuple[int, Path]:
        """Log a run with the metrics and the files, then create the version, in this order."""
        experiment = self._experiment(client)
        if self._database.is_local:
            self._clear_abandoned(client, experiment)
        run = client.create_run(experiment, run_name=name, tags={"mlflow.source.name": "largeforge"})
        run_id = run.info.run_id
        _log_metrics(client, run_id, metrics)
        path = self._storage.publish(client, run_id, staged, tags[records.DIGEST_TAG])
        _ensure(client.create_registered_model, name)
        source = f"{run.info.artifact_uri}/{ARTIFACT}"
        version = client.create_model_version(name, source, run_id=run_id, tags=tags)
        client.set_terminated(run_id)
        return int(version.version), path

    def _experiment(self, client: Any) -> str:
        """Return the MLflow experiment of registrations; one for each place of files, which MLflow fixes for good."""
        root = self._storage.root
        name = f"{_EXPERIMENT} {root}" if root else _EXPERIMENT
        if client.get_experiment_by_name(name) is None:
            _ensure(client.create_experiment, name, artifact_location=root)
        return str(client.get_experiment_by_name(name).experiment_id)

    def _clear_abandoned(self, client: Any, experiment: str) -> None:
        """End the runs of registrations that were killed: under the lock, no running run is alive."""
        for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
            run_id = run.info.run_id
            if client.search_model_versions(f"run_id = '{run_id}'"):
                client.set_terminated(run_id)
            else:
                self._storage.discard(run_id)
                client.delete_run(run_id)

    def _no_model(self, client: Any, ref: ModelRef) -> RegistryError:
        names = [model.name for model in _models(client)]
        near = nearest(ref.target, names)
        return RegistryError(
            f"{ref}: no model '{ref.target}' is registered in {self._database}; "
            + (f"there is: {', '.join(names)}." if names else "nothing is registered there.")
            + (f" Did you mean 'registry:{near}'?" if near else "")
            + f" {_how_to_register(ref.target)}"
        )


def _how_to_register(name: str) -> str:
    """Return the command that registers a model, where a recipe says that it does."""
    from largeforge.recipe.sources import choices

    line = re.compile(rf"^\s*register_as:\s*{re.escape(name)}\s*$", re.MULTILINE)
    found = [recipe for recipe, path in choices("recipe").items() if line.search(path.read_text(encoding="utf-8"))]
    if found:
        return f"Run the recipe that registers it first: python -m largeforge +recipe={found[0]}"
    return f"A recipe with `register_as: {name}` registers it: python -m largeforge +recipe=NAME"


def _no_version(ref: ModelRef, selector: str, model: RegisteredModel) -> RegistryError:
    aliases = [f"@{alias} (version {number})" for alias, number in model.aliases.items()]
    numbers = [str(version.version) for version in model.versions]
    near = "" if ref.is_version else nearest(selector, model.aliases)
    recipe = model.versions[-1].lineage.recipe
    again = "" if ref.is_version else f" register_alias={selector}"
    return RegistryError(
        f"{ref}: model '{model.name}' has no {'version' if ref.is_version else 'alias'} '{selector}'; "
        f"it has versions {', '.join(numbers)} and {'aliases ' + ', '.join(aliases) if aliases else 'no alias'}."
        + (f" Did you mean 'registry:{model.name}@{near}'?" if near else "")
        + f" To register one: python -m largeforge +recipe={recipe or 'NAME'}{again}"
    )


def _check_names(name: str, alias: str) -> None:
    if not _NAME.fullmatch(name):
        rule = "a name has letters, digits, '_', '-' and '.', and is not only dots"
        raise RegistryError(f"register_as = '{name}': {rule}")
    if not _ALIAS.fullmatch(alias):
        rule = "an alias has letters, digits, '_' and '-'; MLflow keeps 'latest', 'v1', 'v2', ... for itself"
        raise RegistryError(f"register_alias = '{alias}': {rule}")


def _models(client: Any) -> list[RegisteredModel]:
    found: dict[str, list[VersionSummary]] = {}
    for version in _summaries(client, ""):
        found.setdefault(version.name, []).append(version)
    return [RegisteredModel(name, found[name]) for name in sorted(found)]


def _summaries(client: Any, name: str) -> list[VersionSummary]:
    """Return the versions that LargeForge registered (all, or those of one name), oldest first."""
    if client is None or (name and not _NAME.fullmatch(name)):
        return []
    only = f"name = '{name}'" if name else None
    aliases: dict[tuple[str, int], list[str]] = {}
    for model in every(client.search_registered_models, only):
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, int(number)), []).append(alias)
    found = [
        records.from_tags(
            name=version.name,
            version=int(version.version),
            tags=version.tags,
            aliases=tuple(sorted(aliases.get((version.name, int(version.version)), ()))),
            run_id=version.run_id,
            source=version.source,
        )
        for version in every(client.search_model_versions, only)
        if records.DIGEST_TAG in version.tags
    ]
    return sorted(found, key=lambda version: (version.name, version.version))


def _with_path(version: VersionSummary, path: Path) -> ModelVersion:
    return ModelVersion(**vars(version), path=path)


def _ensure(create: Callable[..., Any], name: str, **options: Any) -> None:
    """Create a named thing unless it is there, or another process is just making it."""
    from mlflow.exceptions import MlflowException

    try:
        create(name, **options)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_metrics(client: Any, run_id: str, metrics: Mapping[str, float]) -> None:
    """Log metrics under names that MLflow accepts; the tags of the version keep the exact ones."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    logged = [Metric(key(name), value, now_ms, 0) for name, value in metrics.items()]
    if logged:
        client.log_batch(run_id, metrics=logged)
