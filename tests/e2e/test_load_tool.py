"""vLLM's own load tool, run for real against a server whose delays and failures are known."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from largeforge import loadtest, reaper
from largeforge.recipe.schema import LoadTest
from tests.loadtest.fake_openai import FakeOpenai

pytestmark = pytest.mark.usefixtures("socket_enabled")
WRITE_TOKENIZER = (
    "import sys; from pathlib import Path; from tests.serving.tiny_model import write_tokenizer as write; "
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    program = f"{WRITE_TOKENIZER}write(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, cwd=Path(__file__).parents[2])
    return str(folder)


def load(url: str, tokenizer: str, folder: Path, notes: list[str], **fields: Any) -> loadtest.Report:
    section = LoadTest.model_validate({"prompt_tokens": 20, "completion_tokens": 4, "warm_up_requests": 0, **fields})
    found = loadtest.run(section, url, tokenizer=tokenizer, work_folder=folder, report=notes.append)
    assert reaper.descendants(os.getpid()) == []
    return found


@pytest.mark.thorough
def test_known_latencies_and_errors_come_back(tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-another-service")
    server, notes = FakeOpenai(), []
    server.ttft_s, server.gap_s, server.fails_every = 0.05, 0.02, 10
    with server.served() as url:
        found = load(
            url, tokenizer, tmp_path, notes,
            requests_per_second=10, steps=[20], num_requests=30, slo={"ttft_ms": 60_000}, expert="support",
        )  # fmt: skip
    for step in found.steps:
        known = step.metrics
        assert (known["sent"], known["completed"], known["failed"]) == (30, 27, 3)
        assert known["error_share"] == pytest.approx(0.1)
        assert step.errors == {"Service Unavailable": 3}
        assert known["goodput_share"] == pytest.approx(0.9), "errors are no goodput"
        assert known["ttft_p50_ms"] >= 50
        assert known["inter_token_p50_ms"] >= 20, "the piece with the role is no token"
        assert known["tpot_p50_ms"] >= 20
        assert known["e2e_p50_ms"] >= 50 + 3 * 20
        assert (step.prompt_tokens, step.output_tokens) == (27 * 7, 27 * 4), "as the server counts them"
    assert "load test at 10 requests/s: 3 of 30 requests failed: Service Unavailable (3)" in notes
    assert len(server.bodies) == 60
    assert {body["model"] for body in server.bodies} == {"support"}
    assert all(body["stream"] and body["ignore_eos"] and body["max_completion_tokens"] == 4 for body in server.bodies)
    first, second = ({json.dumps(body["messages"]) for body in server.bodies[at : at + 30]} for at in (0, 30))
    assert first != second, "rates do not find each other's prompts in the prefix cache (a tiny vocabulary has few)"
    assert not [headers for headers in server.headers if "authorization" in headers]
    gaps = [after - before for before, after in pairwise(server.arrived[:30])]
    assert statistics.stdev(gaps) / statistics.mean(gaps) > 0.5, "a Poisson process, not a clock"


@pytest.mark.thorough
def test_a_slow_server_lowers_goodput_and_not_arrivals(tmp_path: Path, tokenizer: str) -> None:
    rows = tmp_path / "rows.jsonl"
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    conversation = [{"role": "user", "content": "private words"}, {"role": "assistant", "content": "Yes."}]
    conversation += [{"role": "user", "content": "And now?"}]
    rows.write_text(
        "".join(json.dumps(row) + "\n" for row in ({"messages": conversation, "tools": tools}, {"prompt": "Hi"}))
    )
    server, notes = FakeOpenai(), []
    server.ttft_s, server.breaks_every = 6.0, 5
    with server.served() as url:
        found = load(
            url, tokenizer, tmp_path / "work", notes,
            requests_per_second=10, duration_s=2, path=str(rows), slo={"ttft_ms": 1000},
        )  # fmt: skip
    known = found.metrics
    assert known["sent"] == 20, "as many as without the delay"
    assert server.most_at_once == 20, "none waited for an answer to another"
    assert (known["completed"], known["failed"]) == (16, 4), "a stream that ends in an error is none"
    assert found.judged.errors == {"RuntimeError: the stream ended in an error: 500": 4}
    assert known["ttft_p50_ms"] >= 6000
    assert (known["goodput_share"], known["goodput_per_s"], known["sustained_per_s"]) == (0, 0, 0)
    asked = [body["messages"] for body in server.bodies]
    assert asked.count(conversation) == asked.count([{"role": "user", "content": "Hi"}]) == 10
    assert [body.get("tools") for body in server.bodies if body["messages"] == conversation] == [tools] * 10
    logs = [path.read_text() for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert len(logs) == 1
    assert "private words" not in logs[0]
    assert "secret words" not in logs[0]
