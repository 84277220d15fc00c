"""Secrets by reference: no file has a value, and pods start without those that nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.exporting.kubernetes.objects import GATEWAY, MODELS

if TYPE_CHECKING:
    from largeforge.exporting.kubernetes.objects import Context, Object

REFRESH = "1h"


@dataclass(frozen=True)
class Secret:
    """A Secret with one value, under the name of the variable that it becomes."""

    name: str
    variable: str


ADMIN_TOKEN = Secret(GATEWAY, "LARGEFORGE_ADMIN_TOKEN")
HUB_TOKEN = Secret(MODELS, "HF_TOKEN")


def reference(secret: Secret, *, optional: bool = True) -> Object:
    """Return the environment variable of a secret; a pod waits for one that is not optional."""
    source = {"name": secret.name, "key": secret.variable, "optional": optional}
    return {"name": secret.variable, "valueFrom": {"secretKeyRef": source}}


def objects(context: Context) -> list[Object]:
    """Return what fetches the secrets from the store; nothing without one."""
    if not context.config.secret_store:
        return []
    needed = [ADMIN_TOKEN, *([HUB_TOKEN] if any(one.fetches for one in context.system.servers) else [])]
    return [_external(context, secret) for secret in needed]


def _external(context: Context, secret: Secret) -> Object:
    config = context.config
    data = {"secretKey": secret.variable, "remoteRef": {"key": config.secret_key, "property": secret.variable}}
    spec = {
        "refreshInterval": REFRESH,
        "secretStoreRef": {"kind": config.secret_store_kind, "name": config.secret_store},
        "target": {"name": secret.name, "creationPolicy": "Owner"},
        "data": [data],
    }
    return context.object("ExternalSecret", secret.name, {}, api="external-secrets.io/v1", spec=spec)
