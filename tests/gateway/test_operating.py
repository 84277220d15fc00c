"""What operators do to a gateway: modes, isolation, draining, another topology, and who may do it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading

import httpx
import pytest
from prometheus_client import CollectorRegistry

from largeforge import operators
from largeforge.errors import RecipeError, ServingError
from largeforge.gateway.admin import access
from largeforge.gateway.admin.service import Admin
from largeforge.gateway.admin.state import merged
from largeforge.gateway.app import create_app
from largeforge.gateway.config import GatewayFile
from largeforge.gateway.errors import ApiError
from tests.gateway.conftest import OPERATES, TOKEN, FakeVllm, event, gateway_file, serve

TENANT = "x-largeforge-tenant"


async def set_state(world, **patch):
    answer = await world.client.patch("/admin/state", json=patch)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_state_is_seen_in_three_places(make_world):
    world = await make_world()
    before = (await world.client.get("/admin/state")).json()
    assert (before["mode"], before["in_force"], before["experts"]) == ("normal", "normal", {})
    said = await set_state(world, mode="high_load", reason="launch day", tenants={"acme": "runs a loop"})
    assert (said["mode"], said["in_force"], said["reason"]) == ("high_load", "emergency", "launch day")
    assert said["since"] > before["since"]
    assert (await world.client.get("/ready")).json()["mode"] == "emergency"
    scraped = (await world.client.get("/metrics")).text
    assert 'largeforge_gateway_mode{mode="emergency"} 1.0' in scraped
    assert 'largeforge_gateway_mode{mode="normal"} 0.0' in scraped
    assert 'largeforge_gateway_isolated{kind="tenant",name="acme"} 1.0' in scraped
    after = await set_state(world, tenants={"acme": None}, reason=None)
    assert (after["in_force"], after["tenants"], after["reason"]) == ("high_load", {}, "")


async def test_maintenance_refuses_new_requests_and_finishes_old_ones(make_world):
    world = await make_world()
    general = world.experts["general"]
    general.finish = asyncio.Event()
    running = asyncio.create_task(world.chat())
    await asyncio.to_thread(general.arrived.wait)
    said = await set_state(world, mode="maintenance", reason="new disks", retry_after_s=90)
    assert said["in_flight"] == 1
    refused = await world.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "90")
    assert refused.json()["error"]["code"] == "maintenance"
    assert "new disks" in refused.json()["error"]["message"]
    ready = await world.client.get("/ready")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["maintenance: new disks"])
    general.finish.set()
    assert (await running).status_code == 200
    while (await world.client.get("/admin/state")).json()["in_flight"]:
        pass
    await set_state(world, mode="normal")
    assert (await world.chat()).status_code == 200
    assert len(general.requests) == 2


async def test_a_slow_disk_makes_operators_wait_and_no_client(tmp_path, monkeypatch):
    fake = await serve(FakeVllm("I am general").app)
    file, path = gateway_file({"general": fake.url}), tmp_path / "gateway.json"
    path.write_text(file.model_dump_json())
    admin = Admin(token=TOKEN, config=path, state=tmp_path / "state.json")
    gateway = await serve(create_app(file, registry=CollectorRegistry(), admin=admin))
    is_writing, is_written, to_disk = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor):
        is_writing.set()
        is_written.wait(30)
        to_disk(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60, headers=OPERATES) as client:
        for change in (
            client.patch("/admin/state", json={"mode": "high_load"}),
            client.patch("/admin/config", json={"gateway": {"queue": {"wait_s": 7}}}),
        ):
            is_writing.clear()
            is_written.clear()
            changing = asyncio.create_task(change)
            assert await asyncio.to_thread(is_writing.wait, 20)
            answers = [await client.post("/v1/chat/completions", json=body) for _ in range(20)]
            assert {answer.status_code for answer in answers} == {200}
            assert not is_written.is_set() and not changing.done()
            is_written.set()
            answer = await changing
            assert answer.status_code == 200, answer.text
        assert (await client.get("/admin/state")).json()["mode"] == "high_load"
    await asyncio.gather(gateway.stop(), fake.stop())
    assert json.loads((tmp_path / "state.json").read_text())["state"]["mode"] == "high_load"
    assert json.loads(path.read_text())["gateway"]["queue"]["wait_s"] == 7


async def test_degraded_asks_no_router(make_world):
    world = await make_world()
    assert (await world.chat("my order")).headers["x-largeforge-expert"] == "support"
    await set_state(world, mode="degraded")
    answer = await world.chat("my order")
    assert answer.headers["x-largeforge-expert"] == "general"
    assert answer.headers["x-largeforge-fallback"] == "degraded"
    assert (await world.chat("my order", model="support")).headers["x-largeforge-expert"] == "support"
    asked = {"messages": [{"role": "user", "content": "my order"}]}
    assert (await world.client.post("/v1/route", json=asked)).json()["reason"] == "degraded"


async def test_high_load_leaves_out_what_nobody_waits_for(tmp_path, make_world):
    world = await make_world(batches={"folder": str(tmp_path / "bulk")})
    await set_state(world, mode="high_load")
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions"}
    line["body"] = {"model": "general", "messages": [{"role": "user", "content": "hi"}]}
    upload = {"file": ("in.jsonl", json.dumps(line) + "\n"), "purpose": (None, "batch")}
    file = (await world.client.post("/v1/files", files=upload)).json()
    order = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = (await world.client.post("/v1/batches", json=order)).json()
    while (found := (await world.client.get(f"/v1/batches/{batch['id']}")).json())["status"] == "validating":
        pass
    assert (await world.chat()).status_code == 200
    assert (found["status"], len(world.experts["general"].requests)) == ("in_progress", 1)
    await set_state(world, mode="normal")
    while (await world.client.get(f"/v1/batches/{batch['id']}")).json()["status"] != "completed":
        pass
    assert len(world.experts["general"].requests) == 2


async def test_an_isolated_expert_is_broken_off_and_replaced_at_once(make_world):
    world = await make_world()
    support = world.experts["support"]
    support.script = asyncio.Queue()
    support.script.put_nowait(event("never"))
    body = {"model": "support", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with world.client.stream("POST", "/v1/chat/completions", json=body) as stream:
        parts = stream.aiter_text()
        assert "never" in await anext(parts)
        said = await set_state(world, experts={"support": "answers nonsense"})
        assert said["in_force"] == "emergency"
        rest = "".join([part async for part in parts])
    assert json.loads(rest.strip().removeprefix("data: "))["error"]["code"] == "expert_isolated"
    await asyncio.wait_for(support.cancelled.wait(), 10)
    asked = len(support.requests)
    answer = await world.chat("my order", model="support")
    assert (answer.status_code, answer.headers["x-largeforge-expert"]) == (200, "general")
    assert answer.headers["x-largeforge-fallback"] == "expert-down"
    assert (await world.client.get("/ready")).json()["experts"]["support"]["reason"] == "answers nonsense"
    assert len(support.requests) == asked
    support.script = None
    await set_state(world, experts={"support": None})
    assert (await world.chat(model="support")).headers["x-largeforge-expert"] == "support"


async def test_an_isolated_tenant_is_refused_and_the_others_see_nothing(make_world):
    world = await make_world()
    general = world.experts["general"]
    general.finish = asyncio.Event()
    body = {"messages": [{"role": "user", "content": "hi"}]}
    send = [
        asyncio.create_task(world.client.post("/v1/chat/completions", json=body, headers={TENANT: tenant}))
        for tenant in ("acme", "other")
    ]
    while len(general.requests) < 2:
        await world.client.get("/health")
    await set_state(world, tenants={"acme": ""})
    broken = await send[0]
    assert (broken.status_code, broken.json()["error"]["code"]) == (403, "tenant_isolated")
    general.finish.set()
    assert (await send[1]).status_code == 200
    refused = await world.client.post("/v1/chat/completions", json=body, headers={TENANT: "acme"})
    assert (refused.status_code, len(general.requests)) == (403, 2)


async def test_a_drained_server_finishes_and_gets_nothing_new(tmp_path):
    fakes = [FakeVllm("one"), FakeVllm("two")]
    servers = [await serve(fake.app) for fake in fakes]
    file = gateway_file({"general": [server.url for server in servers]})
    gateway = await serve(create_app(file, registry=CollectorRegistry(), admin=Admin(token=TOKEN)))
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, headers=OPERATES) as client:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        fakes[0].finish = asyncio.Event()
        running = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.to_thread(fakes[0].arrived.wait)
        answer = await client.patch("/admin/state", json={"drained": {servers[0].url: "update"}})
        assert answer.json()["drained"] == {servers[0].url: "update"}
        for _ in range(4):
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        assert [len(fake.requests) for fake in fakes] == [1, 4]
        fakes[0].finish.set()
        assert (await running).json()["choices"][0]["message"]["content"] == "one"
        typo = await client.patch("/admin/state", json={"drained": {servers[0].url + "0": ""}})
        assert typo.status_code == 400
        assert servers[0].url in typo.json()["error"]["message"]
        await client.patch("/admin/state", json={"drained": {servers[0].url: None}})
        await client.post("/v1/chat/completions", json=body)
        await client.post("/v1/chat/completions", json=body)
        assert len(fakes[0].requests) == 2
    await asyncio.gather(gateway.stop(), *(server.stop() for server in servers))


async def test_a_gateway_is_ready_while_its_only_server_is_drained_since_requests_wait_for_it(tmp_path):
    fake = FakeVllm("one")
    server = await serve(fake.app)
    gateway = await serve(
        create_app(gateway_file({"general": [server.url]}), registry=CollectorRegistry(), admin=Admin(token=TOKEN))
    )
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, headers=OPERATES) as client:
        await client.patch("/admin/state", json={"drained": {server.url: "autoscaler"}})
        assert (await client.get("/ready")).status_code == 200
        body = {"messages": [{"role": "user", "content": "hi"}]}
        waiting = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        while 'requests_waiting{expert="general"} 1.0' not in (await client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert 'replica_drained{expert="general"' in (await client.get("/metrics")).text and not fake.requests
        await client.patch("/admin/state", json={"drained": {server.url: None}})
        assert (await waiting).status_code == 200
    await asyncio.gather(gateway.stop(), server.stop())


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"mode": "holiday"}, "'mode'"),
        ({"experts": {"suport": ""}}, "Did you mean 'support'?"),
        ({"mod": "normal"}, "there is: mode, reason"),
        ({"tenants": {"": "x"}}, "'tenants"),
        ({"retry_after_s": 0}, "'retry_after_s'"),
        (["maintenance"], "must be a JSON object"),
    ],
)
async def test_a_wrong_state_is_refused_and_nothing_changes(make_world, patch, said):
    world = await make_world()
    before = (await world.client.get("/admin/state")).json()
    answer = await world.client.patch("/admin/state", json=patch)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert (await world.client.get("/admin/state")).json() == before


async def test_a_new_topology_takes_over_under_load_and_a_wrong_one_does_not(make_world):
    world = await make_world()
    statuses: list[int] = []
    stop = False

    async def ask() -> None:
        while not stop:
            statuses.append((await world.chat("my order")).status_code)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for turn in range(10):
        words = ["order"] if turn % 2 else ["parcel"]
        patch = {"topology": {"experts": {"support": {"keywords": words}}}}
        changed = await world.client.patch("/admin/config", json=patch)
        assert changed.status_code == 200, changed.text
        expected = "support" if turn % 2 else "general"
        assert (await world.chat("my order")).headers["x-largeforge-expert"] == expected
    wrong = await world.client.patch("/admin/config", json={"topology": {"fallback": "nobody"}})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_config")
    assert "'nobody' is none of" in wrong.json()["error"]["message"]
    moved = await world.client.patch("/admin/config", json={"gateway": {"port": 1}})
    assert "only taken up by a new process" in moved.json()["error"]["message"]
    served = await world.client.get("/admin/config")
    late = {"if-match": served.headers["etag"]}
    assert (await world.client.put("/admin/config", json=served.json(), headers=late)).status_code == 200
    await world.client.patch("/admin/config", json={"topology": {"experts": {"mapper": {"keywords": ["map"]}}}})
    assert (await world.client.put("/admin/config", json=served.json(), headers=late)).status_code == 412
    stop = True
    await asyncio.gather(*asking)
    assert set(statuses) == {200}
    assert len(statuses) > 20


async def test_flags_are_switched_without_a_restart(serve_app):
    fake = FakeVllm("hello")
    server = await serve_app(fake.app)
    values = gateway_file({"general": server.url, "support": server.url}).model_dump(mode="json")
    values["router"] = {"name": "rules", "rules": [{"name": "new", "when": {"flag": "new"}, "expert": "support"}]}
    values["topology"]["flags"] = {"new": False}
    gateway = await serve_app(create_app(GatewayFile.model_validate(values), admin=Admin(token=TOKEN)))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, headers=OPERATES) as client:
        assert (await client.post("/v1/chat/completions", json=body)).headers["x-largeforge-expert"] == "general"
        answer = await client.patch("/admin/config", json={"topology": {"flags": {"new": True}}})
        assert answer.status_code == 200, answer.text
        assert (await client.post("/v1/chat/completions", json=body)).headers["x-largeforge-expert"] == "support"
    await asyncio.gather(gateway.stop(), server.stop())


async def test_what_is_set_and_served_outlives_the_process(tmp_path, make_world, serve_app):
    world = await make_world()
    path = tmp_path / "gateway.json"
    path.write_text(world.file.model_dump_json())
    kept = Admin(token=TOKEN, config=path, state=tmp_path / "gateway.state.json")
    for turn in range(2):
        running = await serve_app(create_app(gateway_file_of(path), admin=kept))
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, headers=OPERATES) as client:
            if turn == 0:
                await client.patch("/admin/state", json={"experts": {"support": "bad"}})
                await client.patch("/admin/config", json={"topology": {"experts": {"mapper": {"keywords": ["map"]}}}})
            body = {"messages": [{"role": "user", "content": "map it"}], "model": "auto"}
            assert (await client.post("/v1/chat/completions", json=body)).headers["x-largeforge-expert"] == "mapper"
            assert (await client.get("/admin/state")).json()["experts"] == {"support": "bad"}
        await running.stop()
    kept.state.write_text('{"state": {"mode": "hol')
    with pytest.raises(RecipeError, match=r"gateway.state.json: state: is damaged"):
        create_app(gateway_file_of(path), admin=kept)


async def test_two_processes_that_share_the_state_obey_each_other(tmp_path, make_world, serve_app):
    world = await make_world()
    path = tmp_path / "gateway.json"
    path.write_text(world.file.model_dump_json())
    both = Admin(token=TOKEN, config=path, state=tmp_path / "state.json", shared=tmp_path / "in_force.json")
    first, second = [await serve_app(create_app(gateway_file_of(path), admin=both)) for _ in range(2)]
    async with httpx.AsyncClient(trust_env=False, headers=OPERATES) as client:
        await client.patch(first.url + "/admin/state", json={"mode": "maintenance"})
        while (await client.get(second.url + "/ready")).json()["mode"] != "maintenance":
            pass
        patch = {"topology": {"flags": {"new": True}}}
        digest = (await client.patch(second.url + "/admin/config", json=patch)).headers["etag"].strip('"')
        while (await client.get(first.url + "/admin/state")).json()["config"] != digest:
            pass
        assert (await client.get(first.url + "/admin/config")).json()["topology"]["flags"]["new"]["share"] == 1.0
    await asyncio.gather(first.stop(), second.stop())


def gateway_file_of(path):
    from largeforge.gateway import config

    return config.read(path)


@pytest.mark.parametrize(
    ("token", "given"),
    [
        (TOKEN, ""), (TOKEN, TOKEN), (TOKEN, f"Bearer {TOKEN}x"), (TOKEN, f"bearer {TOKEN}"), (TOKEN, "Bearer "),
        ("", "Bearer "), ("", ""),
    ],
)  # fmt: skip
def test_without_the_token_nobody_operates(token, given):
    headers = [(b"authorization", given.encode())] if given else []
    with pytest.raises(ApiError) as refused:
        access.Access(token).check({"headers": headers})
    assert (refused.value.status, refused.value.code) == (401, "no_token")
    assert TOKEN not in refused.value.message


def test_a_token_that_keeps_nobody_out_is_refused():
    given = access.token_of(8080, {"LARGEFORGE_ADMIN_TOKEN": "secret"})
    with pytest.raises(ServingError, match="at least 16 characters"):
        given.__enter__()


def test_a_token_is_kept_for_its_user_while_the_gateway_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with access.token_of(8080, {}) as token:
        (kept,) = tmp_path.rglob("*.token")
        assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (token, 0o600)
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        assert (operators.kept(8080), operators.kept(8081)) == (token, "")
        with access.token_of(8080, {}) as later:  # the one before was killed
            assert later != token
        assert operators.kept(8080) == ""
    with access.token_of(8080, {"LARGEFORGE_ADMIN_TOKEN": TOKEN}) as given:
        assert (given, list(tmp_path.rglob("*.token"))) == (TOKEN, [])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    with access.token_of(8080, {}) as none:
        assert none == ""


async def test_who_may_not_operate_changes_nothing(make_world):
    world = await make_world()
    forged = {"authorization": "Bearer guess"}
    for method, path in (
        ("PATCH", "state"),
        ("GET", "state"),
        ("PUT", "config"),
        ("GET", "config"),
        ("POST", "reload"),
    ):
        answer = await world.client.request(method, f"/admin/{path}", json={"mode": "maintenance"}, headers=forged)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_token")
    plain = await world.client.patch("/admin/state", content=b'{"mode": "maintenance"}')
    assert plain.status_code == 415
    assert (await world.chat()).status_code == 200


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # from RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_the_rfc(target, patch, result):
    assert merged(target, patch) == result
