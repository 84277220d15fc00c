"""Addresses that a plan will talk to, and what is sent with a request: tokens stay out of every message."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from largeforge.preflight import needs

if TYPE_CHECKING:
    from largeforge.preflight.context import Context
    from largeforge.recipe.model_ref import ModelRef

_TRUE = {"1", "ON", "YES", "TRUE"}


def endpoint(context: Context) -> str:
    """Return the hub, or the mirror that `HF_ENDPOINT` names, without any password in it."""
    return (context.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline(context: Context) -> bool:
    """Whether the hub may not be asked (huggingface_hub, `constants.py`)."""
    return any(context.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def has_token(context: Context) -> bool:
    """Whether there is a token for the hub."""
    return bool(_token(context))


def hub_headers(context: Context) -> dict[str, str]:
    """Return the headers that name this user to the hub."""
    token = _token(context)
    return {"Authorization": f"Bearer {token}"} if token else {}


def file_address(context: Context, ref: ModelRef) -> str:
    """Return the address of a model's `config.json`: small, and as protected as its weights."""
    return f"{endpoint(context)}/{quote(ref.target)}/resolve/{quote(ref.selector or 'main', safe='')}/config.json"


def registry_address(uri: str) -> str:
    """Return where an MLflow server says its version, without user and password (mlflow/server, `/version`)."""
    parts = urlsplit(uri)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, f"{parts.path.rstrip('/')}/version", "", ""))


def registry_headers(context: Context, uri: str) -> dict[str, str]:
    """Return the headers that name this user to the registry: those of the URI, or of MLflow's variables."""
    parts, environ = urlsplit(uri), context.environ
    if environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {environ['MLFLOW_TRACKING_TOKEN']}"}
    user = unquote(parts.username or "") or environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = unquote(parts.password or "") or environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def reached(context: Context) -> list[tuple[str, dict[str, str]]]:
    """Return address and headers of every server that other checks ask."""
    found = []
    if not is_offline(context):
        found += [(file_address(context, ref), hub_headers(context)) for ref in needs.missing_hub_models(context)]
    if context.recipe and needs.uses_registry(context):
        uri = context.recipe.registry.uri
        if uri.startswith(("http://", "https://")):
            found.append((registry_address(uri), registry_headers(context, uri)))
    return found


def host_of(url: str) -> str:
    """Return the host of a URL, for messages."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or url


def _token(context: Context) -> str:
    """Return the token as huggingface_hub finds it: the environment, then its file."""
    environ = context.environ
    given = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN")
    if given:
        return given.strip()
    file = Path(environ.get("HF_TOKEN_PATH") or context.hub_cache.parent / "token").expanduser()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
