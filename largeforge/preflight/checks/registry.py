"""The model registry answers, or its database can be opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight import needs, servers
from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Open a local database read-only, or ask a server for its version."""
    from largeforge.preflight.web import without_password

    if context.recipe is None or not needs.uses_registry(context):
        yield skipped("the registry is not used")
        return
    uri = context.recipe.registry.uri
    shown = without_password(uri)
    if uri.startswith("sqlite:///"):
        yield _local(Path(uri.removeprefix("sqlite:///")).absolute())
    elif uri.startswith(("http://", "https://")):
        reply = context.web.get(servers.registry_address(uri), servers.registry_headers(context, uri))
        if not reply.status:
            yield error(f"{shown} cannot be reached: {reply.fault}", f"curl -sS {shown}/version; or registry=local")
        elif reply.status in (401, 403):
            cure = "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=…, or MLFLOW_TRACKING_TOKEN=…"
            yield error(f"{shown} refuses this user ({reply.status})", cure)
        elif reply.status >= 400:
            yield error(f"{shown} answers {reply.status}: is it an MLflow server?", f"curl -sS {shown}/version")
        else:
            yield ok(f"{shown} answers")
    else:
        yield skipped(f"{shown.partition(':')[0]}: is opened by MLflow itself")


def _local(path: Path) -> Finding:
    import sqlite3

    if not path.exists():
        return ok(f"{path} will be made")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)
        try:
            connection.execute("select count(*) from sqlite_master").fetchone()
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as fault:
        moved = path.with_name(f"{path.name}.broken")
        return error(
            f"{path} cannot be opened: {fault}", f"mv {path} {moved}; or registry.uri=sqlite:////FOLDER/mlflow.db"
        )
    return ok(f"{path} {'is empty' if empty else 'opens'}")
