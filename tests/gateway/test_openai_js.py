"""The official `openai` client for JavaScript against the gateway: nothing that it offers breaks on the way.

Needs Node 20 and npm, which fetches the client once, at the version and hash of the lock file beside `client.mjs`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent / "openai_js"
FILES = ("package.json", "package-lock.json")


@pytest.fixture(scope="module")
def package() -> Path:
    """A folder with the client; made once and kept in the user's cache."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"the JavaScript client needs {' and '.join(missing)}")
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "largeforge" / f"openai_js-{digest}"
    if not cache.is_dir():
        cache.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache.parent))
        for name in FILES:
            shutil.copy(SOURCE / name, made)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=made, capture_output=True, text=True
        )
        if done.returncode:
            shutil.rmtree(made)
            pytest.skip(f"npm cannot fetch the JavaScript client: {done.stderr[-300:]}")
        try:
            made.rename(cache)
        except OSError:  # another test process was first
            shutil.rmtree(made)
    return cache


@pytest.fixture
async def world(make_world, tmp_path):
    return await make_world(("general", "support", "vectors"), batches={"folder": str(tmp_path / "bulk")})


async def run(package: Path, folder: Path, url: str, *names: str) -> dict[str, Any]:
    """Return what some scenarios of `client.mjs` saw."""
    script = folder / "client.mjs"
    shutil.copy(SOURCE / "client.mjs", script)
    (folder / "node_modules").symlink_to(package / "node_modules")
    process = await asyncio.create_subprocess_exec(
        "node", str(script), *names, env={**os.environ, "BASE_URL": url + "/v1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_everything_comes_through(package, world, tmp_path):
    names = ("chat", "stream", "tools", "structured", "completion", "embeddings", "models", "batch", "errors")
    seen = await run(package, tmp_path, world.gateway.url, *names)
    assert seen["chat"] == {"text": "I am support", "expert": "support"}
    assert seen["stream"] == {"text": "I am support", "total": 5}
    assert seen["tools"] == {"name": "track", "arguments": '{"order": 7}'}
    assert seen["structured"] == {"city": "I am general"}
    assert seen["completion"] == {"texts": ["I am general"] * 2, "seed": "seed-7"}
    assert seen["embeddings"] == [[4, 1], [7, 1]]
    assert seen["models"] == ["auto:generate", "general:generate", "support:generate", "vectors:embed"]
    assert seen["batch"] == {"id": "a", "status": 200, "kinds": ["batch_output", "batch"], "deleted": True}
    bad, none = {"type": "BadRequestError", "status": 400}, {"type": "NotFoundError", "status": 404}
    assert seen["errors"] == {
        "missing": {**bad, "code": "missing_required_parameter", "param": "messages"},
        "kind": {**bad, "code": "wrong_kind", "param": "model"},
        "unknown": {**none, "code": "model_not_found", "param": "model"},
        "file": {**none, "code": "file_not_found", "param": "file_id"},
        "path": {**none, "code": "unknown_url", "param": None},
    }


async def test_abort_reaches_the_expert(package, world, events, tmp_path):
    script = world.experts["support"].script = asyncio.Queue()
    script.put_nowait(events.event("one"))
    assert await run(package, tmp_path, world.gateway.url, "cancel") == {"cancel": "one"}
    await world.experts["support"].cancelled.wait()
