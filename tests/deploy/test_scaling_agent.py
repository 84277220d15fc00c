"""The program that tells on a host what runs there, and starts and stops it; what a deployment writes for that."""

from __future__ import annotations

import http.server
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge.deploy import desired, seating
from largeforge.deploy.scaling import controller
from largeforge.errors import DeployError
from largeforge.recipe.schema import Autoscaling, Gateway, Slo
from tests.deploy.conftest import Case, gpu, look

sys.path.insert(0, str(desired.AGENT))
scale = importlib.import_module("scale")

METRICS = """\
vllm:kv_cache_usage_perc{engine="0",model_name="general"} 0.25
largeforge_gateway_requests_waiting{expert="general"} 3.0
largeforge_gateway_requests_in_flight 7.0
"""


class Server(http.server.BaseHTTPRequestHandler):
    """A model server and a gateway in one."""

    drained: dict[str, Any] = {}
    token = "secret"

    def do_GET(self) -> None:
        if self.path == "/admin/state":
            assert self.headers["authorization"] == f"Bearer {self.token}"
            self.reply({"drained": {"http://10.0.0.1:1": "autoscaler"}, "outstanding": {"http://10.0.0.1:1": 2}})
        else:
            self.reply(METRICS)

    def do_PATCH(self) -> None:
        Server.drained = json.loads(self.rfile.read(int(self.headers["content-length"])))["drained"]
        self.reply({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.reply(
            {"choices": []} if body["model"] == "general" else {"error": "no such model"},
            200 if body["model"] == "general" else 404,
        )

    def reply(self, content: Any, status: int = 200) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A host with a gateway, a model server that runs and one that is stopped, and a record."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        for name, kind, key in (("general", "vllm", "aaa"), ("general-2", "vllm", "bbb"), ("gateway", "gateway", "c")):
            release = tmp_path / "services" / name / "releases" / key
            release.mkdir(parents=True)
            about = {
                "service": name, "kind": kind, "place": {"host": "127.0.0.1", "address": "10.0.0.1"},
                "answers": {"general": {}, "support": {}}, "gpus": [0],
            }  # fmt: skip
            (release / "service.json").write_text(json.dumps(about))
            (release / "port").write_text(f"{port}\n")
            (tmp_path / "services" / name / "current").symlink_to(f"releases/{key}")
        (tmp_path / "history").mkdir()
        for record in ("20260101T000000Z-a", "20260102T000000Z-b"):
            (tmp_path / "history" / f"{record}.json").write_text("{}")
        (tmp_path / "token").write_text("secret\n")
        monkeypatch.setattr(scale, "asked", lambda: [["0", "GPU-0", "40", "", "", "", ""], ["1", "", "[N/A]"]])
        yield {
            "home": str(tmp_path), "deployment": "shop", "metrics": ["largeforge_gateway_requests_waiting"],
            "gateway": {"url": f"http://127.0.0.1:{port}", "token": str(tmp_path / "token"), "tls": {}},
            "port": port,
        }  # fmt: skip
        server.shutdown()


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What systemd is told; it says that the first server runs and the second does not."""
    told: list[tuple[str, ...]] = []

    def systemctl(*words: str) -> tuple[int, str]:
        told.append(words)
        if words[0] != "show":
            return (1, "no such unit") if "missing" in words[-1] else (0, "")
        blocks = [
            "Id=largeforge-shop-general-aaa.service\nActiveState=active\nNRestarts=0\n"
            "InactiveExitTimestampMonotonic=1000000\nActiveEnterTimestampMonotonic=32500000",
            "Id=largeforge-shop-general-2-bbb.service\nActiveState=inactive\nNRestarts=4\n"
            "InactiveExitTimestampMonotonic=5000000\nActiveEnterTimestampMonotonic=0",
        ]
        return 0, "\n\n".join(blocks)

    monkeypatch.setattr(scale, "systemctl", systemctl)
    return told


def test_a_look_tells_of_replicas_of_the_gateway_and_of_gpus(
    order: dict[str, Any], ordered: list[tuple[str, ...]]
) -> None:  # fmt: skip
    told = scale.main({**order, "do": "look", "gpus": True})
    assert told["record"] == "20260102T000000Z-b" and set(told["servers"]) == {"general", "general-2"}
    assert told["servers"]["general"] == {
        "unit": "largeforge-shop-general-aaa.service", "url": f"http://10.0.0.1:{order['port']}",
        "experts": ["general", "support"], "gpus": [0], "state": "active", "restarts": 0, "started_s": 31.5,
        "cache_use": 0.25,
    }  # fmt: skip
    stopped = told["servers"]["general-2"]
    assert (stopped["state"], stopped["restarts"]) == ("inactive", 4)
    assert stopped["cache_use"] is None and stopped["started_s"] is None
    assert told["gpu_use"] == {"0": 0.4}
    assert told["gateway"] == {
        "drained": {"http://10.0.0.1:1": "autoscaler"}, "outstanding": {"http://10.0.0.1:1": 2},
        "metrics": 'largeforge_gateway_requests_waiting{expert="general"} 3.0',
    }  # fmt: skip


def test_a_gateway_that_does_not_answer_is_told_of(order: dict[str, Any], ordered: list[tuple[str, ...]]) -> None:
    gateway = {**order["gateway"], "url": "http://127.0.0.1:9"}
    assert "the gateway answers nothing" in scale.main({**order, "do": "look", "gateway": gateway})["gateway"]["error"]
    assert scale.main({**order, "do": "look", "gateway": None})["gateway"] is None


def test_gateways_are_told_before_units_are_started_and_stopped_without_waiting(
    order: dict[str, Any], ordered: list[tuple[str, ...]]
) -> None:  # fmt: skip
    wanted = {"http://10.0.0.1:1": "autoscaler", "http://10.0.0.9:9": "autoscaler", "http://10.0.0.2:2": None}
    scale.main({**order, "do": "act", "drained": wanted, "start": ["a.service"], "stop": ["b.service"]})
    assert Server.drained == {"http://10.0.0.1:1": "autoscaler", "http://10.0.0.2:2": None}, "it knows no other"
    assert ordered == [
        ("reset-failed", "a.service"), ("--no-block", "start", "a.service"), ("--no-block", "stop", "b.service")
    ]  # fmt: skip
    with pytest.raises(OSError, match="systemd does not start missing: no such unit"):
        scale.main({**order, "do": "act", "start": ["missing"]})


def test_a_server_is_asked_real_questions(order: dict[str, Any]) -> None:
    def asked(*models: str) -> str:
        questions = [desired.question(model, "generate") for model in models]
        return str(scale.main({**order, "do": "warm", "service": "general", "questions": questions})["wrong"])

    assert asked("general") == ""
    assert "it does not answer /v1/chat/completions: 404" in asked("general", "other")


PROMISED = {"first_token": {"indicator": "ttft", "objective": 0.95, "threshold_ms": 150}}


def aims_of(folder: Path, slo: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, float]:
    """Deploy with these promises, and return what the autoscaler then aims at."""
    case = Case(folder, replicas=2)
    case.given.autoscaling = Autoscaling.model_validate(settings)
    case.given.gateway = Gateway(host="0.0.0.0", slo=Slo.model_validate({"objectives": slo, "burn_rates": ()}))
    looks = {name: look(gpu(0), gpu(1)) for name in case.given.hosts.hosts}
    wanted = seating.wanted_of(case.given, case.experts, case.places, looks, lock="")  # type: ignore[arg-type]
    record = wanted.record(who="ann")
    hands = SimpleNamespace(kept=dict)
    monkeypatch.setattr(controller, "ScalingHands", lambda *_, **__: hands)
    deployed: Any = SimpleNamespace(name="shop", last=record, site=wanted.site)
    scaler, every_s = controller.of(deployed, {}, report=print, acts=True)
    assert (
        every_s == 5 and set(scaler.experts) == {"general"} and scaler.carried == {"general": "", "support": "general"}
    )
    assert scaler.experts["general"].tasks == {"general": "generate", "support": "generate"}
    return {aim.name: aim.value for aim in scaler.experts["general"].aims}


def test_one_number_of_a_recipe_changes_what_its_deployment_is_scaled_by(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    before = aims_of(folder, PROMISED, monkeypatch, enabled=True)
    assert before == {"waiting": 4, "in_flight": 204, "slo-first_token": 150, "cache_use": 0.9}
    stricter = {"first_token": {**PROMISED["first_token"], "threshold_ms": 90}}
    assert aims_of(folder, stricter, monkeypatch, enabled=True) == {**before, "slo-first_token": 90}
    own = {"experts": {"general": {"waiting": 1}}}
    assert aims_of(folder, PROMISED, monkeypatch, enabled=True, **own)["waiting"] == 1


def test_a_deployment_without_it_is_not_scaled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeployError, match="shop is deployed without autoscaling"):
        aims_of(folder, PROMISED, monkeypatch)
