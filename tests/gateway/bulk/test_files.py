"""Uploads: what the official client sees, and what a hostile one does."""

from __future__ import annotations

import asyncio
import io
import os

import openai
import pytest

BOUNDARY = "b0undary"


@pytest.fixture
async def world(make_world, tmp_path):
    return await make_world(batches={"folder": str(tmp_path / "bulk"), "max_file_mib": 0.5})


def form(*parts: bytes, end: bytes = b"--b0undary--\r\n") -> bytes:
    return b"".join(b"--b0undary\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'content-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value


PURPOSE = part("purpose", b"batch")
FILE = part("file", b"{}\n", "a.jsonl")


async def upload(world, body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}"):
    return await world.client.post("/v1/files", content=body, headers={"content-type": content_type})


def stored(tmp_path) -> list[str]:
    return sorted(path.name for name in ("files", "uploads") for path in (tmp_path / "bulk" / name).iterdir())


async def test_official_client_uploads_lists_reads_and_deletes(world, tmp_path):
    async with openai.AsyncOpenAI(base_url=world.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        content = os.urandom(300_000)
        made = await client.files.create(
            file=("naïve\n.jsonl", io.BytesIO(content)),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (made.bytes, made.purpose, made.status) == (300_000, "batch", "processed")
        assert made.expires_at == made.created_at + 3600
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).read() == content
        others = [await client.files.create(file=b"{}", purpose="batch") for _ in range(3)]
        ids = [made.id, *(other.id for other in others)]
        assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in client.files.list(limit=3, order="asc")] == ids
        assert [file.id async for file in client.files.list(purpose="batch_output")] == []
        assert (await client.files.delete(made.id)).deleted is True
        with pytest.raises(openai.NotFoundError, match="no such file"):
            await client.files.content(made.id)
    assert stored(tmp_path) == sorted(ids[1:])


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        (b"", 400, None, "breaks off"),
        (form(PURPOSE, FILE, end=b""), 400, None, "breaks off"),
        (form(PURPOSE, FILE)[:-30], 400, None, "breaks off"),
        (b"{}" * 50, 400, None, "not valid multipart"),
        (form(PURPOSE), 400, "file", "'file' is missing"),
        (form(PURPOSE, part("file", b"{}")), 400, "file", "'file' is missing"),
        (form(FILE), 400, "purpose", "'purpose' is missing"),
        (form(part("purpose", b"assistants"), FILE), 400, "purpose", "must be 'batch'"),
        (form(PURPOSE, FILE, FILE), 400, "file", "exactly one file"),
        (form(PURPOSE, part("other", b"{}", "a.jsonl")), 400, "file", "exactly one file"),
        (form(PURPOSE, FILE, part("x", b"x" * 5000)), 400, "x", "longer than 4096"),
        (form(part("purpose", b"\xff"), FILE), 400, "purpose", "not valid UTF-8"),
        (form(*[PURPOSE] * 20, FILE), 400, None, "more than 16 parts"),
        (form(b"x: y\r\n" * 20 + PURPOSE, FILE), 400, None, "not valid multipart"),
        (form(b"x: " + b"y" * 20_000 + b"\r\n" + PURPOSE, FILE), 400, None, "not valid multipart"),
        (form(PURPOSE, FILE, part("expires_after[seconds]", b"5")), 400, "expires_after[seconds]", "from 3600"),
        (form(PURPOSE, FILE, part("expires_after[anchor]", b"x")), 400, "expires_after[anchor]", "created_at"),
        (form(PURPOSE, part("file", b"x" * 2**19, "a")), 200, None, ""),
        (form(PURPOSE, part("file", b"x" * (2**19 + 1), "a")), 413, "file", "larger than 0.5 MiB"),
    ],
)
async def test_bad_forms_leave_nothing_behind(world, tmp_path, body, status, param, message):
    answer = await upload(world, body)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["param"] == param
        assert message in answer.json()["error"]["message"]
        assert stored(tmp_path) == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("", 415),
        ("multipart/mixed; boundary=x", 415),
        ("multipart/form-data", 400),
        (f"multipart/form-data; boundary={'x' * 200}", 400),
    ],
)
async def test_wrong_content_types(world, content_type, status):
    assert (await upload(world, form(PURPOSE, FILE), content_type)).status_code == status


async def test_upload_without_a_length_is_stopped_at_the_limit(world, tmp_path):
    async def large():
        yield form(PURPOSE, part("file", b"", "a"), end=b"")[:-2]
        for _ in range(64):
            yield b"x" * 2**16

    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = await world.client.post("/v1/files", content=large(), headers=headers)
    assert answer.status_code == 413
    assert stored(tmp_path) == []


async def test_client_that_goes_away_leaves_nothing_behind(world, tmp_path):
    host, port = world.gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    kind = f"content-type: multipart/form-data; boundary={BOUNDARY}"
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n{kind}\r\n\r\n"
    writer.write(head.encode() + form(PURPOSE, part("file", b"x" * 1000, "a"), end=b""))
    await writer.drain()
    while not stored(tmp_path):
        await world.client.get("/health")
    writer.close()
    while stored(tmp_path):
        await world.client.get("/health")
    assert (await world.chat()).status_code == 200


@pytest.mark.parametrize(
    "file_id",
    [
        "nothing", "file-" + "0" * 24, "..%2F..%2Fbulk.sqlite", "%2e%2e", "..%5Cbulk.sqlite", "file-%00", "%ff",
        "../bulk.sqlite", "file-" + "0" * 5000,
    ],
)  # fmt: skip
async def test_ids_lead_nowhere_else(world, file_id):
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        answer = await world.client.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (await world.client.delete(f"/v1/files/{file_id}")).status_code == 404


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=10001", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("limit=%C2%B2", 400, "limit"),
        ("order=up", 400, "order"),
        ("after=file-0", 404, "after"),
    ],
)
async def test_bad_parameters(world, query, status, param):
    answer = await world.client.get(f"/v1/files?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_full_disk_is_said(world, tmp_path, monkeypatch):
    monkeypatch.setattr("largeforge.gateway.bulk.uploads.SPARE_BYTES", 2**60)
    answer = await upload(world, form(PURPOSE, FILE))
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
    assert stored(tmp_path) == []


async def test_gateway_without_a_folder_says_so(make_world):
    world = await make_world()
    for method, path in (("GET", "/v1/files"), ("POST", "/v1/files"), ("POST", "/v1/batches/x/cancel")):
        answer = await world.client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batches_off")
        assert "gateway.batches.folder" in answer.json()["error"]["message"]
