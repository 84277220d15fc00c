"""Deployments of a fake vLLM behind the real gateway, in health and in every kind of trouble."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from largeforge import reaper
from largeforge.errors import ServingError
from largeforge.serving import server
from largeforge.serving.deployment import begin_state, keep_log
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.serving.deployment import Deployment
    from largeforge.serving.placement import ServedExpert

    Make = Callable[..., ServedExpert]
    Deploy = Callable[..., Deployment]


def until(condition: Callable[[], bool], *, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ask(url: str, prompt: str) -> tuple[str, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": prompt}]})
    try:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        text = json.loads(response.read())["choices"][0]["message"]["content"]
        return str(response.headers["x-largeforge-expert"]), str(text)
    finally:
        connection.close()


def nothing_is_left() -> bool:
    return not reaper.descendants(os.getpid())


def test_experts_answer_and_nothing_is_left(expert: Make, deploy: Deploy, notes: list[str]) -> None:
    experts = expert("general"), expert("mapper", adapter_on="general"), expert("code")
    with deploy(*experts) as deployment:
        assert ask(deployment.url, "hello") == ("general", "general: hello")
        assert ask(deployment.url, "mapper please") == ("mapper", "mapper: mapper please")
        assert ask(deployment.url, "some code") == ("code", "code: some code")
        deployment.watch()
    assert nothing_is_left()
    assert notes[:2] == ["vLLM for general, mapper: starting", "vLLM for code: starting"]
    ready = [note.partition(": ready after ")[0] for note in notes if ": ready after " in note]
    assert sorted(ready[:2]) == ["vLLM for code", "vLLM for general, mapper"]
    assert ready[2:] == ["gateway"]


def test_gateway_is_told_what_each_expert_is(expert: Make, deploy: Deploy, tmp_path: Path) -> None:
    general, mapper = expert("general"), expert("mapper", adapter_on="general")
    with deploy(general, mapper):
        upstreams = json.loads((tmp_path / "logs/gateway.json").read_text())["upstreams"]
    ((told,), (base,)) = upstreams["mapper"], upstreams["general"]
    assert told["model"] == mapper.reference
    assert (told["served_model"], told["lock"], told["limit"]) == ("mapper", "l0", 256)
    assert told["url"] == base["url"]


def test_replicas_are_servers_of_their_own_with_all_adapters(expert: Make, deploy: Deploy, tmp_path: Path) -> None:
    general = replace(expert("general"), replicas=2)
    with deploy(general, expert("mapper", adapter_on="general")) as deployment:
        upstreams = json.loads((tmp_path / "logs/gateway.json").read_text())["upstreams"]
        ready = httpx.get(f"{deployment.url}/ready").json()["experts"]
        answered = {ask(deployment.url, "mapper please") for _ in range(4)}
    urls = [told["url"] for told in upstreams["general"]]
    assert len(set(urls)) == 2
    assert [told["url"] for told in upstreams["mapper"]] == urls
    assert [one["state"] for one in ready["mapper"]["replicas"]] == ["up", "up"]
    assert answered == {("mapper", "mapper: mapper please")}
    assert {path.name for path in (tmp_path / "logs").glob("vllm-*.log")} == {"vllm-general.log", "vllm-general-2.log"}
    assert nothing_is_left()


def test_death_at_start_is_explained(expert: Make, deploy: Deploy) -> None:
    with pytest.raises(ServingError) as failure, deploy(expert("general", "dies"), expert("other")):
        pytest.fail("it must not start")
    first, cause, advice, log = str(failure.value).splitlines()
    assert first == "vLLM for general ended with exit code 1."
    assert cause == "  MemoryError: Cannot allocate memory"
    assert advice.startswith("There is not enough memory")
    assert log.endswith("logs/vllm-general.log")
    assert nothing_is_left()


def test_killed_at_start(expert: Make, deploy: Deploy) -> None:
    with pytest.raises(ServingError, match="was killed by SIGKILL"), deploy(expert("general", "killed")):
        pytest.fail("it must not start")


def test_interpreter_that_is_not_there(expert: Make, deploy: Deploy) -> None:
    with (
        pytest.raises(ServingError, match="cannot start /no/python: No such file"),
        deploy(expert("general"), python="/no/python"),
    ):
        pytest.fail("it must not start")


def test_start_up_has_a_limit(expert: Make, deploy: Deploy) -> None:
    waiting = deploy(expert("general", "hangs"), startup_timeout_s=0.3)
    with pytest.raises(ServingError) as failure, waiting:
        pytest.fail("it must not start")
    assert str(failure.value).startswith(
        "vLLM for general is not ready after 0.3 s. serving.startup_timeout_s=0.6 would wait longer."
    )
    assert nothing_is_left()


def test_adapter_that_is_not_served(expert: Make, deploy: Deploy) -> None:
    experts = expert("general", "forgetful"), expert("mapper", adapter_on="general")
    with pytest.raises(ServingError, match="does not serve mapper, only general"), deploy(*experts):
        pytest.fail("it must not start")


def test_taken_gateway_port_is_named_before_anything_starts(
    expert: Make, deploy: Deploy, notes: list[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError) as failure, deploy(expert("general"), port=port):
            pytest.fail("it must not start")
    assert str(failure.value).startswith(f"gateway.port = {port}: another process listens on 127.0.0.1:{port}.")
    assert notes == []
    assert not (tmp_path / "logs").exists()


def test_given_gateway_port_is_used(expert: Make, deploy: Deploy) -> None:
    port = free_port()
    with deploy(expert("general"), port=port) as deployment:
        assert deployment.url == f"http://127.0.0.1:{port}"


def test_a_reserved_port_is_for_the_server_that_is_meant() -> None:
    def of_another() -> int:
        with socket.create_server(("127.0.0.1", 0)) as other:
            return int(other.getsockname()[1])

    with server.reserved_ports(500) as ports:
        assert len(set(ports)) == 500 and not {of_another() for _ in range(8000)} & set(ports)
        with socket.create_server(("127.0.0.1", ports[0])) as meant:
            assert meant.getsockname()[1] == ports[0]


def test_later_death_is_noticed(expert: Make, deploy: Deploy) -> None:
    general, other = expert("general"), expert("other")
    with deploy(general, other) as deployment:
        deployment.watch()
        (Path(other.location) / "die").touch()
        with pytest.raises(ServingError, match="vLLM for other ended with exit code 1") as failure:
            for _ in range(600):
                time.sleep(0.05)
                deployment.watch()
    assert "RuntimeError: the engine met its end" in str(failure.value)
    assert nothing_is_left()


def test_stubborn_servers_are_killed(expert: Make, deploy: Deploy) -> None:
    with deploy(expert("general", "stubborn")):
        assert not nothing_is_left()
    assert nothing_is_left()


def test_interruption_during_start_up_stops_everything(expert: Make, deploy: Deploy, tmp_path: Path) -> None:
    log = tmp_path / "logs/vllm-general.log"

    def interrupt() -> None:
        until(lambda: log.is_file() and "fake vLLM" in log.read_text())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), deploy(expert("general", "hangs")):
        pytest.fail("it must not start")
    thread.join()
    assert nothing_is_left()


def test_loading_is_reported_now_and_then(tmp_path: Path, notes: list[str]) -> None:
    seconds = iter([0.0, 1.0, 2.0, 6.0, 6.0, 6.0, 7.0, 7.0])
    answers = iter([False, False, True])
    process = server.Server("vLLM for general", ["sleep", "1000"], log=tmp_path / "log", environment={}, grace_s=1)
    process.start()
    try:
        server.wait(
            {process: lambda: next(answers)}, timeout_s=100, report=notes.append, clock=lambda: next(seconds, 7.0)
        )
    finally:
        server.stop([process])
    assert notes == ["vLLM for general: loading (6 s)", "vLLM for general: ready after 7 s"]


def test_logs_of_earlier_gateways_are_kept_for_tracing(tmp_path, monkeypatch):
    monkeypatch.setattr("largeforge.serving.deployment.KEPT_LOGS", 2)
    log = tmp_path / "gateway.log"
    for number in range(4):
        log.write_text(f"gateway {number}")
        os.utime(log, (number + 1, number + 1))
        keep_log(log)
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["gateway 2", "gateway 3"]
    keep_log(log)
    assert not log.exists()


def test_a_new_deployment_keeps_tenants_isolated_and_begins_anew_otherwise(tmp_path):
    path = tmp_path / "gateway.state.json"
    assert begin_state(path) == []
    state = {"mode": "maintenance", "experts": {"support": "bad"}, "tenants": {"acme": "runs a loop"}}
    path.write_text(json.dumps({"state": state, "since": 1.0}))
    assert begin_state(path) == ["acme"]
    assert json.loads(path.read_text()) == {"state": {"tenants": {"acme": "runs a loop"}}}
    path.write_text("{")
    assert begin_state(path) == []
    assert not path.exists()
