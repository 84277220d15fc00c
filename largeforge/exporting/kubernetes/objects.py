"""What all objects share: names, labels, and how little a container may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.exporting import names

if TYPE_CHECKING:
    from largeforge.exporters.kubernetes import Config
    from largeforge.exporting.system import ModelServer, System

Object = dict[str, Any]

GATEWAY = "gateway"
"""Name of the gateway's objects and of its service account."""
MODELS = "model-servers"
"""Service account and component of all model servers."""
NAME, INSTANCE, COMPONENT, PART_OF = (
    f"app.kubernetes.io/{key}" for key in ("name", "instance", "component", "part-of")
)


@dataclass(frozen=True)
class Context:
    """What a function that makes objects is told."""

    config: Config
    system: System

    @property
    def namespace(self) -> str:
        """The namespace of all objects."""
        return self.config.namespace or names.label(self.system.recipe.name)

    def object(self, kind: str, name: str, labels: dict[str, str], *, api: str = "v1", **fields: Any) -> Object:
        """Return an object of the namespace."""
        metadata = {"name": name, "namespace": self.namespace, "labels": {**labels, **self.common}}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}

    @property
    def common(self) -> dict[str, str]:
        """Labels of every object."""
        return {PART_OF: names.label(self.system.recipe.name), "app.kubernetes.io/managed-by": "largeforge"}

    def replicas(self, one: ModelServer) -> int:
        """Return the most replicas that a server can have."""
        return one.replicas if self.config.autoscaling == "none" else self.config.max_replicas

    def urls(self, one: ModelServer) -> list[str]:
        """Return the address of each replica, also of those that are not started yet."""
        from largeforge.exporting.system import VLLM_PORT

        return [
            f"http://{one.name}-{number}.{one.name}.{self.namespace}.svc:{VLLM_PORT}"
            for number in range(self.replicas(one))
        ]


def selector(one: ModelServer) -> dict[str, str]:
    """Return the labels by which a server's pods are found."""
    return {NAME: "vllm", INSTANCE: one.name}


def labels(one: ModelServer) -> dict[str, str]:
    """Return the labels of a server's objects and pods."""
    return {**selector(one), COMPONENT: MODELS}


GATEWAY_SELECTOR = {NAME: GATEWAY, INSTANCE: GATEWAY}
GATEWAY_LABELS = {**GATEWAY_SELECTOR, COMPONENT: GATEWAY}

CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Security context of every container."""


def pod_security(user: int) -> Object:
    """Return the security context of a pod whose volumes belong to its user."""
    return {
        "runAsNonRoot": True, "runAsUser": user, "fsGroup": user, "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip


def variables(values: dict[str, str]) -> list[Object]:
    """Return environment variables."""
    return [{"name": name, "value": value} for name, value in values.items()]


def service_account(context: Context, name: str, labels: dict[str, str]) -> Object:
    """Return an account that no pod has a token of: nothing here calls the cluster."""
    return context.object("ServiceAccount", name, labels, automountServiceAccountToken=False)


def disruption_budget(context: Context, name: str, labels: dict[str, str], pods: dict[str, str]) -> Object:
    """Return a budget by which nodes are drained one pod at a time, and at once where the pod is broken anyway."""
    spec = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": pods}}
    return context.object("PodDisruptionBudget", name, labels, api="policy/v1", spec=spec)
