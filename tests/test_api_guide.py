"""Every example of docs/api.md runs, against the gateway's own process before the fake of vLLM."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import FakeVllm, _start_thread, gateway_file
from tests.gateway.test_openai_js import package  # noqa: F401

GUIDE = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
ADDRESS = "127.0.0.1:8080"
EXPERTS = ("general", "support", "vectors", "judge")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.M | re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, the address of a gateway, and the experts behind it."""
    folder = tmp_path_factory.mktemp("guide")
    fakes = {name: _start_thread(FakeVllm(f"I am {name}")) for name in EXPERTS}
    file = gateway_file({name: fake.url for name, fake in fakes.items()}, batches={"folder": str(folder / "bulk")})
    (folder / "gateway.json").write_text(file.model_dump_json())
    with (folder / "log").open("w") as log:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "largeforge.gateway", "--config", str(folder / "gateway.json")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    url = json.loads(gateway.stdout.readline())["url"]
    yield folder, url.removeprefix("http://"), {name: running.fake for name, running in fakes.items()}
    gateway.terminate()
    gateway.communicate()
    for running in fakes.values():
        running.server.should_exit = True
        running.thread.join()


pytestmark = pytest.mark.usefixtures("socket_enabled")


def run(argv: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(place) -> None:
    folder, address, _ = place
    said = [run(["bash", "-euc", text.replace(ADDRESS, address)], folder) for text in blocks("bash")]
    first, *_, rated, upload = said
    assert json.loads(first)["choices"][0]["message"]["content"] == "I am support"
    assert json.loads(rated[rated.index('{"object":"feedback"') :])["expert"] == "support"
    assert json.loads(upload)["filename"] == "requests.jsonl"


def test_python(place) -> None:
    folder, address, experts = place
    shutil.copy(_requests(folder, address), folder / "requests.jsonl")
    out = run([sys.executable, "-c", "\n".join(blocks("python")).replace(ADDRESS, address)], folder)
    assert out.count("I am support") == 6
    assert "city='I am general'" in out
    assert "name='track'" in out
    assert "2 [7.0, 1.0]" in out
    assert "completed BatchRequestCounts(completed=2, failed=0, total=2)" in out
    assert "done support" in out
    assert out.rstrip().endswith("[[7.0, 1.0], [9.0, 1.0]]\n1")
    assert "True\nI am support" in out
    assert float(experts["support"].headers[-1].get("x-request-timeout", 20)) <= 20


def test_javascript(place, package) -> None:  # noqa: F811
    folder, address, _ = place
    shutil.copy(_requests(folder, address), folder / "requests.jsonl")
    (folder / "node_modules").symlink_to(package / "node_modules")
    (folder / "guide.mjs").write_text("\n".join(blocks("js")).replace(ADDRESS, address))
    out = run(["node", "guide.mjs"], folder)
    assert out.count("I am support") == 3
    assert "2 [ 7, 1 ]" in out


def test_errors_are_as_shown(place) -> None:
    folder, address, _ = place
    (shown,) = blocks("json")
    argv = ["curl", "-s", f"http://{address}/v1/chat/completions", "-d", "{}"]
    assert json.loads(run(argv, folder)) == json.loads(shown)


def _requests(folder: Path, address: str) -> Path:
    """Make the file of requests as the page does."""
    (text,) = (block for block in blocks("bash") if "requests.jsonl" in block)
    other = folder / "made"
    other.mkdir(exist_ok=True)
    run(["bash", "-euc", text.replace(ADDRESS, address)], other)
    return other / "requests.jsonl"
