"""Routing as a user runs it: a real embedding model behind vLLM, a classifier that is trained, gates, a chain."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.e2e.test_quickstart import _url as url_of
from tests.e2e.workspace import Workspace, processes

Quickstart = tuple[Workspace, subprocess.CompletedProcess[str]]
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


def test_a_chain_of_rules_classifier_and_embeddings_is_trained_judged_and_served(quickstart: Quickstart) -> None:
    workspace, _ = quickstart
    process = workspace.start(
        "+recipe=chain_quickstart", "gateway.port=0", "topology.flags.small_talk_only={users: {u1: true}}"
    )
    try:
        url = url_of(workspace, process)
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
