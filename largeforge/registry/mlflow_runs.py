"""Small things that everybody needs who writes runs to MLflow."""

from __future__ import annotations

import re
from typing import Any

from largeforge.registry.database import every

MAX_BATCH = 900
"""Metrics of one request; a server refuses more than a thousand."""
MAX_PARAMS = 100
"""Parameters, or tags, of one request."""
MAX_TAG = 5000
MAX_PARAM = 5000

_NOT_IN_A_KEY = re.compile(r"[^/\w.\- :]")


def key(text: str) -> str:
    """Return a name that MLflow takes for a parameter or metric."""
    return _NOT_IN_A_KEY.sub("_", text)[:250]


def experiment(client: Any, name: str, artifacts: str | None) -> str:
    """Return the id of an experiment, made when it is missing; `artifacts` is where its files go."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def tagged(client: Any, experiment_id: str, tag: str, value: str) -> list[Any]:
    """Return the runs of an experiment whose tag has a value."""
    quoted = value.replace("'", "")

    def search(**page: Any) -> Any:
        return client.search_runs([experiment_id], **page)

    return every(search, f"tags.`{tag}` = '{quoted}'")
