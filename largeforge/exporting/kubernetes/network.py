"""Who may talk to whom: nobody, but for what is listed here."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from largeforge.exporting.kubernetes.objects import COMPONENT, GATEWAY, MODELS
from largeforge.exporting.system import GATEWAY_PORT, VLLM_PORT

if TYPE_CHECKING:
    from largeforge.exporting.kubernetes.objects import Context, Object

HBONE_PORT = 15008
"""Port that Istio's ambient mode tunnels through (istio.io, "Ambient and Kubernetes NetworkPolicy")."""
AMBIENT_PROBES = "169.254.7.127/32"
"""Address that probes of a kubelet come from in that mode (the same page)."""
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
"""Addresses that no public hub has; the last are those of a cloud's metadata."""
EVERYWHERE = "0.0.0.0/0"


def objects(context: Context) -> list[Object]:
    """Return the policies."""
    return [_nothing(context), _names(context), _gateway(context), _models(context)]


def _policy(context: Context, name: str, pods: Object, types: list[str], **rules: list[Object]) -> Object:
    spec = {"podSelector": pods, "policyTypes": types, **{key: found for key, found in rules.items() if found}}
    return context.object("NetworkPolicy", name, {}, api="networking.k8s.io/v1", spec=spec)


def _nothing(context: Context) -> Object:
    return _policy(context, "default-deny", {}, ["Ingress", "Egress"])


def _names(context: Context) -> Object:
    to = [_namespace("kube-system")]
    ports = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    return _policy(context, "resolve-names", {}, ["Egress"], egress=[{"to": to, "ports": ports}])


def _gateway(context: Context) -> Object:
    clients = [_namespace(name) for name in context.config.client_namespaces]
    if clients and context.config.monitoring_namespace:
        clients.append(_namespace(context.config.monitoring_namespace))
    ingress = [{**({"from": clients} if clients else {}), "ports": _ports(context, GATEWAY_PORT)}, *_probes(context)]
    egress = [{"to": [_pods(MODELS)], "ports": _ports(context, VLLM_PORT)}]
    if endpoint := context.system.recipe.gateway.tracing.endpoint:
        address = urlsplit(endpoint)
        egress.append({"ports": _tcp(address.port or (443 if address.scheme == "https" else 80))})
    pods = {"matchLabels": {COMPONENT: GATEWAY}}
    return _policy(context, GATEWAY, pods, ["Ingress", "Egress"], ingress=ingress, egress=egress)


def _models(context: Context) -> Object:
    callers = [_pods(GATEWAY)]
    if context.config.monitoring_namespace:
        callers.append(_namespace(context.config.monitoring_namespace))
    ingress = [{"from": callers, "ports": _ports(context, VLLM_PORT)}, *_probes(context)]
    fetches = any(one.fetches for one in context.system.servers)
    hub = [
        {"ipBlock": {"cidr": cidr, **({"except": list(PRIVATE)} if cidr == EVERYWHERE else {})}}
        for cidr in context.config.hub_cidrs
    ]
    egress = [{"to": hub, "ports": _tcp(443)}] if fetches and hub else []
    pods = {"matchLabels": {COMPONENT: MODELS}}
    return _policy(context, MODELS, pods, ["Ingress", "Egress"], ingress=ingress, egress=egress)


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _pods(component: str) -> Object:
    return {"podSelector": {"matchLabels": {COMPONENT: component}}}


def _tcp(port: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port}]


def _ports(context: Context, port: int) -> list[Object]:
    return [*_tcp(port), *(_tcp(HBONE_PORT) if context.config.mesh == "istio" else [])]


def _probes(context: Context) -> list[Object]:
    return [{"from": [{"ipBlock": {"cidr": AMBIENT_PROBES}}]}] if context.config.mesh == "istio" else []
