"""The objects as files of a kustomization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.exporting import images, models
from largeforge.exporting.kubernetes import gateway, mesh, network, scaling, secrets, servers
from largeforge.exporting.kubernetes.objects import GATEWAY, GATEWAY_LABELS, MODELS, Context, Object, service_account
from largeforge.exporting.rendered import Rendered, yaml_text

if TYPE_CHECKING:
    from largeforge.exporters.kubernetes import Config
    from largeforge.exporting.system import System

KUSTOMIZATION = "kustomization.yaml"
ADAPTER_RULES = "prometheus-adapter.yaml"


def render(config: Config, system: System) -> Rendered:
    """Return all files, and what to do with them."""
    context = Context(config, system)
    objects = {name: found for name, found in _objects(context).items() if found}
    header = f"{system.header}\nFor Kubernetes {config.kubernetes_version}."
    files = {name: yaml_text(found, header=header) for name, found in objects.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": context.namespace,
        "resources": list(objects),
    }  # fmt: skip
    files[KUSTOMIZATION] = yaml_text([kustomization], header=header)
    if config.autoscaling == "hpa":
        note = "\nRules for prometheus-adapter (its values), which make the metrics that the autoscalers read."
        rules = {"rules": {"external": scaling.adapter_rules(context)}}
        files[ADAPTER_RULES] = yaml_text([rules], header=header + note)
    if system.is_image_built:
        traces = bool(system.recipe.gateway.tracing.endpoint)
        files[images.CONTAINERFILE] = images.containerfile(has_traces=traces)
    return Rendered(files, tuple(_steps(context)), system.notes)


def _objects(context: Context) -> dict[str, list[Object]]:
    accounts = [
        service_account(context, GATEWAY, GATEWAY_LABELS),
        service_account(context, MODELS, {"app.kubernetes.io/component": MODELS}),
    ]
    return {
        "namespace.yaml": [_namespace(context), *accounts],
        "network.yaml": network.objects(context),
        "mesh.yaml": mesh.objects(context),
        "secrets.yaml": secrets.objects(context),
        **{f"{one.name}.yaml": servers.objects(context, one) for one in context.system.servers},
        "gateway.yaml": gateway.objects(context),
    }


def _namespace(context: Context) -> Object:
    version = f"v{context.config.kubernetes_version}"
    security = {
        key: value
        for mode in ("enforce", "warn", "audit")
        for key, value in (
            (f"pod-security.kubernetes.io/{mode}", "restricted"),
            (f"pod-security.kubernetes.io/{mode}-version", version),
        )
    }
    labels = {**context.common, **security, **(mesh.NAMESPACE_LABELS if context.config.mesh == "istio" else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": context.namespace, "labels": labels}}


def _steps(context: Context) -> list[str]:
    system, namespace, steps = context.system, context.namespace, []
    if system.is_image_built:
        image = system.gateway_image
        steps += [
            f"docker build -f {{folder}}/{images.CONTAINERFILE} -t REGISTRY/{image} {{folder}}, and push it",
            f"export again with export.gateway_image=REGISTRY/{image}",
        ]
    volume = [expert for one in system.servers for expert in models.on_volume(one.place)]
    for expert in volume:
        steps.append(f"put the files of {expert.reference} into {expert.name}/ of claim {context.config.models_claim}")
    if not context.config.secret_store:
        needed = [secrets.ADMIN_TOKEN]
        needed += [secrets.HUB_TOKEN] if any(one.fetches for one in system.servers) else []
        steps.append("kubectl apply -f {folder}/namespace.yaml")
        steps += [
            f"optional: kubectl -n {namespace} create secret generic {one.name} "
            f'--from-literal={one.variable}="${one.variable}"'
            for one in needed
        ]
    if context.config.autoscaling == "hpa":
        steps.append(f"give the rules in {{folder}}/{ADAPTER_RULES} to prometheus-adapter")
    return [
        *steps, "kubectl apply -k {folder}",
        f"kubectl -n {namespace} port-forward service/{GATEWAY} 8080:{gateway.SERVICE_PORT}",
    ]  # fmt: skip
