"""schemathesis finds nothing: requests made from the OpenAPI document, valid ones and others, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, Response

from largeforge.gateway import openapi
from largeforge.gateway.admin.service import Admin
from largeforge.gateway.app import create_app
from tests.gateway.conftest import TOKEN, FakeVllm

if TYPE_CHECKING:
    from starlette.requests import Request


ROOT = Path(__file__).parents[2]


class Judge(FakeVllm):
    """An expert that refuses what is not as the document says, in vLLM's words: the gateway leaves that to experts."""

    REQUESTS = {
        "chat.completion": "ChatRequest",
        "text_completion": "CompletionRequest",
        "embedding": "EmbeddingRequest",
        "rerank": "RerankRequest",
        "score": "ScoreRequest",
    }

    def __init__(self) -> None:
        super().__init__("Hello")
        components = openapi.document()["components"]
        self._judges = {
            kind: jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})
            for kind, name in self.REQUESTS.items()
        }

    async def _answer(self, request: Request, kind: str) -> Response:
        error = jsonschema.exceptions.best_match(self._judges[kind].iter_errors(json.loads(await request.body())))
        if error is not None:
            detail = {"message": error.message[:200], "type": "BadRequestError", "param": None, "code": 400}
            return JSONResponse({"error": detail}, 400)
        return await super()._answer(request, kind)


OF_CLIENTS = ("--include-path-regex", "^/(?!admin)")
OF_OPERATORS = (
    "--include-path-regex", "^/admin", "--exclude-checks", "positive_data_acceptance", "--phases", "coverage,fuzzing",
    "-H", f"Authorization: Bearer {TOKEN}",
)  # fmt: skip
"""Which experts and servers there are is not in the document, so the gateway refuses what fits it."""


@pytest.mark.parametrize(("options", "least"), [(OF_CLIENTS, 500), (OF_OPERATORS, 200)], ids=["clients", "operators"])
async def test_finds_nothing(serve_app, make_file, tmp_path, options, least):
    experts = {name: Judge() for name in ("general", "vectors")}
    servers = {name: await serve_app(expert.app) for name, expert in experts.items()}
    file = make_file({name: server.url for name, server in servers.items()}, batches={"folder": str(tmp_path / "bulk")})
    gateway = await serve_app(create_app(file, registry=CollectorRegistry(), admin=Admin(token=TOKEN)))
    argv = [
        sys.executable, "-m", "schemathesis.cli", "run", gateway.url + "/openapi.json",
        *options, "--max-examples", "40", "--seed", "1", "--continue-on-failure",
        "--suppress-health-check", "all", "--generation-database", "none",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.gateway.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    await asyncio.gather(gateway.stop(), *(server.stop() for server in servers.values()))
    assert process.returncode == 0, output
    (generated, passed) = re.search(r"(\d+) generated, (\d+) passed", output).groups()
    assert generated == passed
    assert int(passed) > least
