"""The gateways that are measured: how each is installed, configured and started.

All stand before one upstream and pass on what it says. None has a database, authentication or a cache; logs say errors
only, except that LargeForge writes its access log and counts its metrics, as it always does. The routers in Rust choose
among one worker in turn, and start as many threads as they are given cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.benchmarks import _peers
from scripts.benchmarks._gateway_servers import BenchmarkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
ANSWER = "arrives on Monday"
"""A part of what the upstream answers."""
QUESTION = "Where is my order 17? It was due on Friday."
NUM_EXPERTS = 200
LIMIT = 256
"""Requests that an expert's server takes at once, where ours has everything on."""
_WORDS = "The parcel left our house on Tuesday and nobody has seen it since, neither the neighbour nor the driver. "
_LONG_BYTES = 131_072


@dataclass(frozen=True)
class Place:
    """Where a system is to listen, and with what."""

    upstream: str
    port: int
    workers: int
    folder: Path
    programs: Path
    """`bin` of its environment."""


@dataclass(frozen=True)
class System:
    """One thing to measure; without a command it is the upstream itself."""

    name: str
    command: Callable[[Place], list[str]] | None = None
    packages: _peers.Packages | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    model: str = "general"
    """What requests ask for."""
    expert: str = ""
    """Which expert must answer."""
    commit: str = ""
    """Which commit of LargeForge; empty means the working tree."""
    is_narrow: bool = False
    """Whether it is measured in few cells only."""


def body(model: str, kind: str) -> bytes:
    """Return the JSON of a request: `short`, `long` (about 32 000 tokens) or `stream`."""
    messages = [{"role": "system", "content": "You are the assistant of a shop."}]
    if kind == "long":
        text = _WORDS * (_LONG_BYTES // len(_WORDS))
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "I see."}]
    messages.append({"role": "user", "content": QUESTION})
    fields: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 256, "temperature": 0.2}
    if kind == "stream":
        fields["stream"] = True
    return json.dumps(fields).encode()


def request(model: str, kind: str) -> bytes:
    """Return a whole request of HTTP."""
    content = body(model, kind)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def gateway_file(place: Place, *, experts: int, limit: int) -> dict[str, Any]:
    """Return the configuration of our gateway; of several experts the last has the keyword of the question."""
    names = ["general", *(f"expert{number}" for number in range(1, experts))]
    described: dict[str, Any] = {
        name: {
            "model": f"registry:{name}/1",
            "description": f"Knows {name}.",
            "keywords": [f"word{name}", f"about {name}"],
        }
        for name in names
    }
    described[names[-1]]["keywords"].append("order")
    settings: dict[str, Any] = {"host": "127.0.0.1", "port": place.port}
    if place.workers > 1:
        settings["workers"] = place.workers
    upstreams: dict[str, dict[str, Any]] = {
        name: {"url": place.upstream, "served_model": "general", "model": f"registry:{name}/1", "lock": f"lock-{name}"}
        for name in names
    }
    for upstream in upstreams.values() if limit else ():
        upstream["limit"] = limit
    topology = {"experts": described, "fallback": "general"}
    return {"gateway": settings, "router": {"name": "keyword"}, "topology": topology, "upstreams": upstreams}


def _ours(experts: int, limit: int = 0) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        path = place.folder / f"gateway-{place.port}.json"
        path.write_text(json.dumps(gateway_file(place, experts=experts, limit=limit)), encoding="utf-8")
        return [sys.executable, "-m", "largeforge.gateway", "--config", str(path)]

    return command


def _litellm(place: Place) -> list[str]:
    path = place.folder / f"litellm-{place.port}.yaml"
    parameters = {"model": "openai/general", "api_base": f"{place.upstream}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "general", "litellm_params": parameters}],
        "litellm_settings": {"num_retries": 0, "set_verbose": False, "json_logs": False},
    }
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return [
        str(place.programs / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(place.port),
        "--num_workers", str(place.workers), "--telemetry", "False",
    ]  # fmt: skip


def _smg(place: Place) -> list[str]:
    program = [str(place.programs / "python"), "-m", "sglang_router.launch_router"]
    return [*program, *_rust_words(place)]


def _vllm_router(place: Place) -> list[str]:
    return [str(place.programs / "vllm-router"), *_rust_words(place)]


def _rust_words(place: Place) -> list[str]:
    return [
        "--worker-urls", place.upstream, "--host", "127.0.0.1", "--port", str(place.port), "--policy", "round_robin",
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(place.port + 1), "--log-level", "error",
    ]  # fmt: skip


_LITELLM_ENVIRONMENT = {
    "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no authentication, as with the others
}  # fmt: skip

UPSTREAM, OURS, EVERYTHING_1, EVERYTHING_200 = "upstream", "ours", "ours, auto, 1 expert", "ours, auto, 200 experts"
LITELLM, SMG, VLLM_ROUTER = "litellm", "smg", "vllm-router"

SYSTEMS = {
    system.name: system
    for system in (
        System(UPSTREAM),
        System(OURS, _ours(1)),
        System(EVERYTHING_1, _ours(1, LIMIT), model="auto", is_narrow=True),
        System(
            EVERYTHING_200, _ours(NUM_EXPERTS, LIMIT), model="auto", expert=f"expert{NUM_EXPERTS - 1}", is_narrow=True
        ),
        System(LITELLM, _litellm, _peers.Packages("litellm", ("litellm[proxy]==1.106.0",)), _LITELLM_ENVIRONMENT),
        System(SMG, _smg, _peers.Packages("smg", ("sglang-router==0.3.2",))),
        System(VLLM_ROUTER, _vllm_router, _peers.Packages("vllm-router", ("vllm-router==0.1.17",))),
    )
}


def at_commit(commit: str) -> System:
    """Return LargeForge's gateway as it was at a commit."""
    return System(f"ours at {commit}", _ours(1), commit=commit)


def checked_out(commit: str, folder: Path) -> Path:
    """Return a folder with LargeForge's files as of a commit."""
    target = folder / f"at-{commit}"
    if target.exists():
        return target
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "largeforge", "conf"], capture_output=True)
    if archive.returncode:
        raise BenchmarkFailed(archive.stderr.decode().strip())
    target.mkdir()
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)
    return target
