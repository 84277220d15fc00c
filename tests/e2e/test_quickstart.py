"""The main job as a user runs it: real trl, peft, accelerate, MLflow, vLLM, gateway and clients."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from websockets.asyncio.client import connect

from largeforge.stages.init import CHAT_TEMPLATE
from tests.e2e.test_training import rows
from tests.e2e.workspace import Workspace, processes
from tests.fakes.collector import Collector

Quickstart = tuple[Workspace, subprocess.CompletedProcess[str]]


def test_it_ends_well_and_says_what_to_type_next(quickstart: Quickstart) -> None:
    workspace, result = quickstart
    assert result.returncode == 0, result.stdout + result.stderr
    assert "+recipe=serve_quickstart" in result.stdout
    assert "report.html" in result.stdout
    assert (workspace.run_dir("quickstart") / "report.html").is_file()


@pytest.mark.parametrize(("job", "floor"), [("mapper", 0.85), ("support", 0.80)])
def test_each_expert_beats_its_gate_and_the_base(quickstart: Quickstart, job: str, floor: float) -> None:
    metrics = quickstart[0].manifest("quickstart", f"{job}.evaluate")["metrics"]
    assert metrics["exact_match"] >= floor
    assert metrics["exact_match"] > metrics["base.exact_match"]
    assert metrics["loss"] < metrics["base.loss"]


def test_every_expert_answered_its_question_through_both_clients(quickstart: Quickstart) -> None:
    folder = quickstart[0].run_dir("quickstart") / "serve" / "out"
    answers = json.loads((folder / "answers.json").read_text())
    asked = {(answer["expert"], answer["client"]) for answer in answers}
    assert {("general", "router"), ("mapper", "router"), ("support", "router")} <= asked
    assert any(answer["client"] == "openai" and answer["stream"] for answer in answers)
    mapped = next(answer for answer in answers if answer["expert"] == "mapper")
    assert isinstance(json.loads(mapped["text"]), dict)


def test_models_are_registered_with_lineage(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    info = workspace.manifest("quickstart", "mapper.register")["info"]
    assert info["reference"] == "registry:quickstart-mapper/1"
    assert info["alias"] == "champion"
    sheet = json.loads(next((workspace.path / "registry").rglob("largeforge.json")).read_text())
    assert sheet["files"]
    assert sheet["lineage"]["recipe"] == "quickstart"
    assert sheet["lineage"]["chat_template"] == hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()


def test_nothing_it_started_is_left(quickstart: Quickstart) -> None:
    assert not processes("vllm.entrypoints", str(quickstart[0].path))
    assert not processes("largeforge.gateway", str(quickstart[0].path))


def test_running_it_again_does_nothing_twice(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    before = workspace.manifest("quickstart", "support.train")
    result = workspace.run("+recipe=quickstart", timeout_s=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert workspace.manifest("quickstart", "support.train") == before
    assert len(list((workspace.path / "runs" / "quickstart").iterdir())) == 1
    planned = workspace.run("+recipe=quickstart", "mode=plan", timeout_s=60)
    assert "0 of" in planned.stdout


def test_a_changed_gate_refuses_without_training_again(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    result = workspace.run("+recipe=quickstart", 'jobs.mapper.gates.exact_match=">= 1.01"', timeout_s=900)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "must be >= 1.01" in result.stderr
    assert workspace.manifest("quickstart", "mapper.train")["reused_from"]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    collector = Collector()
    yield collector
    collector.stop()


def test_serving_goes_on_until_interrupted(quickstart: Quickstart, collector: Collector) -> None:
    workspace, _ = quickstart
    words = ["gateway.port=0", f"gateway.tracing.endpoint={collector.url}", "gateway.batches.folder=batches"]
    process = workspace.start("+recipe=serve_quickstart", *words)
    try:
        url = _url(workspace, process)
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hello, who are you?"}]}
        headers = {"content-type": "application/json", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["x-largeforge-expert"] == "general"
            assert answer.headers["x-largeforge-model"] == "registry:quickstart-general/1"
            assert answer.headers["x-largeforge-lock"]
            request_id = answer.headers["x-request-id"]
            assert json.load(answer)["choices"][0]["message"]["content"].strip()
        names = ("POST /v1/chat/completions", "chat general", "llm_request")
        asked, attempt, generated = collector.wait(*names)
        assert {span.trace_id.hex() for span in (asked, attempt, generated)} == {"ab" * 16}
        assert asked.parent_span_id.hex() == "cd" * 8
        assert (attempt.parent_span_id, generated.parent_span_id) == (asked.span_id, attempt.span_id)
        served = workspace.output
        traced = workspace.run("trace", request_id)
        for part in ("registry:quickstart-general/1", "general.gate/out/evaluation.json", "quickstart/general.jsonl"):
            assert part in traced.stdout, traced.stdout + traced.stderr
        assert "general, mapper, support: chat template verified" in served
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as listed:
            templates = {model.get("chat_template_sha256", "") for model in json.load(listed)["data"]}
        assert templates == {"", hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()}  # auto has none
        assert _readme_snippet(url).startswith("support ")
        assert asyncio.run(_spoken(url, ORDER)).strip()
        assert _batched(url, [ORDER, ORDER, ORDER]) == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert not processes("vllm.entrypoints", str(workspace.path))
    assert not processes("largeforge.gateway", str(workspace.path))


def test_interrupting_again_and_again_during_start_up_leaves_nothing(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    process = workspace.start("+recipe=serve_quickstart", "gateway.port=0")
    try:
        deadline = time.monotonic() + 120
        while not processes("vllm.entrypoints", str(workspace.path)):
            assert time.monotonic() < deadline, workspace.output
            time.sleep(0.2)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert process.poll() == 130, workspace.output
    finally:
        process.kill()
    assert "Traceback" not in workspace.output
    assert not processes("vllm.entrypoints", str(workspace.path))


@pytest.mark.thorough
def test_the_7b_recipes_train_judge_merge_and_register_on_a_small_base(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    common = [
        "hardware=cpu", "model.ref=registry:quickstart-general@champion",
        "method.per_device_train_batch_size=16", "method.gradient_accumulation_steps=1", "method.max_length=256",
        "method.logging_steps=20",
    ]  # fmt: skip
    sft = workspace.run("+recipe=sft_qwen7b", "method.learning_rate=5e-3", "method.max_steps=30", *common)
    assert sft.returncode == 0, sft.stdout + sft.stderr
    merged = workspace.manifest("sft_qwen7b", "merge")["files"]
    assert "model.safetensors" in merged
    assert "adapter_model.safetensors" not in merged
    assert workspace.manifest("sft_qwen7b", "register")["info"]["reference"] == "registry:sft-qwen7b/1"
    words = ["method.learning_rate=1e-3", "method.max_steps=60", "judging.gates=value"]
    dpo = workspace.run("+recipe=dpo_qwen7b", *words, *common)
    assert dpo.returncode == 0, dpo.stdout + dpo.stderr
    metrics = workspace.manifest("dpo_qwen7b", "evaluate")["metrics"]
    assert metrics["preference_accuracy"] >= 0.75
    assert metrics["preference_accuracy"] > metrics["base.preference_accuracy"]


def test_an_expert_on_own_data_is_one_command(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    workspace.write("my.jsonl", rows(400))
    result = workspace.run("+recipe=my_expert", "dataset.path=my.jsonl", "method.max_steps=40")
    assert result.returncode == 0, result.stdout + result.stderr
    metrics = workspace.manifest("my_expert", "evaluate")["metrics"]
    assert metrics["loss"] < metrics["base.loss"]


ORDER = {"model": "support", "messages": [{"role": "user", "content": "Where is my order?"}], "max_tokens": 16}


async def _spoken(url: str, body: dict[str, Any]) -> str:
    """Ask over a WebSocket, and return the text of the answer."""
    said = ""
    async with connect(url.replace("http", "ws", 1) + "/v1/chat/completions", proxy=None) as socket:
        await socket.send(json.dumps(body))
        while "type" not in (message := json.loads(await socket.recv())):
            said += message["choices"][0]["delta"].get("content") or ""
    assert (message["type"], message["headers"]["x-largeforge-expert"]) == ("done", "support")
    return said


def _batched(url: str, bodies: list[dict[str, Any]]) -> int:
    """Have a batch answered, and return how many lines of it were."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    head = {"method": "POST", "url": "/v1/chat/completions"}
    lines = [json.dumps({"custom_id": f"{number}", **head, "body": body}) for number, body in enumerate(bodies)]
    given = client.files.create(file=("lines.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=given.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 60
    while batch.status not in ("completed", "failed"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id, batch
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    return sum(bool(answer["response"]["body"]["choices"][0]["message"]["content"]) for answer in answers)


def _readme_snippet(url: str) -> str:
    """Run the Python code that the README shows, against this gateway; return what it prints."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", readme, re.S)[0].replace("http://127.0.0.1:8080", url)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _url(workspace: Workspace, process: subprocess.Popen[str]) -> str:
    """Wait until the gateway's address is printed."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, workspace.output
        for word in workspace.output.split():
            if word.startswith("http://127.0.0.1:") and "Serving at" in workspace.output:
                return word.rstrip("/.,").removesuffix("/v1").removesuffix("/docs")
        time.sleep(0.5)
    raise AssertionError(f"not serving in time:\n{workspace.output}")


ODD = "Hi, were iz mi parcl?"
"""Hardly a feature of it was seen by the classifier, and yet it is like an example."""


def post(url: str, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> tuple[dict[str, Any], Any]:
    given = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), given)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer), answer.headers


def explained(url: str, text: str, **fields: Any) -> dict[str, Any]:
    return post(url, "/v1/route", messages=[{"role": "user", "content": text}], **fields)[0]


def test_routing_that_misses_its_gate_is_not_served(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    result = workspace.run("+recipe=route_quickstart", "router=keyword", timeout_s=120)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "routing.accuracy is 0.91" in result.stderr
    assert "nothing is served" in result.stderr
    assert not processes("vllm.entrypoints", str(workspace.path))


@pytest.mark.thorough
def test_a_chain_of_rules_classifier_and_embeddings_is_trained_judged_and_served(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    process = workspace.start(
        "+recipe=chain_quickstart", "gateway.port=0", "topology.flags.small_talk_only={users: {u1: true}}"
    )
    try:
        url = _url(workspace, process)
        judged = workspace.manifest("chain_quickstart", "route")
        assert judged["metrics"]["routing.accuracy"] >= 0.95
        assert [gate["passed"] for gate in judged["info"]["gates"]] == [True, True, True]

        told = explained(url, "Hi, where is my parcel?")
        assert (told["expert"], told["reason"].partition(":")[0]) == ("support", "classifier")
        assert [one["router"] for one in told["routers"]] == ["rules", "learnt", "meaning"]
        assert set(told["routers"][2]["scores"]) == {"general", "mapper", "support"}
        assert explained(url, "Hi, where is my parcel?", user="u1")["reason"] == "rules:switched-off"
        odd = explained(url, ODD)
        assert odd["reason"].startswith("embedding:")
        assert odd["routers"][1]["decides"] is False
        assert explained(url, ODD, model="support")["reason"] == "model"

        answer, headers = post(
            url, "/v1/chat/completions", headers={"x-source": "scanner"}, max_tokens=32, temperature=0,
            messages=[{"role": "user", "content": "detector=veilscan type=EMAIL_ADDRESS score=0.93"}],
        )  # fmt: skip
        assert (headers["x-largeforge-expert"], headers["x-largeforge-route"]) == ("mapper", "rules:scanner")
        assert answer["choices"][0]["message"]["content"].startswith("{")
        with urllib.request.urlopen(f"{url}/metrics", timeout=60) as scraped:
            text = scraped.read().decode()
        assert 'largeforge_gateway_router_outcomes_total{outcome="asked",router="embedding"}' in text
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert not processes("vllm.entrypoints", str(workspace.path))


@pytest.fixture(autouse=True)
def _quickstart_is_there(quickstart: Quickstart) -> None:
    assert quickstart[1].returncode == 0, quickstart[1].stdout + quickstart[1].stderr
