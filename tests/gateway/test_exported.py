"""The gateway's file of an export, in a real gateway that is started as its container starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import httpx
import pytest

from tests.exporters.exports import compose_file, export, gateway_file, objects

KUBERNETES = (
    "+recipe=serve_gpt_oss_20b", "export=kubernetes", "export.autoscaling=keda",
    "export.prometheus_url=http://prometheus:9090",
)  # fmt: skip


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start the gateway with a file as the Compose file's entrypoint does, with other folders."""
    children = []

    def start(file):
        given, state = tmp_path / "given", tmp_path / "state"
        given.mkdir()
        state.mkdir()
        file["gateway"] |= {"host": "127.0.0.1", "port": 0}
        (given / "gateway.json").write_text(json.dumps(file))
        (given / "gateway.json").chmod(0o444)
        given.chmod(0o555)
        service = compose_file(export("+recipe=serve_gpt_oss_20b", "export=compose"))["services"]["gateway"]
        shell, flag, script = service["entrypoint"]
        for folder, ours in (("/etc/largeforge", given), ("/var/lib/largeforge", state)):
            script = script.replace(folder, str(ours))
        script = script.replace("python ", f"{sys.executable} ")
        monkeypatch.setenv("LARGEFORGE_ADMIN_TOKEN", "a-token-of-the-operators")
        child = subprocess.Popen([shell, flag, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        children.append(child)
        return json.loads(child.stdout.readline())["url"], state

    yield start
    for child in children:
        child.terminate()
        child.communicate(timeout=60)
    (tmp_path / "given").chmod(0o755)


def test_servers_that_are_not_started_yet_are_down_and_the_others_answer(started, threaded_fakes):
    file = gateway_file(objects(export(*KUBERNETES)))
    upstreams = file["upstreams"]["general"]
    assert len(upstreams) == 4
    upstreams[0]["url"] = threaded_fakes["general"].url
    url, state = started(file)
    ready = httpx.get(f"{url}/ready", timeout=30)
    for _ in range(100):
        if ready.status_code == 200:
            break
        time.sleep(0.1)
        ready = httpx.get(f"{url}/ready", timeout=30)
    states = [replica["state"] for replica in ready.json()["experts"]["general"]["replicas"]]
    assert states[0] == "up" and set(states[1:]) <= {"down", "unknown"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
    for _ in range(5):
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).status_code == 200
    headers = {"authorization": "Bearer a-token-of-the-operators"}
    changed = httpx.patch(f"{url}/admin/state", json={"mode": "degraded"}, headers=headers, timeout=30)
    assert changed.status_code == 200 and (state / "gateway.state.json").is_file()
    change = {"topology": {"experts": {"general": {"description": "changed"}}}}
    assert httpx.patch(f"{url}/admin/config", json=change, headers=headers, timeout=30).status_code == 200
