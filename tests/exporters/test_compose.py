"""Exports as Compose files: valid, confined, and fitting each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jsonschema
import pytest

from largeforge.errors import FitError, RecipeError
from largeforge.exporting.files import write
from largeforge.gateway.config import GatewayFile
from tests.exporters.exports import Object, compose_file, export, option

if TYPE_CHECKING:
    from largeforge.exporting.rendered import Rendered

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text())
BIG = ("+recipe=serve_gpt_oss_120b", "hardware.num_gpus=4", "serving.tensor_parallel_size=2")
EXPORTS: dict[str, tuple[str, ...]] = {
    "20b": ("+recipe=serve_gpt_oss_20b",),
    "two GPUs, two replicas": (*BIG, "topology.experts.general.replicas=2", "gateway.host=0.0.0.0", "gateway.port=80"),
    "adapters on a CPU, from a folder": (
        "+recipe=serve_quickstart", "export.models_folder=/srv/models", "export.memory_gib=4",
    ),
    "a template, dollars": (
        "+recipe=serve_gpt_oss_20b", "models.gpt_oss.chat_template=\"{{ messages[0].content }}\n\"",
        "+serving.extra.reasoning-parser=$HOME", "export.gateway_image=registry.example.com/gateway:1",
    ),
}  # fmt: skip
VLLM = re.compile(r"vllm-.*-\d+")


def composed(*words: str) -> Rendered:
    return export(*words, "export=compose")


@pytest.fixture(params=EXPORTS, scope="module")
def found(request: pytest.FixtureRequest) -> Rendered:
    return composed(*EXPORTS[request.param])


def servers(file: Object) -> dict[str, Object]:
    return {name: one for name, one in file["services"].items() if VLLM.fullmatch(name) and "fetch" not in name}


def test_the_file_is_valid(found: Rendered) -> None:
    jsonschema.validate(compose_file(found), SCHEMA)


def _docker_has_compose() -> bool:
    docker = shutil.which("docker")
    return bool(docker) and not subprocess.run([str(docker), "compose", "version"], capture_output=True).returncode


@pytest.mark.skipif(not _docker_has_compose(), reason="docker compose is not installed")
def test_docker_takes_the_file(found: Rendered, tmp_path: Path) -> None:
    write(tmp_path, found.files)
    command = ["docker", "compose", "-f", str(tmp_path / "compose.yaml"), "config", "--format", "json"]
    parsed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert parsed["services"].keys() == compose_file(found)["services"].keys()


def test_every_name_that_is_used_is_there(found: Rendered) -> None:
    file = compose_file(found)
    for name, service in file["services"].items():
        assert set(service.get("networks", ())) <= file["networks"].keys(), name
        assert service.get("depends_on", {}).keys() <= file["services"].keys(), name
        for volume in service["volumes"]:
            if volume["type"] == "volume":
                assert volume["source"] in file["volumes"], name
            elif volume["source"].startswith("./"):
                assert volume["source"].removeprefix("./") in found.files
    used = {v["source"] for one in file["services"].values() for v in one["volumes"] if v["type"] == "volume"}
    assert used == file["volumes"].keys()


def test_the_gateways_addresses_are_services_that_listen_there(found: Rendered) -> None:
    file, gateway = compose_file(found), GatewayFile.model_validate_json(found.files["gateway.json"])
    called = set()
    for expert, upstreams in gateway.upstreams.items():
        for upstream in upstreams:
            address = urlsplit(upstream.url)
            words = file["services"][address.hostname]["entrypoint"]
            assert option(words, "--port") == str(address.port) and option(words, "--host") == "0.0.0.0"
            assert str(address.port) in file["services"][address.hostname]["healthcheck"]["test"][-1]
            assert expert == option(words, "--served-model-name") or f"{expert}=/models/{expert}" in words
            called.add(address.hostname)
    assert called == servers(file).keys()
    front = file["services"]["gateway"]
    assert {name for name, after in front["depends_on"].items() if after["condition"] == "service_healthy"} == called
    assert front["ports"][0].endswith(f":{gateway.gateway.port}") and gateway.gateway.host == "0.0.0.0"


def test_services_are_confined_and_model_servers_are_on_a_network_that_leads_nowhere(found: Rendered) -> None:
    file = compose_file(found)
    assert file["networks"]["models"] == {"internal": True}
    for name, service in file["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert name == "volumes" or not service["user"].startswith("0:")
        assert name == "gateway" or "ports" not in service
    for service in servers(file).values():
        assert service["networks"] == ["models"] and service["environment"]["HF_HUB_OFFLINE"] == "1"
    assert file["services"]["volumes"]["cap_add"] == ["CHOWN"]


def test_no_secret_has_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_TOKEN", "LARGEFORGE_ADMIN_TOKEN"):
        monkeypatch.setenv(variable, "hf_thisIsASecretThatNobodyMaySee")
    export.cache_clear()
    rendered = composed(*EXPORTS["20b"])
    assert not any("thisIsASecret" in text for text in [*rendered.files.values(), *rendered.steps])
    services = compose_file(rendered)["services"]
    assert services["fetch-vllm-general"]["environment"]["HF_TOKEN"] is None
    assert services["gateway"]["environment"]["LARGEFORGE_ADMIN_TOKEN"] is None
    assert "HF_TOKEN" not in services["vllm-general-1"]["environment"]


def test_each_replica_has_gpus_of_its_own_where_there_are_enough() -> None:
    file = compose_file(composed(*EXPORTS["two GPUs, two replicas"]))
    assert [_gpus(one) for one in servers(file).values()] == [["0", "1"], ["2", "3"]]
    assert {one["shm_size"] for one in servers(file).values()} == {"2gb"}
    assert file["services"]["gateway"]["ports"] == ["0.0.0.0:80:8080"]


def test_servers_share_gpus_where_there_are_too_few_and_only_if_they_fit() -> None:
    words = ("+recipe=serve_gpt_oss_20b", "topology.experts.general.replicas=2")
    with pytest.raises(FitError, match="the servers share a GPU"):
        composed(*words)
    small = (*words, "hardware=h100", "serving.gpu_memory_utilization=0.4")
    assert [_gpus(one) for one in servers(compose_file(composed(*small))).values()] == [["0"], ["0"]]


def _gpus(service: Object) -> list[str]:
    device = service["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
    return list(device["device_ids"])


def test_a_cpu_needs_no_gpu_and_models_are_bound_from_the_folder() -> None:
    rendered = composed(*EXPORTS["adapters on a CPU, from a folder"])
    server = servers(compose_file(rendered))["vllm-general-1"]
    assert "deploy" not in server and "vllm-cpu" in server["image"] and server["mem_limit"] == "4g"
    bound = next(volume for volume in server["volumes"] if volume["type"] == "bind")
    assert (bound["source"], bound["target"], bound["read_only"]) == ("/srv/models", "/models", True)
    assert list(server["depends_on"]) == ["volumes"]
    assert any("/srv/models/mapper" in step for step in rendered.steps)


def test_nothing_in_a_command_is_replaced_by_compose() -> None:
    rendered = composed(*EXPORTS["a template, dollars"])
    server = servers(compose_file(rendered))["vllm-general-1"]
    assert option(server["entrypoint"], "--reasoning-parser") == "$$HOME"
    assert rendered.files["vllm-general.jinja"] == "{{ messages[0].content }}\n"
    assert option(server["entrypoint"], "--chat-template") in {volume["target"] for volume in server["volumes"]}
    assert "Containerfile" not in rendered.files and "build" not in compose_file(rendered)["services"]["gateway"]


def test_a_changed_gateway_file_makes_a_new_container() -> None:
    def label(*words: str) -> Object:
        labels: Object = compose_file(composed("+recipe=serve_gpt_oss_20b", *words))["services"]["gateway"]["labels"]
        return labels

    assert label() == label() != label("gateway.queue.length=7")


def test_models_that_are_on_this_machine_need_a_folder() -> None:
    with pytest.raises(RecipeError, match=r"export\.models_folder"):
        composed("+recipe=serve_quickstart")
