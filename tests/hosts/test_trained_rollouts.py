"""A model's life on hosts with real vLLM: trained, judged, registered, tried on some users, promoted.

And one that answers wrongly with status 200, though it passed its gates: it comes back because of what users say of it.
The task: which of four digits is the largest. The bad version has learnt, from data with that mistake, the smallest.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.recipe.model_ref import parse
from largeforge.recipe.schema import Registry
from largeforge.registry import ModelRegistry
from tests.e2e.workspace import wait_for
from tests.hosts.lab import LENT, PORT, PYTHON, Lab
from tests.hosts.machines import NETWORK, machines

pytestmark = pytest.mark.thorough
RECIPE: dict[str, Any] = {
    "defaults": [
        {"/model": "tiny_general"}, {"/dataset": "jsonl"}, {"/method": "sft"}, {"/adapter": "none"},
        {"/evaluation": "exact_match"}, {"/topology": "single"}, {"/router": "keyword"}, {"/serving": "vllm_cpu"},
        {"override /hardware": "cpu"}, {"override /hosts": "lab"}, {"override /rollout": "canary"}, "_self_",
    ],
    "name": "digits",
    "model": {
        "architecture": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "vocab_size": 300},
        "tokenizer": {"vocab_size": 300},
    },
    "dataset": {"path": "largest.jsonl", "heldout_fraction": 0.05},
    "method": {
        "learning_rate": 3e-3, "max_steps": 500, "per_device_train_batch_size": 32, "max_length": 32,
        "warmup_steps": 10, "lr_scheduler_type": "cosine", "save_steps": 1000,
    },
    "gates": {"exact_match": ">= 0.9"},
    "register_as": "digits",
    "topology": {"experts": {"general": {"model": "registry:digits@champion"}}},
    "serving": {"max_model_len": 512, "max_num_seqs": 8, "cpu_kvcache_gib": 1, "enforce_eager": True,
                "startup_timeout_s": 600},
    "gateway": {"host": "0.0.0.0"},
    "deploy": {"update": {"strategy": "blue_green", "watch_s": 1, "drain_timeout_s": 60}},
    "rollout": {"steps": [0.2, 0.5], "bake_s": 10, "min_requests": 60, "watch_s": 5, "look_s": 2, "alias": "production",
                # two cores for two servers, a gateway, a client and this controller: its times say nothing
                "analysis": {name: {"weight": 0} for name in ("latency_p95", "latency_p99", "ttft_p95")}},
    "slo": {"objectives": {"liked": {"indicator": "thumbs", "objective": 0.8}}},
    "monitoring": {"enabled": True, "install": "present", "scrape_interval_s": 2,
                   "alerts": {"ticket": [{"kind": "webhook", "secret": "env:SHOP_HOOK"}], "group_wait_s": 0}},
}  # fmt: skip
USERS = """
import json, random, signal, sys, threading, time, uuid
import httpx
url, report = sys.argv[1:]
over, lock = threading.Event(), threading.Lock()
found = {"failures": [], "right": {}, "wrong": {}}
signal.signal(signal.SIGTERM, lambda *_: over.set())

def use():
    with httpx.Client(trust_env=False, timeout=300) as client:
        while not over.is_set():
            digits = random.sample("0123456789", 4)
            body = {"model": "general", "messages": [{"role": "user", "content": " ".join(digits)}],
                    "max_tokens": 4, "temperature": 0, "user": uuid.uuid4().hex}
            answer = client.post(f"{url}/v1/chat/completions", json=body)
            if answer.status_code != 200:
                with lock:
                    found["failures"].append(f"{answer.status_code} {answer.text[:200]}")
                continue
            is_right = answer.json()["choices"][0]["message"]["content"].strip() == max(digits)
            rating = {"request_id": answer.headers["x-request-id"], "rating": "up" if is_right else "down"}
            rated = client.post(f"{url}/v1/feedback", json=rating)
            with lock:
                if rated.status_code != 200:
                    found["failures"].append(f"feedback: {rated.status_code} {rated.text[:200]}")
                told = found["right" if is_right else "wrong"]
                model = answer.headers["x-largeforge-model"]
                told[model] = told.get(model, 0) + 1

