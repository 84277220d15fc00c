"""Model servers: a StatefulSet for each, with what belongs to it.

A StatefulSet and not a Deployment, since the gateway calls each replica by a name of its own: it balances by what each
has to do, keeps conversations at the replica whose KV cache has them, and drains one. And since each replica has a
volume of its own that outlives its pod, so that models are downloaded and kernels compiled once.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from largeforge.exporting import models
from largeforge.exporting.kubernetes.objects import (
    CONFINED,
    MODELS,
    Context,
    Object,
    disruption_budget,
    labels,
    pod_security,
    selector,
    variables,
)
from largeforge.exporting.kubernetes.scaling import scaler
from largeforge.exporting.kubernetes.secrets import HUB_TOKEN, reference
from largeforge.exporting.rendered import without_empty
from largeforge.exporting.system import GIVEN, TEMPLATE, VLLM_PORT, cache_environment, fetch_command

if TYPE_CHECKING:
    from largeforge.exporting.system import ModelServer

PROBE_EVERY_S = 5
CACHE, TEMPORARY, SHARED, LOCAL, CONFIGURED = "cache", "tmp", "shm", "models", "given"
"""Names of volumes."""


def objects(context: Context, one: ModelServer) -> list[Object]:
    """Return all objects of a server."""
    found = [_service(context, one), _stateful_set(context, one)]
    if one.chat_template:
        found.insert(0, context.object("ConfigMap", one.name, labels(one), data={TEMPLATE: one.chat_template}))
    found.append(disruption_budget(context, one.name, labels(one), selector(one)))
    return [*found, *scaler(context, one)]


def _service(context: Context, one: ModelServer) -> Object:
    """Return the service that gives each replica its name."""
    port = {"name": "http", "port": VLLM_PORT, "targetPort": "http", "protocol": "TCP"}
    spec = {"clusterIP": "None", "selector": selector(one), "ports": [port]}
    return context.object("Service", one.name, labels(one), spec=spec)


def _stateful_set(context: Context, one: ModelServer) -> Object:
    spec = {
        "serviceName": one.name,
        # an autoscaler sets the number, and applying the files again must not set it back
        **({"replicas": one.replicas} if context.config.autoscaling == "none" else {}),
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(one)},
        "template": {"metadata": _pod_metadata(context, one), "spec": _pod(context, one)},
        "volumeClaimTemplates": [_claim(context, one)],
    }
    return context.object("StatefulSet", one.name, labels(one), api="apps/v1", spec=spec)


def _pod_metadata(context: Context, one: ModelServer) -> Object:
    metadata: Object = {"labels": {**labels(one), **context.common}}
    if one.chat_template:
        digest = hashlib.sha256(one.chat_template.encode()).hexdigest()
        metadata["annotations"] = {"largeforge/chat-template-sha256": digest}
    return metadata


def _pod(context: Context, one: ModelServer) -> Object:
    config = context.config
    given = [{"name": CONFIGURED, "configMap": {"name": one.name}}] if one.chat_template else []
    local = [{"name": LOCAL, "persistentVolumeClaim": {"claimName": config.models_claim, "readOnly": True}}]
    shared = [{"name": SHARED, "emptyDir": {"medium": "Memory", "sizeLimit": f"{one.shm_gib}Gi"}}]
    volumes = [
        {"name": TEMPORARY, "emptyDir": {}},
        *(shared if one.shm_gib else []), *(local if one.reads_volume else []), *given,
    ]  # fmt: skip
    tolerations = [without_empty(one.model_dump()) for one in config.tolerations] if one.num_gpus else []
    return without_empty({
        "serviceAccountName": MODELS, "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # they would set VLLM_… variables, which vLLM reads as settings
        "terminationGracePeriodSeconds": 60, "securityContext": pod_security(config.run_as_user),
        "nodeSelector": config.node_selector, "tolerations": tolerations,
        "initContainers": [_fetch(context, one)] if one.fetches else [], "containers": [_vllm(context, one)],
        "volumes": volumes,
    })  # fmt: skip


def _fetch(context: Context, one: ModelServer) -> Object:
    """Return the container that downloads the models, the only one that is given the hub's token."""
    return {
        "name": "fetch", "image": context.system.vllm_image, "command": fetch_command(one),
        "env": [*variables(cache_environment()), reference(HUB_TOKEN)],
        "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": CONFINED, "volumeMounts": _mounts({CACHE: models.CACHE, TEMPORARY: "/tmp"}),
    }  # fmt: skip


def _vllm(context: Context, one: ModelServer) -> Object:
    memory = f"{one.memory_gib + one.shm_gib}Gi"  # what is in /dev/shm counts as memory of the container
    gpus = {context.config.gpu_resource: str(one.num_gpus)} if one.num_gpus else {}
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PROBE_EVERY_S}
    mounts = _mounts({CACHE: models.CACHE, TEMPORARY: "/tmp"})
    if one.shm_gib:
        mounts += _mounts({SHARED: "/dev/shm"})
    if one.reads_volume:
        mounts += _mounts({LOCAL: models.MODELS}, read_only=True)
    if one.chat_template:
        mounts += _mounts({CONFIGURED: GIVEN}, read_only=True)
    return {
        "name": "vllm", "image": context.system.vllm_image, "command": list(one.command),
        "env": variables(dict(one.environment)),
        "ports": [{"name": "http", "containerPort": VLLM_PORT, "protocol": "TCP"}],
        "startupProbe": {**health, "failureThreshold": math.ceil(one.startup_s / PROBE_EVERY_S)},
        "readinessProbe": {**health, "timeoutSeconds": 5, "failureThreshold": 3},
        # a busy server answers late; one that does not answer for a minute and a half is started again
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 15, "failureThreshold": 6},
        "resources": {
            "requests": {"cpu": str(context.config.server_cpus), "memory": memory, **gpus},
            "limits": {"memory": memory, **gpus},
        },
        "securityContext": CONFINED, "volumeMounts": mounts,
    }  # fmt: skip


def _claim(context: Context, one: ModelServer) -> Object:
    spec = without_empty({
        "accessModes": ["ReadWriteOnce"], "storageClassName": context.config.storage_class,
        "resources": {"requests": {"storage": f"{one.storage_gib}Gi"}},
    })  # fmt: skip
    return {"metadata": {"name": CACHE, "labels": labels(one)}, "spec": spec}


def _mounts(paths: dict[str, str], *, read_only: bool = False) -> list[Object]:
    return [
        {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})} for name, path in paths.items()
    ]
