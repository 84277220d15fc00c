"""Pages for people, as a real browser draws them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from largeforge import report

pytestmark = pytest.mark.system
EVENTS = Path(__file__).parents[1] / "console" / "quickstart.jsonl"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Chromium once on an address."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        profile = tmp_path / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.parametrize("width", [400, 1280])
def test_the_report_is_drawn_without_an_error(
    tmp_path: Path, browser: Callable[..., subprocess.CompletedProcess[str]], width: int
) -> None:
    shutil.copy(EVENTS, tmp_path / "events.jsonl")
    address = report.write(tmp_path).as_uri()
    picture = tmp_path / "page.png"
    drawn = browser(f"--window-size={width},1500", f"--screenshot={picture}", address)
    assert picture.stat().st_size > 20_000, "the page is blank"
    assert "CONSOLE" not in drawn.stderr, drawn.stderr
    page = browser("--dump-dom", address).stdout
    assert "quickstart" in page
    assert "<svg" in page


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """A gateway process whose only expert is not there; yields its address."""
    settings = {
        "gateway": {"port": 0},
        "router": {"name": "keyword"},
        "topology": {"experts": {"general": {"model": "path:/nowhere"}}},
        "upstreams": {"general": {"url": "http://127.0.0.1:9", "served_model": "general", "model": "m", "lock": "l"}},
    }
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "largeforge.gateway", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def test_the_api_page_lists_every_path(gateway: str, browser: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    drawn = browser("--virtual-time-budget=10000", "--dump-dom", f"{gateway}/docs")
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics"):
        assert path.replace("/", "/\u200b") in drawn.stdout or path in drawn.stdout, drawn.stdout[-2000:]
    assert "CONSOLE" not in drawn.stderr, drawn.stderr
