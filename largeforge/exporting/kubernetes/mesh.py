"""Mutual TLS and calls by identity, with Istio in ambient mode.

Ambient, since sidecars would start after the container that downloads models, and need more rights than these pods
have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.exporting.kubernetes.objects import COMPONENT, GATEWAY, MODELS
from largeforge.exporting.system import GATEWAY_PORT, VLLM_PORT

if TYPE_CHECKING:
    from largeforge.exporting.kubernetes.objects import Context, Object

NAMESPACE_LABELS = {"istio.io/dataplane-mode": "ambient"}
_API = "security.istio.io/v1"


def objects(context: Context) -> list[Object]:
    """Return the policies; nothing without a mesh."""
    if context.config.mesh != "istio":
        return []
    return [
        context.object("PeerAuthentication", "strict", {}, api=_API, spec={"mtls": {"mode": "STRICT"}}),
        context.object("AuthorizationPolicy", "default-deny", {}, api=_API, spec={}),
        _allow(context, GATEWAY, _clients(context), GATEWAY_PORT),
        _allow(context, MODELS, _callers(context), VLLM_PORT),
    ]


def _clients(context: Context) -> list[Object]:
    namespaces = [*context.config.client_namespaces]
    if namespaces and context.config.monitoring_namespace:
        namespaces.append(context.config.monitoring_namespace)
    return [{"source": {"namespaces": namespaces}}] if namespaces else [{"source": {"principals": ["*"]}}]


def _callers(context: Context) -> list[Object]:
    gateway = {"source": {"principals": [f"*/ns/{context.namespace}/sa/{GATEWAY}"]}}
    monitoring = context.config.monitoring_namespace
    return [gateway, *([{"source": {"namespaces": [monitoring]}}] if monitoring else [])]


def _allow(context: Context, component: str, callers: list[Object], port: int) -> Object:
    rule = {"from": callers, "to": [{"operation": {"ports": [str(port)]}}]}
    spec = {"selector": {"matchLabels": {COMPONENT: component}}, "action": "ALLOW", "rules": [rule]}
    return context.object("AuthorizationPolicy", component, {}, api=_API, spec=spec)
