"""Batches: every line is answered exactly once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
import pytest

from largeforge.gateway.app import create_app


@pytest.fixture
def settings(tmp_path):
    return {"folder": str(tmp_path / "bulk"), "concurrency": 4}


@pytest.fixture
async def world(make_world, settings):
    return await make_world(batches=settings)


def line(
    custom_id: Any = "a", model: str = "general", url: str = "/v1/chat/completions", **more: Any
) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"question {custom_id}"}]}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **more}


def lines(count: int) -> list[dict[str, Any]]:
    return [line(f"line-{number}") for number in range(count)]


def jsonl(requests: list[Any]) -> bytes:
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


async def start(world, content: bytes | list[Any], url: str | None = None, **options: Any) -> dict[str, Any]:
    """Upload a file and make a batch of it."""
    content = content if isinstance(content, bytes) else jsonl(content)
    files = {"file": ("in.jsonl", content)}
    file = (await world.client.post("/v1/files", data={"purpose": "batch"}, files=files)).json()
    order = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h", **options}
    answer = await world.client.post("/v1/batches", json=order)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(world, batch: dict[str, Any], *statuses: str) -> dict[str, Any]:
    """Return a batch once it has one of some states."""
    while True:
        now = (await world.client.get(f"/v1/batches/{batch['id']}")).json()
        if now["status"] in statuses:
            return now
        assert now["status"] not in {"completed", "failed", "expired", "cancelled"}, now


async def read(world, file_id: str | None) -> list[dict[str, Any]]:
    """Return the lines of an output file, in the order of their custom_ids."""
    if file_id is None:
        return []
    content = (await world.client.get(f"/v1/files/{file_id}/content")).content
    assert content.endswith(b"\n")
    return [json.loads(row) for row in content.splitlines()]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["custom_id"] for row in rows]


async def test_flow_of_the_official_client(world):
    async with openai.AsyncOpenAI(base_url=world.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        file = await client.files.create(file=("in.jsonl", jsonl([line("a"), line("b", "support")])), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"job": "night"},
            extra_headers={"x-largeforge-tenant": "acme", "x-secret": "s"},
        )
        assert batch.status == "validating"
        while batch.status != "completed":
            batch = await client.batches.retrieve(batch.id)
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"completed": 2, "failed": 0, "total": 2}
        assert (batch.metadata, batch.errors, batch.error_file_id) == ({"job": "night"}, None, None)
        assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at < batch.expires_at
        rows = [json.loads(row) for row in (await client.files.content(batch.output_file_id)).text.splitlines()]
        assert ids(rows) == ["a", "b"]
        answers = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
        assert answers == ["I am general", "I am support"]
        assert all(row["response"]["status_code"] == 200 and row["response"]["request_id"] for row in rows)
        assert [item.id async for item in client.batches.list(limit=1)] == [batch.id]
        assert [item.purpose async for item in client.files.list()] == ["batch_output", "batch"]
    sent = world.experts["support"].headers[0]
    assert sent["x-request-id"] == rows[1]["response"]["request_id"]
    assert "x-secret" not in sent
    assert world.metric("requests_total", expert="support", status="200") == 1


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b"", [("empty_file", None, None)]),
        (b"\n \n", [("empty_file", None, None)]),
        (b'\n{"custom_id": \n[]\n"x"\n\xff\n', [
            ("invalid_json", 2, None), ("invalid_json", 3, None), ("invalid_json", 4, None), ("invalid_json", 5, None),
        ]),
        ([line("a"), line("b"), line("a")], [("duplicate_custom_id", 3, "custom_id")]),
        ([line(5), line(""), line("x" * 513), {"body": {}}], [
            ("invalid_custom_id", number, "custom_id") for number in (1, 2, 3, 4)
        ]),
        ([line("a", method="GET")], [("invalid_method", 1, "method")]),
        ([line("a", url="/v1/completions")], [("mismatched_url", 1, "url")]),
        ([line("a", body=[]), line("b", body={"messages": []}), line("c", body={"messages": [5]})], [
            ("invalid_body", 1, "body"), ("empty_array", 2, "body.messages"), ("invalid_type", 3, "body.messages[0]"),
        ]),
        ([{**line("a"), "body": {**line("a")["body"], "stream": True}}], [("invalid_value", 1, "body.stream")]),
        (b'{"custom_id": "' + b"x" * 9_000_000 + b'"}\n' + b"[" * 2000 + b"\n", [
            ("request_too_large", 1, None), ("invalid_json", 2, None),
        ]),
        (b"5\n" * 200, [("invalid_json", n, None) for n in range(1, 101)] + [("too_many_faults", 100, None)]),
    ],
)  # fmt: skip
async def test_lines_with_faults_are_told_by_their_numbers(world, content, faults):
    batch = await until(world, await start(world, content), "failed")
    assert [(item["code"], item["line"], item["param"]) for item in batch["errors"]["data"]] == faults
    assert all(item["message"] for item in batch["errors"]["data"])
    assert batch["failed_at"] is not None
    assert world.experts["general"].requests == []


async def test_too_many_lines(world, monkeypatch):
    monkeypatch.setattr("largeforge.gateway.bulk.validation.MOST_LINES", 2)
    batch = await until(world, await start(world, lines(3)), "failed")
    assert [item["code"] for item in batch["errors"]["data"]] == ["too_many_requests"]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input_file_id": None}, 400, "input_file_id"),
        ({"input_file_id": "../x"}, 404, "input_file_id"),
        ({"endpoint": "/v1/images"}, 400, "endpoint"),
        ({"endpoint": "/score"}, 400, "endpoint"),
        ({"completion_window": "soon"}, 400, "completion_window"),
        ({"completion_window": 24}, 400, "completion_window"),
        ({"metadata": {"a": 5}}, 400, "metadata"),
        ({"metadata": {str(number): "x" for number in range(17)}}, 400, "metadata"),
        ({"metadata": {"a": "x" * 513}}, 400, "metadata"),
        ({"metadata": []}, 400, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, 400, "output_expires_after.seconds"),
        ({"output_expires_after": 5}, 400, "output_expires_after"),
    ],
)
async def test_orders_that_are_refused(world, change, status, param):
    order = {"input_file_id": "file-" + "0" * 24, "endpoint": "/v1/completions", "completion_window": "1h", **change}
    answer = await world.client.post("/v1/batches", json=order)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 60_000, b"\xff", b'{"a": "' + b"x" * 70_000 + b'"}'])
async def test_bodies_that_are_no_orders(world, body):
    answer = await world.client.post("/v1/batches", content=body)
    assert answer.status_code == (413 if len(body) > 65_536 else 400)
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_output_is_no_input(world):
    batch = await until(world, await start(world, lines(1)), "completed")
    order = {"input_file_id": batch["output_file_id"], "endpoint": "/v1/completions", "completion_window": "1h"}
    answer = await world.client.post("/v1/batches", json=order)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_purpose")


async def test_failures_go_to_the_error_file(world):
    world.experts["support"].status = 422
    batch = await start(world, [line("good"), line("bad", "support"), line("fine")])
    batch = await until(world, batch, "completed")
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert ids(await read(world, batch["output_file_id"])) == ["good", "fine"]
    (failed,) = await read(world, batch["error_file_id"])
    assert failed["custom_id"] == "bad"
    assert failed["response"]["status_code"] == 422
    assert failed["response"]["body"]["error"]["message"] == "no"


async def test_embeddings_in_a_batch(make_world, settings):
    world = await make_world(("general", "vectors"), batches=settings)
    requests = [
        line("a", url="/v1/embeddings", body={"input": "four"}),
        line("b", url="/v1/embeddings", body={"input": 1}),
    ]
    batch = await start(world, requests[:1], endpoint="/v1/embeddings")
    (row,) = await read(world, (await until(world, batch, "completed"))["output_file_id"])
    assert row["response"]["body"]["data"][0]["embedding"] == [4.0, 1.0]
    batch = await until(world, await start(world, requests, endpoint="/v1/embeddings"), "failed")
    assert batch["errors"]["data"][0]["param"] == "body.input"


async def test_refused_for_now_is_tried_again(world, monkeypatch):
    monkeypatch.setattr("largeforge.gateway.bulk.answering.FIRST_DELAY_S", 0.01)
    general = world.experts["general"]
    general.status, general.error_headers = 429, {"retry-after": "0"}
    batch = await start(world, lines(2))
    while len(general.requests) < 9:
        await world.client.get("/health")
    general.status = 200
    batch = await until(world, batch, "completed")
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


async def test_failures_of_ours_are_tried_a_few_times(world, monkeypatch):
    monkeypatch.setattr("largeforge.gateway.bulk.answering.FIRST_DELAY_S", 0.01)
    world.experts["general"].status = 500
    batch = await until(world, await start(world, lines(1)), "completed")
    (failed,) = await read(world, batch["error_file_id"])
    assert failed["response"]["status_code"] == 502
    assert len(world.experts["general"].requests) >= 5


async def test_cancel_keeps_what_was_answered_and_reaches_the_experts(world):
    general, support = world.experts["general"], world.experts["support"]
    support.finish = asyncio.Event()
    batch = await start(world, [line("a"), line("b", "support"), *lines(20)])
    while not support.requests:
        await world.client.get("/health")
    while (await until(world, batch, "in_progress"))["request_counts"]["completed"] < 21:
        pass
    assert (await world.client.delete(f"/v1/files/{batch['input_file_id']}")).json()["error"]["code"] == "file_in_use"
    cancelled = await world.client.post(f"/v1/batches/{batch['id']}/cancel")
    assert cancelled.json()["status"] == "cancelling"
    await support.cancelled.wait()
    batch = await until(world, batch, "cancelled")
    assert batch["request_counts"] == {"total": 22, "completed": 21, "failed": 0}
    assert ids(await read(world, batch["output_file_id"])) == ["a", *(f"line-{number}" for number in range(20))]
    (left,) = await read(world, batch["error_file_id"])
    assert (left["custom_id"], left["response"], left["error"]["code"]) == ("b", None, "batch_cancelled")
    assert len(general.requests) == 21
    assert (await world.client.post(f"/v1/batches/{batch['id']}/cancel")).json()["status"] == "cancelled"
    assert (await world.client.delete(f"/v1/files/{batch['input_file_id']}")).status_code == 200


async def test_what_has_ended_cannot_be_cancelled(world):
    batch = await until(world, await start(world, lines(1)), "completed")
    answer = await world.client.post(f"/v1/batches/{batch['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "batch_ended")
    for path in ("/v1/batches/nothing/cancel", "/v1/batches/%2e%2e/cancel"):
        assert (await world.client.post(path)).status_code == 404


async def test_expiry_leaves_the_rest_unanswered(world):
    world.experts["general"].finish = asyncio.Event()
    batch = await start(world, [line("a", "support"), line("b")], completion_window="1s")
    batch = await until(world, batch, "expired")
    assert ids(await read(world, batch["output_file_id"])) == ["a"]
    (left,) = await read(world, batch["error_file_id"])
    assert (left["custom_id"], left["error"]["code"]) == ("b", "batch_expired")


async def test_batches_share_the_slots(world):
    slow = world.experts["support"]
    slow.finish = asyncio.Event()
    large = await start(world, [line(f"s-{number}", "support") for number in range(50)])
    while len(slow.requests) < 3:
        await world.client.get("/health")
    small = await start(world, [line("a")])
    slow.finish.set()
    assert (await until(world, small, "completed"))["request_counts"]["completed"] == 1
    await until(world, large, "completed")


async def test_batches_yield_to_those_who_wait(world):
    general, support = world.experts["general"], world.experts["support"]
    support.finish = asyncio.Event()
    asking = [asyncio.create_task(world.chat("x", model="support")) for _ in range(10)]
    while len(support.requests) < 10:
        await world.client.get("/health")
    general.finish = asyncio.Event()
    batch = await start(world, lines(8))
    await until(world, batch, "in_progress")
    while not general.requests:
        await world.client.get("/health")
    for _ in range(20):
        await world.client.get("/health")
    assert len(general.requests) == 1
    support.finish.set()
    await asyncio.gather(*asking)
    while len(general.requests) < 4:
        await world.client.get("/health")
    general.finish.set()
    await until(world, batch, "completed")


async def test_restart_goes_on_where_it_was(world, serve_app):
    general = world.experts["general"]
    general.finish = asyncio.Event()
    general.finish.set()
    batch = await start(world, lines(30))
    while len(general.requests) < 10:
        await world.client.get("/health")
    general.finish.clear()
    await world.gateway.stop()
    general.finish.set()
    world.gateway = await serve_app(create_app(world.file))
    world.client.base_url = world.gateway.url
    batch = await until(world, batch, "completed")
    rows = await read(world, batch["output_file_id"])
    assert ids(rows) == [f"line-{number}" for number in range(30)]
    assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}


async def test_another_gateway_of_the_folder_serves_it_too_and_takes_over(world, serve_app):
    other = await serve_app(create_app(world.file))
    batch = await start(world, lines(3))
    await until(world, batch, "completed")
    await world.gateway.stop()
    world.gateway, world.client.base_url = other, other.url
    await until(world, await start(world, lines(2)), "completed")
    listed = (await world.client.get("/v1/batches")).json()
    assert [item["request_counts"]["completed"] for item in listed["data"]] == [2, 3]
    assert len(world.experts["general"].requests) == 5


async def test_old_files_and_batches_are_removed(world, serve_app, settings):
    batch = await until(world, await start(world, lines(1)), "completed")
    await world.gateway.stop()
    later = time.time() + 31 * 86_400
    world.gateway = await serve_app(create_app(world.file, wall_clock=lambda: later))
    world.client.base_url = world.gateway.url
    while (await world.client.get(f"/v1/batches/{batch['id']}")).status_code != 404:
        pass
    assert (await world.client.get("/v1/files")).json()["data"] == []
