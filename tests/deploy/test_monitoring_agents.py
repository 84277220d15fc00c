"""The programs that monitoring runs on hosts: pages of servers, GPUs, webhooks."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from largeforge.deploy import desired
from largeforge.monitoring import alertmanager, names
from largeforge.monitoring.text import as_yaml
from largeforge.recipe.sections.monitoring import Alerts
from tests.e2e.workspace import wait_for
from tests.ports import free_port

sys.path.insert(0, str(desired.AGENT))
metrics, gpus, hooks, serve = (importlib.import_module(name) for name in ("metrics", "gpus", "hooks", "serve"))

PAGE = """\
# HELP vllm:kv_cache_usage_perc Use of the cache.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.5
# HELP vllm:tokens Tokens.
# TYPE vllm:tokens histogram
vllm:tokens_bucket{le="+Inf"} 3.0
vllm:tokens_count 3.0
"""


SLOW_SERVER = """
import http.server, json, sys, time
time.sleep(1)

class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = json.dumps({"data": [{"id": "general"}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
"""


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = PAGE.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Path]:
    """Two model servers, of which one does not answer, and a gateway."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        for name, kind, there in (("general", "vllm", port), ("mapper", "vllm", 9), ("gateway", "gateway", port)):
            release = tmp_path / name / "current"
            release.mkdir(parents=True)
            place = {"host": "127.0.0.1"}
            (release / "service.json").write_text(json.dumps({"service": name, "kind": kind, "place": place}))
            (release / "port").write_text(f"{there}\n")
        yield tmp_path
        server.shutdown()


def asked(services: Path, path: str) -> tuple[int, str]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), metrics.handler(str(services), str(services / "state"))
    ) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{page.server_address[1]}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        finally:
            page.shutdown()


def test_all_model_servers_are_one_page_and_one_that_is_silent_is_told(services: Path) -> None:
    status, text = asked(services, "/servers")
    assert status == 200
    assert 'largeforge_server_up{server="general"} 1\nlargeforge_server_up{server="mapper"} 0\n' in text
    assert 'vllm:kv_cache_usage_perc{server="general",engine="0"} 0.5' in text
    assert 'vllm:tokens_bucket{server="general",le="+Inf"} 3.0\nvllm:tokens_count{server="general"} 3.0' in text


def test_the_page_of_a_gateway_is_its_own_and_none_is_an_error(services: Path) -> None:
    assert asked(services, "/gateway") == (200, PAGE)
    (services / "gateway" / "current" / "port").write_text("9\n")
    assert asked(services, "/gateway")[0] == 502
    assert asked(services, "/etc/passwd")[0] == 404


def test_metrics_of_several_servers_stand_together_with_one_meaning() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = metrics.merged({"a": PAGE, "b": PAGE, "c": None}, {"a": (31.5, 1700000000.0), "b": None})
    assert text.count("# TYPE vllm:tokens histogram") == 1
    found = {family.name: family for family in text_string_to_metric_families(text)}
    samples = found["vllm:kv_cache_usage_perc"].samples
    assert {(one.labels["server"], one.value) for one in samples} == {("a", 0.5), ("b", 0.5)}
    assert [one.value for one in found["largeforge_server_up"].samples] == [1, 1, 0]
    ((start,), (at,)) = (found[name].samples for name in (names.SERVER_START, names.SERVER_STARTED))
    assert (start.labels, start.value, at.value) == ({"server": "a"}, 31.5, 1700000000)


def test_how_long_the_last_start_of_the_current_release_took_is_told(services: Path) -> None:
    own = services / "state" / "general"
    own.mkdir(parents=True)
    serve.remember("other", 500.0, str(own))
    assert names.SERVER_START not in asked(services, "/servers")[1]
    serve.remember("current", 61.004, str(own))
    text = asked(services, "/servers")[1]
    assert f'{names.SERVER_START}{{server="general"}} 61.0\n' in text and 'start_seconds{server="mapper"}' not in text
    at = float(re.findall(rf'^{names.SERVER_STARTED}{{server="general"}} (.*)$', text, re.M)[0])
    assert abs(at - time.time()) < 60
    (own / "started-current.json").write_text("{}")
    assert names.SERVER_START not in asked(services, "/servers")[1]


def test_a_server_notes_how_long_it_took_to_serve(tmp_path: Path) -> None:
    release, own = tmp_path / "releases" / "abc", tmp_path / "state"
    release.mkdir(parents=True)
    own.mkdir()
    port = free_port()
    (release / "port").write_text(str(port))
    argv = [sys.executable, "-c", SLOW_SERVER, str(port)]
    about = {"argv": argv, "environment": {}, "place": {"host": "127.0.0.1"}, "serves": ["general"]}
    (release / "service.json").write_text(json.dumps(about))
    program = [sys.executable, str(desired.AGENT / "serve.py"), str(release)]
    with subprocess.Popen(program, cwd=own, stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: (own / "started-abc.json").exists(), timeout_s=30)
        finally:
            process.terminate()
            process.communicate(timeout=20)
    seconds, at = metrics.started(str(tmp_path), "state", "abc")
    assert 1 <= seconds < 20 and abs(at - time.time()) < 60


def test_starts_of_a_few_releases_are_kept(tmp_path: Path) -> None:
    for index in range(serve.REMEMBERED + 3):
        serve.remember(f"r{index}", 1.0, str(tmp_path))
        os.utime(tmp_path / f"started-r{index}.json", (index + 1, index + 1))
    serve.remember("last", 1.0, str(tmp_path))
    kept = {path.name for path in tmp_path.iterdir()}
    assert len(kept) == serve.REMEMBERED and {"started-last.json", "started-r7.json"} <= kept


def test_a_gpu_tells_what_it_knows() -> None:
    text = gpus.written([["0", "GPU-7", "25", "6144", "24576", "[N/A]", "61"]])
    assert 'largeforge_gpu_use_ratio{gpu="0",uuid="GPU-7"} 0.25\n' in text
    assert 'largeforge_gpu_memory_use_ratio{gpu="0",uuid="GPU-7"} 0.25\n' in text
    assert "power" not in text and "celsius" in text
    assert gpus.written([]) == ""


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted; its path says what it answers."""

    took: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        self.took.append(
            (self.path, self.headers.get("authorization", ""), self.rfile.read(int(self.headers["content-length"])))
        )
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return what makes a URL of a webhook, and says where alerts for it are taken."""
    Hook.took.clear()
    with contextlib.ExitStack() as stack:

        def serve(handler: type[http.server.BaseHTTPRequestHandler]) -> int:
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        port = serve(Hook)

        def made(url: str) -> str:
            (tmp_path / "alerts-page-0").write_text(f"{url.format(port=port)}\n")
            return f"http://127.0.0.1:{serve(hooks.handler(hooks.read(str(tmp_path), ['alerts-page-0'])))}"

        yield made


def posted(url: str, body: bytes = b'{"alerts": []}') -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(("answers", "seen"), [(200, 200), (204, 204), (400, 400), (503, 503), (302, 502), (308, 502)])
def test_alerts_go_on_to_the_secret_url_and_its_status_comes_back(
    hook: Callable[[str], str], answers: int, seen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place = hook(f"http://me:p%40ss@127.0.0.1:{{port}}/s3cret/{answers}")
    status, said = posted(f"{place}/alerts-page-0")
    assert status == seen
    assert Hook.took == [(f"/s3cret/{answers}", "Basic bWU6cEBzcw==", b'{"alerts": []}')]
    assert "s3cret" not in said + capsys.readouterr().out


def test_what_is_passed_on_elsewhere_or_too_large_is_refused(hook: Callable[[str], str]) -> None:
    place = hook("http://127.0.0.1:{port}/s3cret/200")
    assert posted(f"{place}/alerts-page-1")[0] == 404 and posted(f"{place}/../etc/passwd")[0] == 404
    with urllib.request.urlopen(f"{place}/", timeout=10) as answer:
        assert (answer.status, b"s3cret" in answer.read()) == (200, False)
    with contextlib.closing(http.client.HTTPConnection(place.removeprefix("http://"), timeout=10)) as connection:
        connection.putrequest("POST", "/alerts-page-0")
        connection.putheader("content-length", str(hooks.MOST_BYTES + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
    assert not Hook.took


def test_a_webhook_that_nobody_answers_at_is_told_without_its_url(
    hook: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = posted(f"{hook('http://127.0.0.1:9/s3cret')}/alerts-page-0")
    assert (
        said == (502, "ConnectionRefusedError\n")
        and capsys.readouterr().out == "alerts-page-0: ConnectionRefusedError\n"
    )


@pytest.mark.parametrize(
    "secret", ["two words", "http://a'b", "http://line\nother: 1", "ftp://a", "http://", "http://a:b"]
)
def test_what_is_no_url_is_refused_and_not_told(tmp_path: Path, secret: str) -> None:
    (tmp_path / "alerts-page-0").write_text(secret)
    with pytest.raises(ValueError, match=r"alerts-page-0 is no URL") as error:
        hooks.read(str(tmp_path), ["alerts-page-0"])
    assert secret not in str(error.value)


def test_alertmanager_tells_a_webhook_and_nobody_else_where_it_is(hook: Callable[[str], str], tmp_path: Path) -> None:
    if not shutil.which("prometheus-alertmanager"):
        pytest.skip("needs prometheus-alertmanager")
    place = hook("http://127.0.0.1:{port}/s3cret/200")
    for name in ("alerts-page-1", "alerts-ticket-0"):
        (tmp_path / name).write_text("http://127.0.0.1:9/s3cret")
    alerts = Alerts.model_validate({
        "page": [{"kind": "webhook", "secret": "env:A"}, {"kind": "pagerduty", "secret": "env:B"}],
        "ticket": [{"kind": "slack", "secret": "env:C"}], "group_wait_s": 0,
    })  # fmt: skip
    content = alertmanager.configuration(alerts, secrets=str(tmp_path), hooks=place.removeprefix("http://"))
    (tmp_path / "alertmanager.yml").write_text(as_yaml(content))
    address = f"127.0.0.1:{free_port()}"
    argv = [
        "prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/state",
        "--cluster.listen-address=", f"--web.listen-address={address}",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            wait_for(lambda: is_there(f"http://{address}/-/ready"), timeout_s=20)
            alert = [{"labels": {"alertname": "Fire", "severity": "page"}}]
            request = urllib.request.Request(
                f"http://{address}/api/v2/alerts", json.dumps(alert).encode(), {"content-type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=10).close()
            wait_for(lambda: bool(Hook.took), timeout_s=20)
            with urllib.request.urlopen(f"http://{address}/api/v2/status", timeout=10) as answer:
                status = answer.read().decode()
        finally:
            process.kill()
    assert json.loads(Hook.took[0][2])["alerts"][0]["labels"]["alertname"] == "Fire"
    assert "/alerts-page-0" in status and "s3cret" not in status + (tmp_path / "log").read_text()


def is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
