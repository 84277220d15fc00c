"""The monitor in a real browser: it logs in, shows what there is, fits small screens, runs nothing that it is told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from largeforge import operators
from tests.gateway.conftest import ThreadedFake, event, gateway_file, start_fake, threaded_fakes  # noqa: F401
from tests.system import browser

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("socket_enabled")]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
NOW = 1_795_000_000.0
LOG = [
    {"time": NOW - 30, "step": 1, "action": "hold", "share": 0.25,
     "verdicts": {"errors": "not_enough", "judge": "fine"},
     "reasons": [HOSTILE, "errors: 40 of the 200 requests of the canary that are needed"]},
    {"time": NOW - 630, "step": 1, "action": "step", "share": 0.25,
     "verdicts": {"errors": "fine", "latency_p95": "worse"},
     "reasons": ["step 1 of 4 passed", "latency_p95 (slower than 1.2 s): 3 of 250 requests of the canary (1.20%)"]},
    *({"time": NOW - 1230 - number, "step": 0, "action": "resume" if number % 2 else "pause", "share": 0.05,
       "verdicts": {}, "reasons": ["by command"]} for number in range(6)),
]  # fmt: skip
ROLLOUT = {
    "expert": HOSTILE, "strategy": "canary", "phase": "running", "step": 1, "steps": [0.05, 0.25, 0.5, 1.0],
    "share": 0.25, "shadow": 0.1, "started": NOW - 1240, "changed": NOW - 630, "seen": NOW - 3,
    "has_controller": True, "guarded": None, "reasons": ["step 2 of 4 held for 30 s"],
    "release": {"old": "20260101-1200", "new": "20260102-0900"}, "log": LOG,
    "model": {"old": "registry:support-bot/3", "new": "registry:support-bot/4"},
}  # fmt: skip
ROLLOUTS = [
    {"expert": "manual", "phase": None, "has_controller": False, "share": 0.1, "shadow": 0, "guarded": None},
    ROLLOUT,
    {**ROLLOUT, "expert": "alone", "seen": NOW - 400, "has_controller": False, "log": LOG[1:2]},
    {**ROLLOUT, "expert": "guarded", "has_controller": False, "share": 0, "guarded": f"errors; {HOSTILE}"},
    {**ROLLOUT, "expert": "back", "phase": "rolled_back", "share": 0, "log": [{**LOG[1], "action": "roll_back"}]},
    {**ROLLOUT, "expert": "done", "phase": "promoted", "step": 3, "share": 1, "log": LOG[:1]},
]
SHOWN = f"showRollouts({{rollouts: {json.dumps(ROLLOUTS)}, now: {NOW}}})"
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
            read_as_it_is_written(client, threaded_fakes["support"])
            state = {"experts": {"general": HOSTILE}, "reason": HOSTILE}
            assert client.patch("/admin/state", json=state, headers=operator(url)).status_code == 200
        yield url
        process.terminate()


def read_as_it_is_written(client: httpx.Client, support: ThreadedFake) -> None:
    """Have an answer streamed whose tokens come apart, however busy the machine is."""
    script: asyncio.Queue[bytes | None] = asyncio.Queue()
    support.do(lambda: setattr(support.fake, "script", script))
    body = {"messages": [{"role": "user", "content": "my order"}], "stream": True}
    pieces: list[bytes | None] = [event("one"), event(" two"), event("", finish="stop"), b"data: [DONE]\n\n", None]
    support.do(partial(script.put_nowait, pieces[0]))
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        for piece in pieces[1:]:
            assert next(line for line in lines if line).startswith("data: ")
            support.do(partial(script.put_nowait, piece))


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
    page.run(f"clearTimeout(timer); {SHOWN}")
    text = page.run("document.body.innerText")
    assert text.count(HOSTILE) >= 5, text
    for words in (
        "2 of 4", "share 25 %", "no controller", "taken out by the gateway", "share set by hand", "rolled back",
        "promoted", "registry:support-bot/3 → registry:support-bot/4", "errors: not enough yet", "latency p95: worse",
        "5 earlier", "a controller looked 3 s ago", "step 2 of 4 held for 30 s",
        "errors: 40 of the 200 requests of the canary",
    ):  # fmt: skip
        assert words in text, f"{words!r} is not in\n{text}"
    assert "Resumed" not in text, "what is old waits to be opened"
    assert page.run("document.querySelectorAll('#board img, #board script').length") == 0
    assert page.run("document.title") == "LargeForge gateway"
    refused = page.run("try { document.body.innerHTML = '<b>x</b>'; 'taken' } catch (error) { error.name }")
    assert refused == "TypeError", "the policy refuses text as HTML"


def test_an_opened_log_stays_open_and_keeps_the_keyboard(gateway: str, page: browser.Page) -> None:
    page.open(f"{gateway}/monitor", width=1440)
    log_in(page, token(gateway))
    page.until("!document.getElementById('board').hidden")
    page.run(f"clearTimeout(timer); {SHOWN}")
    page.run("document.querySelector('#rollouts summary').focus(); document.activeElement.click()")
    page.run(SHOWN.replace('"seen": 1794999997.0', '"seen": 1794999999.0'))
    assert "a controller looked 1 s ago" in page.run("document.body.innerText")
    assert page.run("document.querySelector('#rollouts details').open")
    assert page.run("document.activeElement.tagName") == "SUMMARY"
    assert "Resumed" in page.run("document.body.innerText")


def test_what_a_controller_tells_is_on_the_page(gateway: str, page: browser.Page) -> None:
    now = time.time()
    told = {key: ROLLOUT[key] for key in ("strategy", "phase", "step", "steps", "share", "release", "model", "reasons")}
    view = {**told, "started": now - 200, "changed": now - 100, "seen": now - 90, "log": LOG[1::-1]}
    with httpx.Client(base_url=gateway, trust_env=False, headers=operator(gateway)) as client:
        patch = {"rollouts": {"support": view}, "canaries": {"general": 0.1, "support": 0.25}}
        assert client.patch("/admin/state", json=patch).status_code == 200
        page.open(f"{gateway}/monitor", width=1440)
        log_in(page, token(gateway))
        page.until("document.getElementById('rollouts').innerText.includes('registry:support-bot/4')")
        text = page.run("document.getElementById('rollouts').innerText")
        assert text.index("general") < text.index("support") and text.count("no controller") == 2
        assert text.index("Held · share 25 %") < text.index("Step · share 25 %"), "the newest is first"
        assert client.patch("/admin/state", json={"rollouts": {"support": {"seen": time.time()}}}).status_code == 200
        page.until("document.getElementById('rollouts').innerText.split('no controller').length === 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits_the_screen_and_can_be_read(
    gateway: str, page: browser.Page, tmp_path: Path, width: int, scheme: str
) -> None:
    page.open(f"{gateway}/monitor", width=width, scheme=scheme)
    assert page.run(CONTRAST) == []
    log_in(page, token(gateway))
    page.until("!document.getElementById('board').hidden")
    page.run(f"clearTimeout(timer); {SHOWN}")
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
