"""The real process: what it prints, how it starts, fails and stops, and the official client through it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys

import httpx
import openai
import pytest

from largeforge.client import AsyncRouterClient, RouterClient
from tests.gateway.processes import Process

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:openai")
CHAT = [{"role": "user", "content": "Where is my order?"}]


def test_announces_itself_answers_and_logs_without_content(process):
    assert set(process.event) == {"time", "stage", "kind", "url"}
    assert (process.event["stage"], process.event["kind"]) == ("gateway", "listening")
    body = {"messages": [{"role": "user", "content": "my secret order"}]}
    answer = httpx.post(process.url + "/v1/chat/completions?q=hidden", json=body, headers={"x-request-id": "id-1"})
    assert answer.status_code == 200
    httpx.get(process.url + "/health")
    process.child.send_signal(signal.SIGTERM)
    code, out, err = process.finish()
    assert code == 0
    assert out == ""
    lines = [json.loads(line) for line in err.splitlines()]
    (line,) = [line for line in lines if line["message"] == "request"]
    assert {key: line[key] for key in ("request_id", "method", "path", "expert", "status")} == {
        "request_id": "id-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "expert": "support",
        "status": 200,
    }
    assert line["duration_ms"] > 0
    assert "secret" not in err
    assert "hidden" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_answer_is_finished_before_the_exit(process, threaded_fakes, events, number):
    support = threaded_fakes["support"]
    support.fake.script = asyncio.Queue()
    body = {"model": "support", "messages": CHAT, "stream": True}
    support.do(lambda: support.fake.script.put_nowait(events.event("one")))
    with httpx.stream("POST", process.url + "/v1/chat/completions", json=body, timeout=30) as answer:
        received = answer.iter_raw()
        assert next(received) == events.event("one")
        process.child.send_signal(number)
        address = httpx.URL(process.url)
        while True:  # until it accepts no more connections
            try:
                socket.create_connection((address.host, address.port)).close()
            except ConnectionError:  # refused, or reset while the listener closes
                break
        for piece in (events.done, None):
            support.do(lambda piece=piece: support.fake.script.put_nowait(piece))
        assert b"".join(received) == events.done
    code, _, err = process.finish()
    assert code == 0
    assert "Traceback" not in err


def test_port_in_use_is_one_clear_message(start, threaded_fakes):
    urls = {"general": threaded_fakes["general"].url}
    port = httpx.URL(start(urls).url).port
    code, out, err = start(urls, port=port).finish()
    assert code == 1
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert str(port) in err
    assert "gateway.port=N" in err


def test_address_of_another_machine_is_one_clear_message(start, threaded_fakes):
    code, _, err = start({"general": threaded_fakes["general"].url}, host="203.0.113.1").finish()
    assert code == 1
    assert "203.0.113.1" in err
    assert "Traceback" not in err


def test_bad_file_is_one_clear_message(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('{"gateway": {"prot": 1}}')
    process = Process(path)
    code, _, err = process.finish()
    assert code == 2
    assert "gateway.prot" in err
    assert "Traceback" not in err


def test_imports_nothing_heavy():
    code = "import sys, largeforge.gateway.server; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"torch", "transformers", "hydra", "mlflow", "vllm", "largeforge.stages"} & set(loaded)


def test_openai_client(process):
    with openai.OpenAI(base_url=process.url + "/v1", api_key="unused") as client:
        assert [model.id for model in client.models.list()] == ["auto", "general", "support"]
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=CHAT)
        assert raw.headers["x-largeforge-expert"] == "support"
        assert raw.parse().choices[0].message.content == "I am support"
        pieces = client.chat.completions.create(model="general", messages=CHAT, stream=True)
        assert "".join(piece.choices[0].delta.content for piece in pieces) == "I am general"
        assert client.completions.create(model="auto", prompt="refund").choices[0].text == "I am support"
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="auto", messages=[])
        assert caught.value.param == "messages"


async def test_openai_client_async(process):
    async with openai.AsyncOpenAI(base_url=process.url + "/v1", api_key="unused") as client:
        answer = await client.chat.completions.create(model="auto", messages=CHAT)
        assert answer.choices[0].message.content == "I am support"
        stream = await client.chat.completions.create(
            model="support", messages=CHAT, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content for chunk in chunks if chunk.choices) == "I am support"
        assert chunks[-1].usage.total_tokens == 5


async def test_router_client(process):
    with RouterClient(process.url) as client:
        answer = client.generate("Where is my order?", max_tokens=8, temperature=0)
        assert (answer.text, answer.expert, answer.model) == ("I am support", "support", "registry:support/1")
        assert (answer.lock, answer.fallback, answer.finish_reason) == ("lock-support", "", "stop")
        assert client.generate("hi", model="nobody").fallback == "unknown-model"
        stream = client.stream("refund")
        assert "".join(stream) == stream.answer.text == "I am support"
        assert stream.answer.usage["total_tokens"] == 5
        assert [card["id"] for card in client.models()] == ["auto", "general", "support"]
    async with AsyncRouterClient(process.url + "/v1") as client:
        assert (await client.generate(CHAT)).expert == "support"
        stream = client.stream("hello")
        assert "".join([piece async for piece in stream]) == "I am general"
        assert stream.answer.request_id
