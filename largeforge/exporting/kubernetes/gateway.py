"""The gateway: a Deployment with its file, which rolls when the file changes."""

from __future__ import annotations

import hashlib

from largeforge.exporting.gateway_file import gateway_environment, gateway_file, gateway_text
from largeforge.exporting.images import GATEWAY_USER
from largeforge.exporting.kubernetes.objects import (
    CONFINED,
    GATEWAY,
    GATEWAY_LABELS,
    GATEWAY_SELECTOR,
    Context,
    Object,
    disruption_budget,
    pod_security,
    variables,
)
from largeforge.exporting.kubernetes.secrets import ADMIN_TOKEN, reference
from largeforge.exporting.rendered import without_empty
from largeforge.exporting.system import GATEWAY_PORT, GIVEN, STATE

FILE = "gateway.json"
SERVICE_PORT = 80
_MOUNTS = [{"name": "state", "mountPath": STATE}, {"name": "tmp", "mountPath": "/tmp"}]
_GIVEN = {"name": "given", "mountPath": GIVEN, "readOnly": True}


def objects(context: Context) -> list[Object]:
    """Return all objects of the gateway."""
    text = gateway_text(gateway_file(context.system, context.urls, num_gateways=context.config.gateway_replicas))
    found = [context.object("ConfigMap", GATEWAY, GATEWAY_LABELS, data={FILE: text})]
    if context.config.gateway_storage_gib:
        found.append(_claim(context))
    return [
        *found, _service(context), _deployment(context, text),
        disruption_budget(context, GATEWAY, GATEWAY_LABELS, GATEWAY_SELECTOR),
    ]  # fmt: skip


def _claim(context: Context) -> Object:
    spec = without_empty({
        "accessModes": ["ReadWriteOnce"], "storageClassName": context.config.storage_class,
        "resources": {"requests": {"storage": f"{context.config.gateway_storage_gib}Gi"}},
    })  # fmt: skip
    return context.object("PersistentVolumeClaim", GATEWAY, GATEWAY_LABELS, spec=spec)


def _service(context: Context) -> Object:
    port = {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    spec = {"type": "ClusterIP", "selector": GATEWAY_SELECTOR, "ports": [port]}
    return context.object("Service", GATEWAY, GATEWAY_LABELS, spec=spec)


def _deployment(context: Context, text: str) -> Object:
    has_volume = bool(context.config.gateway_storage_gib)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    annotations = {
        "largeforge/gateway-sha256": hashlib.sha256(text.encode()).hexdigest(),  # another file makes new pods
        "prometheus.io/scrape": "true", "prometheus.io/port": str(GATEWAY_PORT), "prometheus.io/path": "/metrics",
    }  # fmt: skip
    spec = {
        "replicas": context.config.gateway_replicas,
        # a volume goes from pod to pod, so that the old one must be gone before
        "strategy": {"type": "Recreate"} if has_volume else rolling,
        "selector": {"matchLabels": GATEWAY_SELECTOR},
        "template": {
            "metadata": {"labels": {**GATEWAY_LABELS, **context.common}, "annotations": annotations},
            "spec": _pod(context),
        },
    }
    return context.object("Deployment", GATEWAY, GATEWAY_LABELS, api="apps/v1", spec=spec)


def _pod(context: Context) -> Object:
    has_volume = bool(context.config.gateway_storage_gib)
    state = {"persistentVolumeClaim": {"claimName": GATEWAY}} if has_volume else {"emptyDir": {}}
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": GATEWAY_SELECTOR},
    }  # fmt: skip
    return without_empty({
        "serviceAccountName": GATEWAY, "automountServiceAccountToken": False, "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30, "securityContext": pod_security(GATEWAY_USER),
        "topologySpreadConstraints": [spread] if context.config.gateway_replicas > 1 else [],
        "initContainers": [_copy(context)], "containers": [_gateway(context)],
        "volumes": [
            {"name": "given", "configMap": {"name": GATEWAY}}, {"name": "state", **state},
            {"name": "tmp", "emptyDir": {}},
        ],
    })  # fmt: skip


def _copy(context: Context) -> Object:
    """Return the container that copies the gateway's file to where operators can change it."""
    return {
        "name": "copy", "image": context.system.gateway_image, "command": ["cp", f"{GIVEN}/{FILE}", f"{STATE}/{FILE}"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}},
        "securityContext": CONFINED, "volumeMounts": [*_MOUNTS, _GIVEN],
    }  # fmt: skip


def _gateway(context: Context) -> Object:
    workers = context.system.recipe.gateway.workers
    port = {"port": "http"}
    optional = not context.config.secret_store  # where there is a store, no gateway starts with a token of its own
    return {
        "name": "gateway", "image": context.system.gateway_image,
        "command": ["python", "-m", "largeforge.gateway", "--config", f"{STATE}/{FILE}"],
        "env": [*variables(gateway_environment()), reference(ADMIN_TOKEN, optional=optional)],
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"}],
        "startupProbe": {"httpGet": {"path": "/health", **port}, "periodSeconds": 2, "failureThreshold": 30},
        "readinessProbe": {"httpGet": {"path": "/ready", **port}, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {
            "httpGet": {"path": "/health", **port}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
        },
        # the service sends nothing more before the gateway is told to stop
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "resources": {
            "requests": {"cpu": f"{500 * workers}m", "memory": f"{512 * workers}Mi"},
            "limits": {"memory": f"{1024 * workers}Mi"},
        },
        "securityContext": CONFINED, "volumeMounts": _MOUNTS,
    }  # fmt: skip
