"""The OpenAPI document of the gateway, generated from the models in `wire.py` and beside it.

`/openapi.json` is OpenAPI 3.1. The Swagger UI of swagger_ui_bundle 1.1 (4.15.5) reads 3.0 only,
so `/docs` shows the same document taken down to 3.0 by `as_3_0`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from largeforge import __version__
from largeforge.gateway import openapi_paths, wire, wire_admin, wire_bulk, wire_feedback, wire_pooling

if TYPE_CHECKING:
    from pydantic import BaseModel

_MODELS: list[type[BaseModel]] = [
    wire.ChatRequest,
    wire.CompletionRequest,
    wire.RouteQuestion,
    wire_feedback.FeedbackRequest,
    wire_pooling.EmbeddingRequest,
    wire_pooling.RerankRequest,
    wire_pooling.ScoreRequest,
    wire_bulk.FileUpload,
    wire_bulk.BatchRequest,
    wire.ChatCompletion,
    wire.ChatCompletionChunk,
    wire.Completion,
    wire_pooling.EmbeddingList,
    wire_pooling.Ranking,
    wire_pooling.ScoreList,
    wire_bulk.File,
    wire_bulk.FileList,
    wire_bulk.FileDeleted,
    wire_bulk.Batch,
    wire_bulk.BatchList,
    wire.Error,
    wire.ModelList,
    wire.RouteExplained,
    wire_admin.GatewayArms,
    wire_feedback.Feedback,
    wire_admin.GatewayState,
    wire_admin.GatewayStatePatch,
    wire_admin.GatewayConfig,
    wire_admin.Monitor,
    wire.Alive,
    wire.Readiness,
]
_DESCRIPTION = """One OpenAI-compatible address in front of all experts.

Chats and completions are answered over a WebSocket as well, on the same paths: each message is the body of a request,
each chunk of the answer a message, then `{"type": "done"}`; `{"type": "cancel"}` stops it.
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    pairs: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in _MODELS]
    _, definitions = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    headers = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in openapi_paths.HEADERS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LargeForge gateway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": openapi_paths.paths(),
        "components": {
            "schemas": definitions["$defs"],
            "headers": headers,
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer"}},
        },
    }


def as_3_0(value: Any) -> Any:
    """Return an OpenAPI 3.1 document, or a part of one, in the words of OpenAPI 3.0."""
    if isinstance(value, list):
        return [as_3_0(item) for item in value]
    if not isinstance(value, dict):
        return value
    lowered = {key: as_3_0(item) for key, item in value.items()}
    if "openapi" in lowered:
        lowered["openapi"] = "3.0.3"
    if "const" in lowered:
        lowered["enum"] = [lowered.pop("const")]
    if isinstance(lowered.get("examples"), list):
        lowered["example"] = lowered.pop("examples")[0]
    if isinstance(lowered.get("exclusiveMinimum"), int | float):
        lowered.update(minimum=lowered["exclusiveMinimum"], exclusiveMinimum=True)
    if {"type": "null"} in lowered.get("anyOf", ()):
        lowered["anyOf"].remove({"type": "null"})
        lowered["nullable"] = True
    return lowered
