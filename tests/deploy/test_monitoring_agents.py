"""The programs that monitoring runs on hosts: pages of servers, GPUs, secrets put into a configuration."""

from __future__ import annotations

import http.server
import importlib
import json
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from largeforge.deploy import desired

sys.path.insert(0, str(desired.AGENT))
metrics, gpus, fill = (importlib.import_module(name) for name in ("metrics", "gpus", "fill"))

PAGE = """\
# HELP vllm:kv_cache_usage_perc Use of the cache.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.5
# HELP vllm:tokens Tokens.
# TYPE vllm:tokens histogram
vllm:tokens_bucket{le="+Inf"} 3.0
vllm:tokens_count 3.0
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
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), metrics.handler(str(services))) as page:
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

    text = metrics.merged({"a": PAGE, "b": PAGE, "c": None})
    assert text.count("# TYPE vllm:tokens histogram") == 1
    found = {family.name: family for family in text_string_to_metric_families(text)}
    samples = found["vllm:kv_cache_usage_perc"].samples
    assert {(one.labels["server"], one.value) for one in samples} == {("a", 0.5), ("b", 0.5)}
    assert [one.value for one in found["largeforge_server_up"].samples] == [1, 1, 0]


def test_a_gpu_tells_what_it_knows() -> None:
    text = gpus.written([["0", "GPU-7", "25", "6144", "24576", "[N/A]", "61"]])
    assert 'largeforge_gpu_use_ratio{gpu="0",uuid="GPU-7"} 0.25\n' in text
    assert 'largeforge_gpu_memory_use_ratio{gpu="0",uuid="GPU-7"} 0.25\n' in text
    assert "power" not in text and "celsius" in text
    assert gpus.written([]) == ""


def test_secrets_are_put_in_for_the_user_alone(tmp_path: Path) -> None:
    (tmp_path / "alerts-page-0").write_text("https://hook/s3cret\n")
    template, target = tmp_path / "template", tmp_path / "made"
    template.write_text("url: http://secret.invalid/alerts-page-0/\nother: http://secret.invalid\n")
    program = [sys.executable, str(desired.AGENT / "fill.py"), str(template), str(tmp_path), str(target)]
    ended = subprocess.run([*program, "cat", str(target)], capture_output=True, text=True)
    assert ended.stdout == "url: https://hook/s3cret\nother: http://secret.invalid\n", ended.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("secret", ["two words", "a'b", "line\nother: 1"])
def test_what_is_no_url_is_refused_and_not_told(tmp_path: Path, secret: str) -> None:
    (tmp_path / "alerts-page-0").write_text(secret)
    with pytest.raises(ValueError, match=r"alerts-page-0 is no URL") as error:
        fill.filled("http://secret.invalid/alerts-page-0/", str(tmp_path))
    assert secret not in str(error.value)
