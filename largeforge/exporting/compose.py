"""A topology as a Compose file, which Docker Compose and Podman read.

Model servers are on a network that leads nowhere; what they need from the hub is downloaded before, by a service of its
own. Each replica is a service, since the gateway calls it by a name of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.exporting import images, models, names
from largeforge.exporting.gateway_file import gateway_environment, gateway_file, gateway_text
from largeforge.exporting.rendered import Rendered, without_empty, yaml_text
from largeforge.exporting.system import (
    GATEWAY_PORT,
    GIVEN,
    STATE,
    TEMPLATE,
    VLLM_PORT,
    cache_environment,
    fetch_command,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from largeforge.exporters.compose import Config
    from largeforge.exporting.system import ModelServer, System

COMPOSE, GATEWAY = "compose.yaml", "gateway.json"
VLLM_USER = 2000
"""`vllm` in upstream's images; any other would do."""
DEFAULT_PORT = 8080

CONFINED = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "read_only": True, "tmpfs": ["/tmp"]}
"""What every service may not do."""

_ASK = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}{path}', timeout=10)"


def render(config: Config, system: System) -> Rendered:
    """Return all files, and what to do with them."""
    gateway = gateway_text(gateway_file(system, replicas))
    document = {
        "name": names.label(system.recipe.name),
        "services": _services(config, system, gateway),
        "networks": {"clients": {}, "hub": {}, "models": {"internal": True}},
        "volumes": {volume: {} for volume in _volumes(system)},
    }
    files = {COMPOSE: yaml_text([document], header=system.header), GATEWAY: gateway}
    files |= {_template(one): one.chat_template for one in system.servers if one.chat_template}
    if system.is_image_built:
        files[images.CONTAINERFILE] = images.containerfile(has_traces=bool(system.recipe.gateway.tracing.endpoint))
    return Rendered(files, tuple(_steps(config, system)), system.notes)


def replicas(one: ModelServer) -> list[str]:
    """Return the addresses of a server's replicas."""
    return [f"http://{name}:{VLLM_PORT}" for name in _replica_names(one)]


def _replica_names(one: ModelServer) -> list[str]:
    return [f"{one.name}-{number}" for number in range(1, one.replicas + 1)]


def _services(config: Config, system: System, gateway: str) -> dict[str, Any]:
    services = {"volumes": _owners(system)}
    gpus = _gpus(system)
    for one in system.servers:
        if one.fetches:
            services[f"fetch-{one.name}"] = _fetch(system, one)
        for name in _replica_names(one):
            services[name] = _server(config, system, one, gpus[name])
    services["gateway"] = _gateway(system, gateway)
    return services


def _volumes(system: System) -> dict[str, tuple[str, int]]:
    """Return the volumes with where they are shown to what gives them their owner, and the owner."""
    caches = {_cache(one): (f"/volumes/{one.name}", VLLM_USER) for one in system.servers}
    return {**caches, "gateway": ("/volumes/gateway", images.GATEWAY_USER)}


def _cache(one: ModelServer) -> str:
    return f"cache-{one.name}"


def _owners(system: System) -> dict[str, Any]:
    """Return the service that gives volumes, which belong to root at first, to those who use them."""
    volumes = _volumes(system)
    script = " && ".join(f"chown {user}:{user} {path}" for path, user in volumes.values())
    return {
        "image": system.vllm_image, "entrypoint": ["sh", "-c", script], **CONFINED, "cap_add": ["CHOWN"],
        "user": "0:0", "network_mode": "none", "restart": "no",
        "volumes": [_volume(name, path) for name, (path, _) in volumes.items()],
    }  # fmt: skip


def _fetch(system: System, one: ModelServer) -> dict[str, Any]:
    return {
        "image": system.vllm_image, "entrypoint": _literal(fetch_command(one)), **_as_vllm(), "restart": "on-failure:3",
        "environment": {**cache_environment(), "HF_TOKEN": None}, "networks": ["hub"],
        "volumes": [_volume(_cache(one), models.CACHE)], "depends_on": _after("volumes"),
    }  # fmt: skip


