"""The topology as objects of Kubernetes, for `kubectl apply -k`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from largeforge.exporters._exporter import Exporter
from largeforge.recipe.base import Strict

if TYPE_CHECKING:
    from largeforge.exporting.rendered import Rendered
    from largeforge.exporting.system import System

OWN_GPUS = True
"""A pod has its GPUs for itself."""

Label = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")]
Cidr = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]


def _version(given: Any) -> Any:
    """Return a version that YAML or a command line took for a number as text."""
    return f"{given:.2f}" if isinstance(given, float) else given


class Toleration(Strict):
    """A taint that model servers put up with."""

    key: str = Field(min_length=1)
    """Key of the taint."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Whether any value will do."""
    value: str = ""
    """Value of the taint, for `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """Effect of the taint."""


class Config(Exporter):
    """Manifests with a kustomization."""

    name: Literal["kubernetes"] = "kubernetes"
    kubernetes_version: Annotated[
        Literal["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"], BeforeValidator(_version)
    ] = "1.34"
    """Version of the cluster; the files are tested with the schemas of each of these."""
    namespace: Label = ""
    """Namespace, made for this export alone; empty is the recipe's name with dashes."""
    gateway_replicas: int = Field(default=1, gt=0, le=64)
    """Pods of the gateway; what operators set holds in the pod that was asked."""
    gateway_storage_gib: int = Field(default=0, ge=0)
    """Volume for what operators set and for batches, which then outlive the pod of the only gateway; 0 is none."""
    storage_class: str = ""
    """Storage class of all volumes; empty is the cluster's default."""
    storage_gib: int = Field(default=0, ge=0)
    """Volume of each model server for models and compiled kernels; 0 takes it from the size of the models."""
    models_claim: Label = ""
    """Claim with the files of models that are on no hub, one folder for each expert; you make and fill it."""
    autoscaling: Literal["none", "hpa", "keda"] = "none"
    """Who starts and stops model servers by what `autoscaling` says: nobody, a HorizontalPodAutoscaler that reads
    external metrics, or KEDA, which asks Prometheus itself."""
    max_replicas: int = Field(default=4, gt=0)
    """Most servers of an expert that is scaled; the least are its `replicas`."""
    prometheus_url: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    """Address of the Prometheus that scrapes the gateway, for KEDA."""
    mesh: Literal["none", "istio"] = "none"
    """Mutual TLS between all pods, and who may call whom by identity: Istio in ambient mode."""
    secret_store: str = ""
    """Store of the External Secrets Operator that has the secrets; empty leaves it to you to make them."""
    secret_store_kind: Literal["ClusterSecretStore", "SecretStore"] = "ClusterSecretStore"
    """Kind of that store."""
    secret_key: str = Field(default="largeforge", min_length=1)
    """Entry of the store whose properties `LARGEFORGE_ADMIN_TOKEN` and `HF_TOKEN` are the secrets."""
    client_namespaces: list[Label] = []
    """Namespaces whose pods may call the gateway; empty lets all that reach it."""
    monitoring_namespace: Label = ""
    """Namespace of a Prometheus that may also read the model servers' metrics."""
    hub_cidrs: list[Cidr] = ["0.0.0.0/0"]
    """Addresses that model servers may download from, on port 443; private ones are left out of `0.0.0.0/0`."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that model servers run on."""
    tolerations: list[Toleration] = [Toleration(key="nvidia.com/gpu")]
    """Taints of those nodes."""
    gpu_resource: str = Field(default="nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    """Name under which the cluster hands out GPUs."""
    run_as_user: int = Field(default=2000, gt=0)
    """User that model servers run as; 2000 is `vllm` in upstream's images."""


def render(config: Config, system: System) -> Rendered:
    """Return the files."""
    from largeforge.exporting.kubernetes import tree

    return tree.render(config, system)
