"""A gateway that is killed, at any moment and again and again: no line is lost, none is in the output twice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from largeforge.gateway.bulk import batches, files
from largeforge.gateway.bulk.answering import Answered
from largeforge.gateway.bulk.database import Database
from largeforge.gateway.bulk.files import File
from largeforge.gateway.bulk.run import Run
from largeforge.gateway.bulk.slots import Slots

NUM_LINES = 6


class Killed(BaseException):
    """Not an Exception: nothing in the program may catch it and go on."""


class Fragile(Database):
    """A database whose process dies at its nth piece of work: before it, or when it is done but nobody knows."""

    def __init__(self, path: Path, *, dies_at: int, is_done: bool):
        super().__init__(path)
        self.left = dies_at
        self._is_done = is_done

    async def do(self, work: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Killed
        if self.left:
            return await super().do(work)
        if self._is_done:
            await super().do(work)
        raise Killed


def row(number: int) -> bytes:
    body = {"prompt": f"{number}"}
    return json.dumps({"custom_id": f"c{number}", "method": "POST", "url": "/v1/completions", "body": body}).encode()


async def answer(path: str, body: bytes, headers: Any, gone: asyncio.Event) -> Answered:
    """Fail for one line in three."""
    number = json.loads(body)["prompt"]
    return Answered(400 if int(number) % 3 == 0 else 200, {}, b'{"text": %s}' % number.encode())


async def make(folder: Path) -> None:
    for name in ("files", "uploads"):
        (folder / name).mkdir(parents=True)
    database = Database(folder / "bulk.sqlite")
    await database.open()
    file = File(files.new_id(), "batch", "in.jsonl", 1, 1)
    (folder / "files" / file.id).write_bytes(b"\n".join(row(number) for number in range(NUM_LINES)))

    def create(connection: sqlite3.Connection) -> None:
        files.add(connection, file)
        batches.create(
            connection,
            endpoint="/v1/completions",
            input_file_id=file.id,
            completion_window="24h",
            window_s=86_400,
            metadata=None,
            headers=(),
            output_seconds=None,
            now=int(time.time()),
        )

    await database.do(create)
    await database.close()


async def live(folder: Path, *, dies_at: int, is_done: bool) -> bool:
    """Work on the only batch until it has ended, or until death; return whether it has ended."""
    database = Fragile(folder / "bulk.sqlite", dies_at=dies_at, is_done=is_done)
    await database.open()
    try:
        unfinished = await Database.do(database, batches.unfinished)
        if not unfinished:
            return True
        run = Run(
            unfinished[0],
            database=database,
            folder=folder,
            answer=answer,
            slots=Slots(2, lambda: 0),
            most_at_once=2,
            max_line_bytes=1000,
            wall_clock=time.time,
        )
        await run.run()
    except (Killed, BaseExceptionGroup):
        return False
    finally:
        await database.close()
    return True


def outputs(folder: Path) -> tuple[list[str], list[str]]:
    """Return the custom_ids of both output files, by way of the database."""
    connection = sqlite3.connect(folder / "bulk.sqlite")
    (named,) = connection.execute("SELECT output_file_id, error_file_id FROM batches WHERE status = 'completed'")
    known = {file_id for (file_id,) in connection.execute("SELECT id FROM files WHERE purpose = 'batch_output'")}
    assert known == set(named)
    assert connection.execute("SELECT count(*) FROM lines").fetchone() == (0,)
    connection.close()
    rows = [[json.loads(line) for line in (folder / "files" / name).read_text().splitlines()] for name in named]
    assert all(item["response"]["body"]["text"] == int(item["custom_id"][1:]) for half in rows for item in half)
    good, bad = ([item["custom_id"] for item in half] for half in rows)
    return good, bad


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 22))
async def test_death_at_each_piece_of_work(tmp_path, dies_at, is_done):
    await make(tmp_path)
    if not await live(tmp_path, dies_at=dies_at, is_done=is_done):
        assert await live(tmp_path, dies_at=1000, is_done=False)
    assert outputs(tmp_path) == (["c1", "c2", "c4", "c5"], ["c0", "c3"])


@pytest.mark.parametrize("dies_at", [4, 5])
async def test_death_again_and_again(tmp_path, dies_at):
    await make(tmp_path)
    lives = 1
    while not await live(tmp_path, dies_at=dies_at + lives // 4, is_done=True):
        lives += 1
    assert lives > 2
    assert outputs(tmp_path) == (["c1", "c2", "c4", "c5"], ["c0", "c3"])


def begin(config: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a gateway and return it with its address."""
    argv = [sys.executable, "-m", "largeforge.gateway", "--config", str(config)]
    with (config.parent / "log").open("a") as log:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
    assert child.stdout is not None
    return child, json.loads(child.stdout.readline())["url"]


@pytest.mark.usefixtures("socket_enabled")
def test_process_killed_under_load(tmp_path, make_file, threaded_fakes):
    config = tmp_path / "gateway.json"
    urls = {name: running.url for name, running in threaded_fakes.items()}
    config.write_text(make_file(urls, batches={"folder": str(tmp_path / "bulk")}).model_dump_json())
    asked = threaded_fakes["general"].fake.requests
    child, url = begin(config)
    with httpx.Client(trust_env=False, timeout=30) as client:
        file = {"file": b"\n".join(row(number) for number in range(400))}
        made = client.post(url + "/v1/files", data={"purpose": "batch"}, files=file).json()
        order = {"input_file_id": made["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = client.post(url + "/v1/batches", json=order).json()
        for enough in (40, 150):
            while len(asked) < enough:
                client.get(url + "/health")
            child.kill()
            child.communicate()
            child, url = begin(config)
        while batch["status"] != "completed":
            batch = client.get(f"{url}/v1/batches/{batch['id']}").json()
        content = client.get(f"{url}/v1/files/{batch['output_file_id']}/content").text
    child.terminate()
    child.communicate()
    assert child.returncode == 0
    assert [json.loads(line)["custom_id"] for line in content.splitlines()] == [f"c{number}" for number in range(400)]
    assert batch["request_counts"] == {"total": 400, "completed": 400, "failed": 0}
    assert len(asked) < 400 + 2 * 16 + 1, "only what was being answered is asked again"
    assert list((tmp_path / "bulk" / "uploads").iterdir()) == []
