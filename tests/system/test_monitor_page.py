"""The monitor in a real browser: it logs in, shows what there is, fits small screens, runs nothing that it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from largeforge import operators
from tests.gateway.conftest import ThreadedFake, gateway_file, start_fake, threaded_fakes  # noqa: F401
from tests.system import browser

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("socket_enabled")]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
ROLLOUT = {
    "expert": HOSTILE, "step": 2, "share": 0.25, "state": "running",
    "decisions": [{"at": 1_795_000_000.0, "decision": "hold", "reasons": [HOSTILE, "latency p95 is 12 % worse"]}],
}  # fmt: skip
CONTRAST = """
(() => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const f = c.map((v) => linear(v / 255));
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => { for (; node; node = node.parentElement) {
    const c = numbers(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] === 1) return c.slice(0, 3); }
    return numbers(getComputedStyle(document.body).backgroundColor).slice(0, 3); };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.getClientRects().length) continue;
    const a = light(numbers(getComputedStyle(node).color).slice(0, 3)), b = light(behind(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push(`${ratio.toFixed(2)} ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return weak;
})()
"""


@pytest.fixture
def gateway(tmp_path: Path, threaded_fakes: dict[str, ThreadedFake], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:  # noqa: F811
    """A gateway with objectives and some traffic; one of its servers is not there. Yields its address."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    slo = {
        "objectives": {
            "available": {"indicator": "availability", "objective": 0.99},
            "fast": {"indicator": "latency", "objective": 0.95, "threshold_ms": 1000},
        }
    }
    urls: dict[str, str | list[str]] = {
        "general": threaded_fakes["general"].url, "support": [threaded_fakes["support"].url, "http://127.0.0.1:9"],
    }  # fmt: skip
    (tmp_path / "gateway.json").write_text(gateway_file(urls, slo=slo).model_dump_json())
    command = [sys.executable, "-m", "largeforge.gateway", "--config", str(tmp_path / "gateway.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url: str = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=url, trust_env=False) as client:
            for number in range(6):
                body = {"messages": [{"role": "user", "content": "my order"}], "stream": number % 2 == 0}
                answer = client.post("/v1/chat/completions", json=body)
                rating = {"request_id": answer.headers["x-request-id"], "rating": "up" if number else "down"}
                assert client.post("/v1/feedback", json=rating).status_code == 200
            state = {"experts": {"general": HOSTILE}, "reason": HOSTILE}
            assert client.patch("/admin/state", json=state, headers=operator(url)).status_code == 200
        yield url
        process.terminate()


def token(url: str) -> str:
    return operators.kept(int(url.rpartition(":")[2]))


def operator(url: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token(url)}"}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[browser.Page]:
    with browser.page(tmp_path / "profile") as found:
        yield found


def log_in(page: browser.Page, given: str) -> None:
    page.until("!document.getElementById('login').hidden")
    page.run(f"document.getElementById('token').value = {json.dumps(given)}")
    page.run("document.querySelector('#login button').click()")


def test_a_browser_logs_in_sees_the_numbers_and_forgets_the_token(gateway: str, page: browser.Page) -> None:
    page.open(f"{gateway}/monitor", width=1440)
    log_in(page, "a wrong one")
    page.until("document.getElementById('notice').textContent.includes('no spaces')")
    log_in(page, "0123456789abcdef")
    page.until("document.getElementById('notice').textContent.includes('does not take this token')")
    page.complaints.clear()  # the browser complains of the 401
    log_in(page, token(gateway))
    page.until("!document.getElementById('board').hidden")
    text = page.run("document.body.innerText")
    for words in (
        "mode: emergency", "Requests and errors", "registry:support/1", "http://127.0.0.1:9", "refuses connections",
        "1 of 2 servers in use", "Between tokens", "99 % of requests", "100 % left", "Thumbs up", "83.3 %",
        "nothing before is known here", "None in progress.",
    ):  # fmt: skip
        assert words in text, f"{words!r} is not in\n{text}"
    assert token(gateway) not in page.run("location.href")
    assert page.run("Object.keys(localStorage).length") == 0
    assert {address.removeprefix(gateway) for address in page.asked if address.startswith("http")} == {
        "/monitor", "/monitor/data"
    }  # fmt: skip
    assert page.complaints == []
    first = page.run("document.getElementById('since').textContent")
    page.until(f"document.getElementById('since').textContent !== {json.dumps(first)}")
    page.run("document.getElementById('leave').click()")
    assert page.run("sessionStorage.length") == 0
    assert page.run("document.getElementById('board').hidden")


def test_what_others_wrote_is_text_and_never_runs(gateway: str, page: browser.Page) -> None:
    page.open(f"{gateway}/monitor", width=1440)
    log_in(page, token(gateway))
    page.until("!document.getElementById('board').hidden")
    page.run(f"showRollouts({{rollouts: [{json.dumps(ROLLOUT)}]}})")
    text = page.run("document.body.innerText")
    assert text.count(HOSTILE) >= 4, text
    assert "latency p95 is 12 % worse" in text
    assert page.run("document.querySelectorAll('#board img, #board script').length") == 0
    assert page.run("document.title") == "LargeForge gateway"
    refused = page.run("try { document.body.innerHTML = '<b>x</b>'; 'taken' } catch (error) { error.name }")
    assert refused == "TypeError", "the policy refuses text as HTML"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits_the_screen_and_can_be_read(
    gateway: str, page: browser.Page, tmp_path: Path, width: int, scheme: str
) -> None:
    page.open(f"{gateway}/monitor", width=width, scheme=scheme)
    assert page.run(CONTRAST) == []
    log_in(page, token(gateway))
    page.until("!document.getElementById('board').hidden")
    page.run(f"showRollouts({{rollouts: [{json.dumps(ROLLOUT)}]}})")
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run(CONTRAST) == []
    small = "[...document.querySelectorAll('button')].filter((one) => one.offsetHeight && one.offsetHeight < 40).length"
    assert page.run(small) == 0
    page.run("document.activeElement.blur()")
    unnamed = "[...document.querySelectorAll('svg, .budget')].filter((one) => !one.getAttribute('aria-label')).length"
    assert page.run(unnamed) == 0
    picture = Path(os.environ.get("LARGEFORGE_PICTURES", tmp_path)) / f"monitor-{scheme}-{width}.png"
    page.picture(picture)
    assert picture.stat().st_size > 30_000, "the page is blank"


def test_a_gateway_that_is_gone_is_said_and_old_numbers_stay(gateway: str, page: browser.Page) -> None:
    page.open(f"{gateway}/monitor", width=1440)
    log_in(page, token(gateway))
    page.until("!document.getElementById('board').hidden")
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.until("document.getElementById('notice').textContent.includes('does not answer')")
    assert not page.run("document.getElementById('board').hidden")
