"""Exports to Kubernetes: every object is valid, and they fit each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml

from largeforge.errors import FitError, RecipeError
from largeforge.estimate.memory import GIB
from largeforge.exporters.kubernetes import Config
from largeforge.exporting.files import write
from largeforge.exporting.models import FETCH
from largeforge.gateway.config import GatewayFile
from largeforge.monitoring.names import OUTSTANDING, WAITING
from tests.exporters.exports import (
    WORKLOADS,
    Object,
    containers,
    export,
    gateway_file,
    named,
    objects,
    of_kind,
    option,
    pod,
    texts,
)

if TYPE_CHECKING:
    from largeforge.exporting.rendered import Rendered

SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = get_args(Config.model_fields["kubernetes_version"].annotation)

BIG = ("+recipe=serve_gpt_oss_120b", "hardware.num_gpus=2", "serving.tensor_parallel_size=2")
REPLICAS = "topology.experts.general.replicas=2"
CPU = ("+recipe=serve_quickstart", "export.models_claim=models", "export.memory_gib=4")
EXPORTS: dict[str, tuple[str, ...]] = {
    "20b": ("+recipe=serve_gpt_oss_20b",),
    "two GPUs, two replicas, a mesh, secrets": (
        *BIG, REPLICAS, "export.mesh=istio", "export.secret_store=vault", "export.client_namespaces=[apps]",
        "export.monitoring_namespace=monitoring", "export.node_selector={gpu: h100}", "export.storage_class=fast",
    ),
    "hpa": ("+recipe=serve_gpt_oss_20b", "export.autoscaling=hpa", "export.gateway_replicas=3"),
    "keda": (*BIG, "export.autoscaling=keda", "export.prometheus_url=http://prometheus.monitoring:9090"),
    "adapters on a CPU, from a volume": CPU,
    "batches, traces, a template": (
        "+recipe=serve_gpt_oss_20b", "gateway.batches.folder=/tmp/batches", "export.gateway_storage_gib=10",
        "gateway.tracing.endpoint=http://collector.monitoring:4318", "export.gateway_image=registry.example.com/gw:1",
        "'models.gpt_oss.chat_template=\"{{ messages[0].content }}\n\"'",
    ),
}  # fmt: skip


def kubernetes(*words: str) -> Rendered:
    return export(*(word.strip("'") for word in words), "export=kubernetes")


@pytest.fixture(params=EXPORTS, scope="module")
def found(request: pytest.FixtureRequest) -> list[Object]:
    return objects(kubernetes(*EXPORTS[request.param]))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(found: list[Object], version: str) -> None:
    validated = set()
    for one in found:
        schema = SCHEMAS / f"{one['kind']}.json"
        if schema.is_file():
            jsonschema.validate(one, json.loads(schema.read_text()))
        else:
            assert kubernetes_validate.validate(one, version, strict=True) == version
        validated.add(one["kind"])
    assert {"Namespace", "StatefulSet", "Deployment", "NetworkPolicy", "ConfigMap", "Service"} <= validated


def test_all_kinds_of_objects_are_among_those_that_are_validated() -> None:
    kinds = {one["kind"] for words in EXPORTS.values() for one in objects(kubernetes(*words))}
    assert {
        "ScaledObject",
        "HorizontalPodAutoscaler",
        "ExternalSecret",
        "PeerAuthentication",
        "AuthorizationPolicy",
    } < kinds


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("name", EXPORTS)
def test_kubectl_builds_the_kustomization(name: str, tmp_path: Path) -> None:
    rendered = kubernetes(*EXPORTS[name])
    write(tmp_path, rendered.files)
    built = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True, timeout=60)
    assert sorted(map(_identity, yaml.safe_load_all(built.stdout))) == sorted(map(_identity, objects(rendered)))


def _identity(one: Object) -> tuple[str, str, str]:
    return one["kind"], one["metadata"]["name"], one["metadata"].get("namespace", "")


def test_no_two_objects_have_one_name_and_all_are_in_the_namespace(found: list[Object]) -> None:
    identities = [_identity(one) for one in found]
    assert len(set(identities)) == len(identities)
    namespace = of_kind(found, "Namespace")[0]["metadata"]["name"]
    assert {one["metadata"].get("namespace") for one in found if one["kind"] != "Namespace"} == {namespace}


def test_selectors_match_the_labels_of_one_workload_each(found: list[Object]) -> None:
    workloads = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in of_kind(found, *WORKLOADS)
    }

    def matched(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in workloads.items() if selector.items() <= labels.items()}

    for one in of_kind(found, *WORKLOADS, "PodDisruptionBudget"):
        assert matched(one["spec"]["selector"]["matchLabels"]) == {one["metadata"]["name"]}
    for service in of_kind(found, "Service"):
        assert matched(service["spec"]["selector"]) == {service["metadata"]["name"]}
    for policy in of_kind(found, "NetworkPolicy", "AuthorizationPolicy"):
        for pods in _pod_selectors(policy["spec"]):
            assert not pods or matched(pods), policy["metadata"]["name"]
    for scaler in of_kind(found, "ScaledObject", "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] in workloads


def _pod_selectors(spec: Object) -> list[dict[str, str]]:
    text = json.dumps(spec)
    return [
        json.loads(found) for found in re.findall(r'"(?:podSelector|selector)": \{"matchLabels": (\{[^}]*\})', text)
    ]


def test_ports_and_probes_are_those_that_the_programs_listen_on(found: list[Object]) -> None:
    for workload in of_kind(found, *WORKLOADS):
        name, main = workload["metadata"]["name"], pod(workload)["containers"][0]
        listens = (
            int(option(main["command"], "--port")) if name != "gateway" else gateway_file(found)["gateway"]["port"]
        )
        ports = {port["name"]: port["containerPort"] for port in main["ports"]}
        assert ports == {"http": listens}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert ports[main[probe]["httpGet"]["port"]] == listens
        service = named(found, "Service", name)
        assert [ports[port["targetPort"]] for port in service["spec"]["ports"]] == [listens]
    assert gateway_file(found)["gateway"]["host"] == "0.0.0.0"
    gateway = pod(named(found, "Deployment", "gateway"))["containers"][0]
    assert (
        gateway["readinessProbe"]["httpGet"]["path"] == "/ready"
        and gateway["livenessProbe"]["httpGet"]["path"] == "/health"
    )


def test_every_mount_has_its_volume_and_every_volume_its_source(found: list[Object]) -> None:
    for workload in of_kind(found, *WORKLOADS):
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
        mounted = {mount["name"] for one in containers(workload) for mount in one["volumeMounts"]}
        assert mounted == claims | volumes.keys()
        for volume in volumes.values():
            if "configMap" in volume:
                assert named(found, "ConfigMap", volume["configMap"]["name"])["data"]
            if "persistentVolumeClaim" in volume and volume["name"] != "models":
                assert named(found, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def test_the_gateways_file_is_one_and_its_addresses_are_pods(found: list[Object]) -> None:
    file = GatewayFile.model_validate(gateway_file(found))
    namespace = of_kind(found, "Namespace")[0]["metadata"]["name"]
    for expert, upstreams in file.upstreams.items():
        for upstream in upstreams:
            address = urlsplit(upstream.url)
            replica, service, where, svc = str(address.hostname).split(".")
            assert (where, svc) == (namespace, "svc")
            headless = named(found, "Service", service)["spec"]
            assert headless["clusterIP"] == "None" and headless["ports"][0]["port"] == address.port
            server = named(found, "StatefulSet", service)
            assert server["spec"]["serviceName"] == service and re.fullmatch(rf"{service}-\d+", replica)
            command = pod(server)["containers"][0]["command"]
            served = {option(command, "--served-model-name")}
            if "--lora-modules" in command:
                modules = command[command.index("--lora-modules") + 1 :]
                served |= {word.partition("=")[0] for word in modules if "=" in word}
            assert expert in served and upstream.served_model == expert
        assert (
            len(upstreams) == len({upstream.url for upstream in upstreams}) == _most_replicas(found, upstreams[0].url)
        )


def _most_replicas(found: list[Object], url: str) -> int:
    name = str(urlsplit(url).hostname).split(".")[1]
    for scaler in of_kind(found, "ScaledObject", "HorizontalPodAutoscaler"):
        if scaler["metadata"]["name"] == name:
            return int(scaler["spec"].get("maxReplicas") or scaler["spec"]["maxReplicaCount"])
    return int(named(found, "StatefulSet", name)["spec"]["replicas"])


def test_no_container_may_do_more_than_it_must(found: list[Object]) -> None:
    for workload in of_kind(found, *WORKLOADS):
        spec = pod(workload)
        security = spec["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert named(found, "ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"] is False
        for one in containers(workload):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert {"requests", "limits"} <= one["resources"].keys()
        kinds = {key for volume in spec["volumes"] for key in volume.keys() - {"name"}}
        assert kinds <= {"emptyDir", "configMap", "persistentVolumeClaim"}  # what Pod Security `restricted` allows
    labels = of_kind(found, "Namespace")[0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", EXPORTS)
def test_no_secret_has_a_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_TOKEN", "LARGEFORGE_ADMIN_TOKEN"):
        monkeypatch.setenv(variable, "hf_thisIsASecretThatNobodyMaySee")
    export.cache_clear()
    rendered = kubernetes(*EXPORTS[name])
    assert not any("thisIsASecret" in text for text in [*rendered.files.values(), *rendered.steps, *rendered.notes])
    found = objects(rendered)
    assert not of_kind(found, "Secret")
    variables = [
        one for workload in of_kind(found, *WORKLOADS) for part in containers(workload) for one in part.get("env", [])
    ]
    secret = [one for one in variables if "TOKEN" in one["name"] and "TIKTOKEN" not in one["name"]]
    assert secret and all("value" not in one for one in secret)


def test_gpus_and_memory_of_a_server_are_those_of_the_estimate() -> None:
    found = objects(kubernetes(*BIG, REPLICAS))
    server = named(found, "StatefulSet", "vllm-general")
    main = pod(server)["containers"][0]
    size = int(option(main["command"], "--tensor-parallel-size"))
    assert (
        main["resources"]["limits"]["nvidia.com/gpu"]
        == main["resources"]["requests"]["nvidia.com/gpu"]
        == str(size)
        == "2"
    )
    assert server["spec"]["replicas"] == 2
    memory = int(main["resources"]["requests"]["memory"].removesuffix("Gi"))
    assert 61 < memory < 120  # the weights pass through the page cache, beside the processes
    shared = next(volume for volume in pod(server)["volumes"] if volume["name"] == "shm")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in main["volumeMounts"]


@pytest.mark.parametrize(("recipe", "load_s"), [("serve_gpt_oss_20b", 60), ("serve_gpt_oss_120b", 120)])
def test_a_server_has_its_time_to_load_and_two_minutes(recipe: str, load_s: int) -> None:
    main = pod(named(objects(kubernetes(f"+recipe={recipe}")), "StatefulSet", "vllm-general"))["containers"][0]
    probe = main["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == load_s + 120
    other = pod(
        named(objects(kubernetes(f"+recipe={recipe}", "serving.targets.load_s=0")), "StatefulSet", "vllm-general")
    )
    probe = other["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 600


def test_replicas_that_would_not_share_a_card_have_one_each() -> None:
    found = objects(kubernetes("+recipe=serve_gpt_oss_20b", "topology.experts.general.replicas=3"))
    assert named(found, "StatefulSet", "vllm-general")["spec"]["replicas"] == 3
    assert len(gateway_file(found)["upstreams"]["general"]) == 3


def test_a_server_that_does_not_fit_is_not_exported() -> None:
    with pytest.raises(FitError, match=r"does not fit[^$]*memory"):
        kubernetes("+recipe=serve_gpt_oss_120b", "hardware=rtx_4090")
    notes = kubernetes("+recipe=serve_gpt_oss_120b", "hardware=rtx_4090", "memory_check=warn").notes
    assert any("does not fit" in note for note in notes)


def test_what_a_server_downloads_is_pinned_and_the_server_is_offline() -> None:
    commit = "6cee5e81ee83917806bbde320786a8fb61efebee"
    rendered = kubernetes("+recipe=serve_gpt_oss_20b", f"models.gpt_oss.ref=hub:openai/gpt-oss-20b@{commit}")
    server = named(objects(rendered), "StatefulSet", "vllm-general")
    fetch, main = pod(server)["initContainers"][0], pod(server)["containers"][0]
    assert json.loads(fetch["command"][-1]) == [["openai/gpt-oss-20b", commit, ""]]
    assert option(main["command"], "--revision") == commit
    environment = {one["name"]: one.get("value") for one in main["env"]}
    assert environment["HF_HUB_OFFLINE"] == "1" and "HF_TOKEN" not in environment
    assert not rendered.notes
    assert "not pinned" in kubernetes("+recipe=serve_gpt_oss_20b").notes[0]


def test_the_program_that_downloads_keeps_to_what_a_server_reads(tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text(
        "import json, pathlib\n"
        "def snapshot_download(repository, **options):\n"
        "    print(json.dumps([repository, options]))\n"
        "    path = pathlib.Path(options.get('local_dir') or repository)\n"
        "    path.mkdir(parents=True)\n"
        "    (path / 'config.json').write_text(json.dumps({'model_type': 'gpt_oss'}))\n"
        "    (path / 'model.safetensors').touch()\n"
        "    return str(path)\n"
    )
    (tmp_path / "openai_harmony.py").write_text("def load_harmony_encoding(name):\n    print(name)\n")
    wanted = json.dumps([["acme/model", "abc", ""], ["acme/adapter", "", "adapters/one"]])
    environment = {
        "PYTHONPATH": str(tmp_path),
        "TIKTOKEN_RS_CACHE_DIR": str(tmp_path / "tiktoken"),
        "PATH": "/usr/bin:/bin",
    }
    python = shutil.which("python3")
    assert python
    ended = subprocess.run(
        [python, "-c", FETCH, wanted], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    lines = ended.stdout.splitlines()
    repository, options = json.loads(lines[0])
    assert repository == "acme/model" and options["revision"] == "abc" and "original/*" in options["ignore_patterns"]
    assert json.loads(lines[3])[1]["local_dir"] == "adapters/one"
    assert lines.count("HarmonyGptOss") == 2 and (tmp_path / "tiktoken").is_dir()


def test_only_the_gateway_reaches_model_servers() -> None:
    found = objects(kubernetes("+recipe=serve_gpt_oss_20b"))
    everything = named(found, "NetworkPolicy", "default-deny")["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    servers = named(found, "NetworkPolicy", "model-servers")["spec"]
    component = "app.kubernetes.io/component"
    assert servers["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {component: "gateway"}}}],
            "ports": [{"protocol": "TCP", "port": 8000}],
        }
    ]
    assert [rule["ports"] for rule in servers["egress"]] == [[{"protocol": "TCP", "port": 443}]]
    assert "169.254.0.0/16" in servers["egress"][0]["to"][0]["ipBlock"]["except"]
    gateway = named(found, "NetworkPolicy", "gateway")["spec"]
    assert gateway["egress"] == [
        {
            "to": [{"podSelector": {"matchLabels": {component: "model-servers"}}}],
            "ports": [{"protocol": "TCP", "port": 8000}],
        }
    ]


def test_models_from_a_volume_need_no_way_out() -> None:
    found = objects(kubernetes(*CPU))
    assert "egress" not in named(found, "NetworkPolicy", "model-servers")["spec"]
    server = pod(named(found, "StatefulSet", "vllm-general"))
    assert "initContainers" not in server
    main = server["containers"][0]
    assert option(main["command"], "--model") == "/models/general"
    assert {"mapper=/models/mapper", "support=/models/support"} <= set(main["command"])
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in main["volumeMounts"]
    assert "nvidia.com/gpu" not in json.dumps(found) and "vllm-cpu" in main["image"]
    assert {"VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS"} <= {one["name"] for one in main["env"]}


def test_secrets_come_from_a_store_by_reference() -> None:
    found = objects(
        kubernetes("+recipe=serve_gpt_oss_20b", "export.secret_store=vault", "export.secret_key=team/largeforge")
    )
    by_name = {one["metadata"]["name"]: one["spec"] for one in of_kind(found, "ExternalSecret")}
    for workload, variable in (("gateway", "LARGEFORGE_ADMIN_TOKEN"), ("model-servers", "HF_TOKEN")):
        spec = by_name[workload]
        assert spec["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "vault"}
        assert spec["data"] == [{"secretKey": variable, "remoteRef": {"key": "team/largeforge", "property": variable}}]
        users = [
            one["valueFrom"]["secretKeyRef"]
            for found_workload in of_kind(found, *WORKLOADS)
            for container in containers(found_workload)
            for one in container.get("env", [])
            if one["name"] == variable
        ]
        optional = workload == "model-servers"  # a gateway waits for its token, and public models need none
        assert users == [{"name": spec["target"]["name"], "key": variable, "optional": optional}]


def test_a_mesh_lets_only_the_gateways_identity_call_models() -> None:
    found = objects(kubernetes("+recipe=serve_gpt_oss_20b", "export.mesh=istio"))
    assert of_kind(found, "PeerAuthentication")[0]["spec"] == {"mtls": {"mode": "STRICT"}}
    assert named(found, "AuthorizationPolicy", "default-deny")["spec"] == {}
    account = pod(named(found, "Deployment", "gateway"))["serviceAccountName"]
    rules = named(found, "AuthorizationPolicy", "model-servers")["spec"]["rules"]
    assert rules[0]["from"] == [{"source": {"principals": [f"*/ns/serve-gpt-oss-20b/sa/{account}"]}}]
    servers = named(found, "NetworkPolicy", "model-servers")["spec"]
    assert {port["port"] for port in servers["ingress"][0]["ports"]} == {8000, 15008}
    assert not of_kind(objects(kubernetes("+recipe=serve_gpt_oss_20b")), "PeerAuthentication")


@pytest.mark.parametrize("how", ["hpa", "keda"])
def test_servers_are_scaled_by_what_waits_at_the_gateway(how: str) -> None:
    words = ("+recipe=serve_gpt_oss_20b", f"export.autoscaling={how}", "export.prometheus_url=http://prometheus:9090")
    rendered = kubernetes(*words)
    found = objects(rendered)
    assert "replicas" not in named(found, "StatefulSet", "vllm-general")["spec"]
    spec = of_kind(found, "HorizontalPodAutoscaler" if how == "hpa" else "ScaledObject")[0]["spec"]
    behavior = spec["behavior"] if how == "hpa" else spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 60
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    if how == "hpa":
        rules = yaml.safe_load(rendered.files["prometheus-adapter.yaml"])["rules"]["external"]
        asked = [metric["external"]["metric"]["name"] for metric in spec["metrics"]]
        assert asked == [rule["name"]["as"] for rule in rules]
        queries = [rule["metricsQuery"] for rule in rules]
    else:
        queries = [trigger["metadata"]["query"] for trigger in spec["triggers"]]
    assert 'largeforge_gateway_requests_waiting{namespace="serve-gpt-oss-20b",expert=~"general"}' in queries[0]
    pattern = re.search(r'replica=~"([^"]+)"', queries[1])
    assert pattern and "largeforge_gateway_server_outstanding_requests" in queries[1]
    urls = [one["url"] for one in gateway_file(found)["upstreams"]["general"]]
    assert len(urls) == 4 and all(re.fullmatch(pattern[1], url) for url in urls)


@pytest.mark.parametrize("how", ["hpa", "keda"])
@pytest.mark.parametrize("threshold", [150, 70])
def test_servers_are_scaled_by_the_latency_that_is_promised(how: str, threshold: int) -> None:
    rendered = kubernetes(
        "+recipe=serve_gpt_oss_20b", f"export.autoscaling={how}", "export.prometheus_url=http://prometheus:9090",
        "slo=gpt_oss_20b", f"slo.objectives.first_token.threshold_ms={threshold}",
    )  # fmt: skip
    spec = of_kind(objects(rendered), "HorizontalPodAutoscaler" if how == "hpa" else "ScaledObject")[0]["spec"]
    if how == "hpa":
        target = spec["metrics"][2]["external"]["target"]
        rules = yaml.safe_load(rendered.files["prometheus-adapter.yaml"])["rules"]["external"]
        assert target == {"type": "Value", "value": f"{threshold}"}
        query = rules[2]["metricsQuery"]
    else:
        trigger = spec["triggers"][2]
        assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("Value", f"{threshold}")
        query = trigger["metadata"]["query"]
    assert "histogram_quantile(0.95" in query and "time_to_first_token_seconds_bucket" in query
    assert query.endswith("or vector(0)"), "nobody asks: nothing is wanted"


def test_the_metrics_that_scale_are_the_gateways() -> None:
    source = "\n".join(path.read_text() for path in (Path(__file__).parents[2] / "largeforge/gateway").glob("*.py"))
    for metric, label in ((WAITING, "expert"), (OUTSTANDING, "replica")):
        name = metric.removeprefix("largeforge_gateway_")
        assert re.search(rf'_gauge\(\s*"{name}",[^()]*"{label}"', source), metric


def test_a_change_of_the_gateways_file_makes_new_pods() -> None:
    def digest(*words: str) -> str:
        deployment = named(objects(kubernetes("+recipe=serve_gpt_oss_20b", *words)), "Deployment", "gateway")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["largeforge/gateway-sha256"])

    assert digest() == digest() != digest("gateway.queue.length=7")


def test_several_gateways_share_what_a_server_takes() -> None:
    file = gateway_file(objects(kubernetes("+recipe=serve_gpt_oss_20b", "export.gateway_replicas=3")))
    assert file["upstreams"]["general"][0]["limit"] == 22  # of 64


def test_a_chat_template_of_the_recipe_is_given_to_the_server() -> None:
    found = objects(kubernetes(*EXPORTS["batches, traces, a template"]))
    template = named(found, "ConfigMap", "vllm-general")["data"]["chat_template.jinja"]
    assert template == "{{ messages[0].content }}\n"
    main = pod(named(found, "StatefulSet", "vllm-general"))["containers"][0]
    assert option(main["command"], "--chat-template") == "/etc/largeforge/chat_template.jinja"
    assert GatewayFile.model_validate(gateway_file(found)).upstreams["general"][0].chat_template
    assert gateway_file(found)["gateway"]["batches"]["folder"] == "/var/lib/largeforge/batches"
    ports = [
        port["port"] for rule in named(found, "NetworkPolicy", "gateway")["spec"]["egress"] for port in rule["ports"]
    ]
    assert ports == [8000, 4318]


def test_names_with_underscores_become_dns_names_of_their_own() -> None:
    words = ["+topology.experts.a_b.model=gpt_oss", "+topology.experts.a-b.model=gpt_oss"]
    found = objects(kubernetes("+recipe=serve_gpt_oss_20b", *words))
    servers = [one["metadata"]["name"] for one in of_kind(found, "StatefulSet")]
    assert servers[0] == "vllm-general" and servers[2] == "vllm-a-b"
    assert re.fullmatch(r"vllm-a-b-[0-9a-f]{6}", servers[1])
    alone = objects(kubernetes("+recipe=serve_gpt_oss_20b", words[0]))
    assert named(alone, "StatefulSet", servers[1])
    assert {url for one in gateway_file(found)["upstreams"]["a_b"] for url in texts(one["url"])} == {
        f"http://{servers[1]}-0.{servers[1]}.serve-gpt-oss-20b.svc:8000"
    }


def test_a_version_may_be_typed_as_a_number() -> None:
    for typed, version in (("1.30", "1.30"), ("1.35", "1.35"), ('"1.37"', "1.37")):
        found = kubernetes("+recipe=serve_gpt_oss_20b", f"export.kubernetes_version={typed}")
        assert f"# For Kubernetes {version}.\n" in found.files["gateway.yaml"]
        labels = of_kind(objects(found), "Namespace")[0]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce-version"] == f"v{version}"


WRONG = {
    ("export.kubernetes_version=1.2",): r"export.kubernetes_version = .*1.30, 1.31",
    (
        "models.gpt_oss.architecture=null",
        "models.gpt_oss.ref=hub:acme/unknown",
    ): r"export.memory_gib: is required.*\n.*export.storage_gib: is required",
    ("export.namespace=My_Namespace",): r"export.namespace",
    ("models.gpt_oss.ref=path:/models/mine",): r"models.gpt_oss.ref.*nothing can download it.*export.models_claim",
    ("models.gpt_oss.ref=registry:mine@champion",): r"models.gpt_oss.ref.*put its files into the folder general",
    (f"+topology.experts.{'x' * 60}.model=gpt_oss",): r"names have at most 48 characters; give it a name of at most 43",
    ("+serving.extra.port=9000",): r"serving.extra.port: cannot be exported: servers listen on port 8000",
    ("+serving.extra.api-key=abc",): r"serving.extra.api-key: cannot be exported",
    ("+serving.extra.collector=http://user:secret@c:1",): r"has a password, and vllm-general.yaml would have it",
    ("export.autoscaling=keda",): r"export.prometheus_url: is required with export.autoscaling=keda",
    ("export.autoscaling=hpa", "topology.experts.general.replicas=9"): r"export.max_replicas = 4.*the 9 replicas",
    ("gateway.batches.folder=/tmp/b",): r"export.gateway_storage_gib: is required with gateway.batches.folder",
    ("export.gateway_replicas=2", "export.gateway_storage_gib=1"): r"export.gateway_replicas = 2: must be 1",
    ("gateway.tracing.endpoint=http://127.0.0.1:4318",): r"gateway.tracing.endpoint.*that is the container itself",
    ("gateway.tracing.endpoint=http://u:secret@c:4318",): r"gateway.tracing.endpoint",
}


@pytest.mark.parametrize("words", WRONG, ids=lambda words: words[0][:40])
def test_what_cannot_be_exported_is_said(words: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError) as error:
        kubernetes("+recipe=serve_gpt_oss_20b", *words)
    assert re.search(WRONG[words], str(error.value))


def test_other_gpus_are_asked_for_by_their_name() -> None:
    words = ("+recipe=serve_gpt_oss_20b", "hardware=mi300x")
    with pytest.raises(RecipeError, match="hardware = AMD Instinct MI300X: files are for NVIDIA GPUs"):
        kubernetes(*words)
    found = objects(kubernetes(*words, "export.vllm_image=rocm/vllm:1", "export.gpu_resource=amd.com/gpu"))
    main = pod(named(found, "StatefulSet", "vllm-general"))["containers"][0]
    assert main["resources"]["limits"]["amd.com/gpu"] == "1" and main["image"] == "rocm/vllm:1"


def test_a_recipe_without_a_topology_is_refused() -> None:
    with pytest.raises(RecipeError, match="export = kubernetes: needs a topology"):
        kubernetes("+recipe=my_expert", "dataset.path=recipe:data/faq.jsonl")


def test_a_router_that_learns_is_refused() -> None:
    with pytest.raises(RecipeError, match="router = classifier: cannot be exported"):
        kubernetes(*CPU, "router=classifier", "routing.path=recipe:data/faq.jsonl")


def test_estimates_never_ask_for_more_than_a_card_has() -> None:
    from largeforge.exporting.run import _forecasts
    from largeforge.planning import make_plan
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    for hardware in ("rtx_4060_ti_16gb", "a100_80gb", "h200"):
        for size in (1, 2):
            for seqs in (16, 256):
                words = (
                    "+recipe=serve_gpt_oss_20b", "export=kubernetes", f"hardware={hardware}",
                    f"hardware.num_gpus={size}", f"serving.tensor_parallel_size={size}", f"serving.max_num_seqs={seqs}",
                )  # fmt: skip
                plan = make_plan(validate(compose(words)))
                forecasts, shortages = _forecasts(plan, own_gpus=True)
                if not shortages:
                    memory = forecasts["general"].memory
                    assert memory and memory.total <= plan.machine.usable_bytes <= plan.machine.memory_gib * GIB