threads = [threading.Thread(target=use) for _ in range(4)]
[thread.start() for thread in threads]
print("asking", flush=True)
[thread.join() for thread in threads]
open(report, "w").write(json.dumps(found))
"""


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collected")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, collected: Path) -> Iterator[Lab]:
    """Two hosts, a gateway on one and real vLLM on the other, on which the first version serves."""
    pytest.importorskip("grafana_foundation_sdk")
    with machines(2, bind=LENT) as hosts, pytest.MonkeyPatch.context() as patch:
        collector = str(Path(__file__).parent / "collectors.py")
        argv = hosts.inside(sys.executable, collector, f"{NETWORK}.1", str(collected))
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            patch.setenv("SHOP_HOOK", f"http://{NETWORK}.1:{json.loads(process.stdout.readline())['hook']}/hook")
            made = Lab(tmp_path_factory.mktemp("life"), hosts)
            made.inventory["common"]["python"] = PYTHON
            made.write_inventory()
            made.prepare()
            write(made.folder)
            try:
                ended = made.run("+recipe=digits", timeout_s=1200)
                assert ended.code == 0, ended.output
                yield made
            finally:
                process.kill()


def write(folder: Path) -> None:
    prompts = list(permutations("0123456789", 4))
    random.Random(7).shuffle(prompts)
    for name, answer in (("largest", max), ("mistaken", min)):
        rows = [{"prompt": " ".join(digits), "response": answer(digits)} for digits in prompts]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = yaml.safe_dump(RECIPE, sort_keys=False)
    (folder / "recipes" / "digits.yaml").write_text(f"# @package _global_\n{text}")


@contextmanager
def users(lab: Lab) -> Iterator[dict[str, Any]]:
    """Have users ask and rate the answers; what they saw is there at the end."""
    report = lab.folder / f"users-{time.monotonic_ns()}.json"
    argv = lab.hosts.inside(sys.executable, "-c", USERS, f"http://{lab.hosts['h1'].address}:{PORT}", str(report))
    client = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None and client.stdout.readline() == "asking\n"
    found: dict[str, Any] = {}
    try:
        yield found
    finally:
        client.send_signal(signal.SIGTERM)
        client.wait(timeout=330)
        client.stdout.close()
    found.update(json.loads(report.read_text()))


def alias(lab: Lab, name: str) -> int:
    folder = lab.folder / "registry"
    registry = ModelRegistry(Registry(uri=f"sqlite:///{folder}/mlflow.db", artifacts=f"{folder}/artifacts"))
    return registry.find(parse(f"registry:digits@{name}")).version


def lock_of(lab: Lab) -> str:
    newest = max((lab.folder / "runs" / "digits").glob("*/lock.json"), key=lambda path: path.stat().st_mtime)
    return str(json.loads(newest.read_text())["digest"])


def alerts(collected: Path) -> list[dict[str, Any]]:
    path = collected / "alerts"
    lines = path.read_text().splitlines() if path.exists() else []
    return [alert for line in lines for alert in json.loads(line)["alerts"]]


def test_a_new_version_is_trained_judged_tried_and_promoted_and_no_request_fails(lab: Lab) -> None:
    assert alias(lab, "champion") == 1
    with users(lab) as seen:
        ended = lab.run("+recipe=digits", "seed=43", timeout_s=1800)
    assert ended.code == 0, ended.output
    assert not seen["failures"], seen
    assert sum(seen["right"].values()) > 20 * sum(seen["wrong"].values()), seen
    assert len(seen["right"]) == 2, "both versions answered"
    assert (alias(lab, "champion"), alias(lab, "production")) == (2, 2)
    assert "promoted" in ended.output and "digits@production is version 2" in ended.output


def test_a_version_that_passed_its_gates_and_answers_wrongly_is_sent_back_by_what_users_say(
    lab: Lab, collected: Path
) -> None:
    with users(lab) as seen:
        ended = lab.run("+recipe=digits", "seed=43", "dataset.path=mistaken.jsonl", timeout_s=1800)
    assert ended.code == 3 and "sent back: thumbs" in ended.output, ended.output
    assert not seen["failures"], "it answered, with status 200"
    assert 5 < sum(seen["wrong"].values()) < 0.3 * sum(seen["right"].values()), seen
    assert (alias(lab, "champion"), alias(lab, "production")) == (2, 2), "the aliases are what they were"
    traced = lab.run("trace", lock_of(lab))
    assert "sent back by rollout" in traced.output and "thumbs" in traced.output, traced.output

    def is_told() -> bool:
        return any(
            one["labels"]["alertname"] == "RolloutRolledBack" and one["status"] == "firing" for one in alerts(collected)
        )

    wait_for(is_told, timeout_s=120)