def _server(config: Config, system: System, one: ModelServer, gpus: list[str]) -> dict[str, Any]:
    first = f"fetch-{one.name}" if one.fetches else "volumes"
    volumes = [_volume(_cache(one), models.CACHE)]
    if one.reads_volume:
        volumes.append(_bind(str(Path(config.models_folder).expanduser().absolute()), models.MODELS))
    if one.chat_template:
        volumes.append(_bind(f"./{_template(one)}", f"{GIVEN}/{TEMPLATE}"))
    devices = [{"driver": "nvidia", "device_ids": gpus, "capabilities": ["gpu"]}]
    return without_empty({
        "image": system.vllm_image, "entrypoint": _literal(one.command), **_as_vllm(), "restart": "unless-stopped",
        "init": True, "environment": dict(zip(one.environment, _literal(one.environment.values()), strict=True)),
        "labels": _digest("chat-template", one.chat_template), "networks": ["models"], "volumes": volumes,
        "shm_size": f"{one.shm_gib}gb" if one.shm_gib else "", "mem_limit": f"{one.memory_gib}g",
        "cpus": config.server_cpus, "depends_on": _after(first), "stop_grace_period": "60s",
        "deploy": {"resources": {"reservations": {"devices": devices}}} if gpus else {},
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _ASK.format(port=VLLM_PORT, path="/health")], "interval": "10s",
            "timeout": "15s", "retries": 6, "start_period": f"{one.startup_s:.0f}s",
        },
    })  # fmt: skip


def _gateway(system: System, text: str) -> dict[str, Any]:
    recipe = system.recipe.gateway
    start = f"cp {GIVEN}/{GATEWAY} {STATE}/{GATEWAY} && exec python -m largeforge.gateway --config {STATE}/{GATEWAY}"
    built = {"build": {"context": ".", "dockerfile": images.CONTAINERFILE}} if system.is_image_built else {}
    host = f"[{recipe.host}]" if ":" in recipe.host else recipe.host
    servers = [name for one in system.servers for name in _replica_names(one)]
    return {
        "image": system.gateway_image, **built, "entrypoint": ["sh", "-c", start], **CONFINED, "init": True,
        "user": f"{images.GATEWAY_USER}:{images.GATEWAY_USER}", "restart": "unless-stopped",
        "environment": {**gateway_environment(), "LARGEFORGE_ADMIN_TOKEN": None},
        "labels": _digest("gateway", text),
        "ports": [f"{host}:{recipe.port or DEFAULT_PORT}:{GATEWAY_PORT}"], "networks": ["clients", "models"],
        "volumes": [_volume("gateway", STATE), _bind(f"./{GATEWAY}", f"{GIVEN}/{GATEWAY}")],
        "mem_limit": f"{recipe.workers}g", "stop_grace_period": "15s",
        "depends_on": _after("volumes") | {name: {"condition": "service_healthy"} for name in servers},
        "healthcheck": {
            "test": ["CMD", "python", "-c", _ASK.format(port=GATEWAY_PORT, path="/ready")], "interval": "10s",
            "timeout": "15s", "retries": 3, "start_period": "30s",
        },
    }  # fmt: skip


def _gpus(system: System) -> dict[str, list[str]]:
    """Return the GPUs of each replica: its own where there are enough, else the first ones, which they share."""
    wanted = {name: one.num_gpus for one in system.servers for name in _replica_names(one)}
    found, first = {}, 0
    has_enough = sum(wanted.values()) <= system.machine.num_gpus
    for name, number in wanted.items():
        found[name] = [str(index) for index in range(first, first + number)]
        first += number if has_enough else 0
    return found


def _as_vllm() -> dict[str, Any]:
    return {**CONFINED, "user": f"{VLLM_USER}:{VLLM_USER}"}


def _after(*services: str) -> dict[str, Any]:
    return {name: {"condition": "service_completed_successfully"} for name in services}


def _volume(name: str, target: str) -> dict[str, Any]:
    return {"type": "volume", "source": name, "target": target}


def _bind(source: str, target: str) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": target, "read_only": True, "bind": {"selinux": "z"}}


def _template(one: ModelServer) -> str:
    return f"{one.name}.jinja"


def _digest(what: str, text: str) -> dict[str, str]:
    """Return a label that changes with a file, so that its container is made anew."""
    return {f"largeforge.{what}-sha256": hashlib.sha256(text.encode()).hexdigest()} if text else {}


def _literal(words: Iterable[str]) -> list[str]:
    """Return words in which Compose replaces nothing."""
    return [word.replace("$", "$$") for word in words]


def _steps(config: Config, system: System) -> list[str]:
    steps = [
        f"put the files of {expert.reference} into {config.models_folder.rstrip('/')}/{expert.name}/"
        for one in system.servers
        for expert in models.on_volume(one.place)
    ]
    port = system.recipe.gateway.port or DEFAULT_PORT
    return [
        *steps, "optional: export LARGEFORGE_ADMIN_TOKEN and HF_TOKEN in the shell that starts it",
        f"docker compose -f {{folder}}/{COMPOSE} up -d, or podman compose -f {{folder}}/{COMPOSE} up -d",
        f"curl -s http://{system.recipe.gateway.host}:{port}/ready",
    ]  # fmt: skip
