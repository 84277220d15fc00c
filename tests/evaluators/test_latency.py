"""What a client sees of a server: latency, time to first token, tokens a second."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import latency
from largeforge.evaluators.latency import Config, Timed, metrics_of
from largeforge.recipe.evaluation import Endpoint
from tests.evaluators.conftest import Answering, row


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        refused = len(body["prompt"]) > 40
        self.send_response(400 if refused else 200)
        self.end_headers()
        if refused:
            self.wfile.write(b'{"message": "too long"}')
            return
        for event in ({"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]},
                      {"choices": [], "usage": {"completion_tokens": body["max_tokens"]}}):  # fmt: skip
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listening.daemon_threads, listening.asked = True, []
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()
    listening.server_close()


class Served(Answering):
    def __init__(self, rows, server):
        super().__init__(rows, {})
        self.endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "model", "")

    def render(self, messages, *, generation_prompt, tools=None):
        return [ord(letter) for letter in messages[-1]["content"]]


def test_requests_are_measured_after_the_warmup_and_prompts_are_asked_again(server):
    subject = Served([row("abc"), row("de")], server)
    found = latency.run(Config(num_requests=5, num_warmup=2, concurrency=2, max_new_tokens=7), subject)
    assert set(found) == set(latency.METRICS)
    assert {len(series.values) for series in found.values()} == {5}
    assert {series.over for series in found.values()} == {"requests"}
    assert 0 < found["ttft_p95_ms"].figure() <= found["latency_p95_ms"].figure()
    assert [len(body["prompt"]) for body in server.asked].count(2) == 3
    assert all(body["ignore_eos"] and body["max_tokens"] == 7 for body in server.asked)
    assert "5 requests, 2 at once, 35 tokens" in subject.notes[0]


def test_a_refused_prompt_is_no_measurement(server):
    with pytest.raises(StageError, match=r"refused a prompt of 50 tokens: .*too long"):
        latency.run(Config(num_requests=1, num_warmup=0), Served([row("a" * 50)], server))


def test_percentiles_and_throughput_are_over_all_requests():
    timed = [Timed(seconds=0.1 * (place + 1), first_token_s=0.01, tokens=20) for place in range(10)]
    found = {name: series.figure() for name, series in metrics_of(timed, seconds=2.0).items()}
    assert found["latency_p50_ms"] == pytest.approx(550)
    assert found["latency_p95_ms"] == pytest.approx(955)
    assert found["ttft_p95_ms"] == pytest.approx(10)
    assert found["tokens_per_s"] == pytest.approx(10 * 20 / 2.0)
