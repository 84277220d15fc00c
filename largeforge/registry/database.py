"""MLflow's side of the registry: opened once, quietly, and never half migrated.

A local SQLite database is migrated under a temporary name and renamed when it is whole, since
MLflow's migrations are not one transaction and a killed one could never be repeated. Every
write to it happens under the lock `<database>.lock`. A server keeps its own order.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from largeforge.errors import RegistryError
from largeforge.registry import staging
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SQLITE = "sqlite:///"

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # MLflow prints the address of a run to standard output, which belongs to the stage's events.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Its own 7 retries take four minutes to say that a server is not there; 3 take some 15 s.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
"""Set before MLflow is imported, unless the user has set them."""

_THEIRS = ("mlflow", "requests", "urllib3", "sqlalchemy", "botocore", "boto3", "s3transfer")
"""Packages whose errors are about a database, a server or a store, and not about this program."""


class Database:
    """An MLflow tracking and registry store by its URI; relative paths are bound when it is made."""

    def __init__(self, uri: str):
        self.path = Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None
        self.uri = f"{_SQLITE}{self.path}" if self.path else uri

    def __str__(self) -> str:
        """Return the URI without any password in it."""
        parts = urlsplit(self.uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else self.uri

    @property
    def is_local(self) -> bool:
        """Whether this is an SQLite file, whose writers take turns by our lock."""
        return self.path is not None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """Give an MlflowClient, or None when the database does not exist yet.

        Raises RegistryError for what MLflow refuses or a server that does not answer.
        """
        if self.path and not self.path.exists():
            yield None
            return
        with self._plainly():
            yield self._client

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """Give an MlflowClient while holding the lock of a local database, made when missing."""
        with self._turn(), self._plainly():
            if self.path and not self.path.exists():
                _create(self.path)
            yield self._client

    def close(self) -> None:
        """Close the file: MLflow keeps it open for the life of the process, also when another one took its place."""
        with _quiet():
            from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs
        for store in (Models, Runs):
            engine = store._engine_map.get(self.uri)
            if engine is not None:
                engine.dispose()

    @cached_property
    def _client(self) -> Any:
        with _quiet():
            from mlflow.tracking import MlflowClient

            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        if self.path is None:
            return contextlib.nullcontext()
        return staging.locked(self.path.with_name(f"{self.path.name}.lock"))

    @contextlib.contextmanager
    def _plainly(self) -> Iterator[None]:
        """Turn MLflow's errors into ours."""
        try:
            with _quiet():
                import mlflow  # noqa: F401
        except ImportError as error:
            raise RegistryError(f"{error}; the registry needs: pip install 'largeforge[registry]'") from error
        try:
            yield
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _THEIRS:
                raise
            told = str(getattr(error, "message", error)).replace(self.uri, str(self))
            raise RegistryError(f"registry {self}: {without_passwords(told)}") from error


def every(search: Callable[..., Any], filter_string: str | None) -> list[Any]:
    """Return all pages of one of MLflow's searches."""
    page = search(filter_string=filter_string)
    found = list(page)
    while page.token:
        page = search(filter_string=filter_string, page_token=page.token)
        found += page
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Import and open MLflow without telemetry, progress bars or chatter; errors are still logged."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # mlflow 3.17 declares one relation in a way that SQLAlchemy 2.1 deprecates, and fills it by a join of its own.
        warnings.filterwarnings(
            "ignore", message=re.escape("The ``noload`` loader strategy"), category=DeprecationWarning
        )
        yield
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.ERROR)


def _create(path: Path) -> None:
    """Migrate a new database under a temporary name; the caller holds the lock.

    Nobody can see it yet, so it is synced once at the end: a sync after each of MLflow's few
    hundred statements made this six times slower.
    """
    with _quiet():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        from sqlalchemy import Engine, event

    unfinished = path.with_name(f".{path.name}.new")
    for leftover in (unfinished, unfinished.with_name(f"{unfinished.name}-journal")):
        leftover.unlink(missing_ok=True)
    event.listen(Engine, "connect", _without_sync)
    try:
        store = SqlAlchemyStore(f"{_SQLITE}{unfinished}", path.parent.joinpath("artifacts").as_uri())
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", _without_sync)
    staging.sync(unfinished)
    unfinished.rename(path)
    staging.sync(path.parent)


def _without_sync(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
