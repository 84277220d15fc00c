"""The OpenAPI document of the gateway, generated from the models in `wire.py`.

`/openapi.json` is OpenAPI 3.1. The Swagger UI of swagger_ui_bundle 1.1 (4.15.5) reads 3.0 only,
so `/docs` shows the same document taken down to 3.0 by `as_3_0`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from largeforge import __version__
from largeforge.gateway import wire

if TYPE_CHECKING:
    from pydantic import BaseModel

_REQUESTS: list[type[BaseModel]] = [wire.ChatRequest, wire.CompletionRequest]
_ANSWERS: list[type[BaseModel]] = [
    wire.ChatCompletion,
    wire.ChatCompletionChunk,
    wire.Completion,
    wire.Error,
    wire.ModelList,
    wire.RouteExplained,
    wire.Alive,
    wire.Readiness,
]
_HEADERS = {
    "x-request-id": "Id of the request: the client's own when it sent a plain one, otherwise a new one.",
    "x-largeforge-expert": "Expert that answered.",
    "x-largeforge-model": "Reference of the model that answered.",
    "x-largeforge-lock": "Digest of what is served.",
    "x-largeforge-route": "Why this expert: `model`, `default` or `<router>:<detail>`; more facts after semicolons.",
    "x-largeforge-fallback": "Only when the fallback expert answered instead: `unknown-model` or `expert-down`.",
    "x-largeforge-requested": "With a fallback: the expert that was meant.",
}
_ERRORS = {
    "400": "The body is not a valid request; `param` says where.",
    "413": "The body is too large.",
    "502": "No expert gave a usable answer.",
    "503": "The expert and the fallback are down; `Retry-After` says when to try again.",
    "504": "No expert answered in time.",
}


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    schemas = _schemas()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LargeForge gateway",
            "version": __version__,
            "description": "One OpenAI-compatible address in front of all experts.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/chat/completions": {
                "post": _completion("chat", "Answer a chat", "ChatRequest", "ChatCompletion", "ChatCompletionChunk")
            },
            "/v1/completions": {
                "post": _completion("completion", "Continue a prompt", "CompletionRequest", "Completion", "Completion")
            },
            "/v1/route": {
                "post": {
                    "operationId": "route",
                    "summary": "Say where a request would go, without answering it",
                    "tags": ["operation"],
                    "requestBody": {"required": True, "content": {"application/json": {"schema": _ASKED}}},
                    "responses": {
                        "200": _answer("RouteExplained", "The expert, and what led to it."),
                        **{status: _answer("Error", _ERRORS[status]) for status in ("400", "413")},
                    },
                }
            },
            "/v1/models": {"get": _get("models", "List the experts", {"200": ("ModelList", "All experts.")})},
            "/health": {"get": _get("health", "Is the process alive", {"200": ("Alive", "It is.")})},
            "/ready": {"get": _get("ready", "Can requests be answered", _READINESS)},
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Metrics for Prometheus",
                    "tags": ["operation"],
                    "responses": {
                        "200": {
                            "description": "Text format.",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
        },
        "components": {
            "schemas": schemas,
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()},
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


_ASKED = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("ChatRequest", "CompletionRequest")]}
_READINESS = {"200": ("Readiness", "The fallback expert is up."), "503": ("Readiness", "It is not.")}


def _schemas() -> dict[str, Any]:
    pairs: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in _REQUESTS + _ANSWERS]
    _, definitions = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _completion(name: str, summary: str, request: str, answer: str, event: str) -> dict[str, Any]:
    stream = {"type": "string", "description": f"Events `data: {{json}}`, each a {event}, then `data: [DONE]`."}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["completions"],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(request)}}},
        "responses": {
            "200": {
                "description": "The expert's answer; server-sent events when `stream` is true.",
                "headers": _headers(*_HEADERS),
                "content": {
                    "application/json": {"schema": _reference(answer)},
                    "text/event-stream": {"schema": stream},
                },
            },
            **{status: _answer("Error", text) for status, text in _ERRORS.items()},
            "default": _answer("Error", "Another 4xx of the expert, passed on unchanged."),
        },
    }


def _get(name: str, summary: str, answers: dict[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["operation"],
        "responses": {status: _answer(schema, text) for status, (schema, text) in answers.items()},
    }


def _answer(schema: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _headers("x-request-id"),
        "content": {"application/json": {"schema": _reference(schema)}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _reference(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}
