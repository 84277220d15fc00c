"""What each path of the gateway takes and gives, for the OpenAPI document; schemas are named, not written here."""

from __future__ import annotations

from typing import Any

from largeforge.gateway.wire_bulk import BATCH_ID, FILE_ID

HEADERS = {
    "x-request-id": "Id of the request: the client's own when it sent a plain one, otherwise a new one.",
    "x-largeforge-expert": "Expert that answered.",
    "x-largeforge-model": "Reference of the model that answered.",
    "x-largeforge-lock": "Digest of what is served.",
    "x-largeforge-route": "Why this expert: `model`, `task`, `default` or `<router>:<detail>`; then more facts.",
    "x-largeforge-fallback": "Only when the fallback expert answered instead: `unknown-model` or `expert-down`.",
    "x-largeforge-requested": "With a fallback: the expert that was meant.",
}

_ERRORS = {
    "400": "Something of the request is not valid, or the expert cannot do it; `param` says what.",
    "401": "Only operators may do this.",
    "403": "The tenant is isolated.",
    "404": "There is no such thing.",
    "408": "The request did not arrive in time.",
    "409": "It cannot be done in its present state.",
    "412": "Something else is in force than `If-Match` says.",
    "413": "The body is too large.",
    "415": "The body has the wrong type.",
    "429": "Too many; `Retry-After` says when to try again.",
    "502": "No expert gave a usable answer.",
    "503": "The experts that could answer are down or busy; `Retry-After` says when to try again.",
    "504": "No expert answered in time.",
    "507": "The disk is full.",
}
_EXPECTED = "Digest that must be in force, as the `etag` of `GET` has it; left out for any."
_OF_EXPERTS = ("400", "403", "404", "413", "429", "502", "503", "504")


def paths() -> dict[str, Any]:
    """Return the paths of the document."""
    return {**_experts(), **_files(), **_batches(), **_pages(), **_admin()}


def _experts() -> dict[str, Any]:
    chat, text = "ChatCompletion", "Completion"
    return {
        "/v1/chat/completions": {
            "post": _ask("chat", "Answer a chat", "ChatRequest", chat, event="ChatCompletionChunk")
        },
        "/v1/completions": {"post": _ask("completion", "Continue a prompt", "CompletionRequest", text, event=text)},
        "/v1/embeddings": {"post": _ask("embedding", "Turn texts into vectors", "EmbeddingRequest", "EmbeddingList")},
        "/v1/rerank": {"post": _ask("rerank", "Sort documents by a query", "RerankRequest", "Ranking")},
        "/v1/score": {"post": _ask("score", "Score pairs of texts", "ScoreRequest", "ScoreList")},
        "/v1/models": {"get": _get("models", "experts", "List the experts", {"200": ("ModelList", "All experts.")})},
        "/v1/route": {
            "post": {
                **_operation("route", "experts", "Say where a request would go, without answering it"),
                "requestBody": _json_body("RouteQuestion"),
                "responses": {
                    "200": _answer("RouteExplained", "The expert, and what led to it."),
                    **_errors("400", "413"),
                },
            }
        },
        "/v1/feedback": {
            "post": {
                **_operation("feedback", "experts", "Rate an answer"),
                "requestBody": _json_body("FeedbackRequest"),
                "responses": {"200": _answer("Feedback", "It is counted."), **_errors("400", "404", "413")},
            }
        },
    }


def _files() -> dict[str, Any]:
    page, gone = {"200": ("FileList", "A page.")}, {"200": ("FileDeleted", "It is gone.")}
    file_id = [_id("file_id", FILE_ID)]
    filters = [
        _query("after", {"type": "string"}, "The last file of the page before."),
        _query("limit", _numbers(10_000), "Most files of a page; 10,000 when it is left out."),
        _query("order", {"enum": ["asc", "desc"]}, "Oldest first, or newest first as when it is left out."),
        _query("purpose", {"type": "string"}, "Only files of this purpose."),
    ]
    upload = {
        **_operation("uploadFile", "files", "Upload a file of requests"),
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _reference("FileUpload")}}},
        "responses": {
            "200": _linked(_answer("File", "The file."), file_id="$response.body#/id"),
            **_errors("400", "404", "408", "413", "415", "507"),
        },
    }
    download = {
        **_operation("downloadFile", "files", "Download a file"),
        "parameters": file_id,
        "responses": {
            "200": {"description": "The content.", "content": {"application/octet-stream": {}}},
            **_errors("404"),
        },
    }
    return {
        "/v1/files": {
            "get": {**_get("listFiles", "files", "List files", page, "400", "404"), "parameters": filters},
            "post": upload,
        },
        "/v1/files/{file_id}": {
            "get": {
                **_get("getFile", "files", "Look at a file", {"200": ("File", "The file.")}, "404"),
                "parameters": file_id,
            },
            "delete": {**_get("deleteFile", "files", "Delete a file", gone, "404", "409"), "parameters": file_id},
        },
        "/v1/files/{file_id}/content": {"get": download},
    }


def _batches() -> dict[str, Any]:
    page, batch = {"200": ("BatchList", "A page.")}, {"200": ("Batch", "The batch.")}
    batch_id = [_id("batch_id", BATCH_ID)]
    create = {
        **_operation("createBatch", "batches", "Have a file of requests answered"),
        "requestBody": _json_body("BatchRequest"),
        "responses": {
            "200": _linked(_answer("Batch", "The batch; its lines are looked at next."), batch_id="$response.body#/id"),
            **_errors("400", "404", "409", "413", "429"),
        },
    }
    filters = [
        _query("after", {"type": "string"}, "The last batch of the page before."),
        _query("limit", _numbers(100), "Most batches of a page; 20 when it is left out."),
    ]
    return {
        "/v1/batches": {
            "get": {**_get("listBatches", "batches", "List batches", page, "400", "404"), "parameters": filters},
            "post": create,
        },
        "/v1/batches/{batch_id}": {
            "get": {**_get("getBatch", "batches", "See how far a batch is", batch, "404"), "parameters": batch_id}
        },
        "/v1/batches/{batch_id}/cancel": {
            "post": {**_get("cancelBatch", "batches", "Cancel a batch", batch, "404", "409"), "parameters": batch_id}
        },
    }


def _pages() -> dict[str, Any]:
    text = {"description": "Text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    readiness = {"200": ("Readiness", "The fallback expert is up."), "503": ("Readiness", "It is not.")}
    return {
        "/health": {"get": _get("health", "operation", "Is the process alive", {"200": ("Alive", "It is.")})},
        "/ready": {"get": _get("ready", "operation", "Can requests be answered", readiness)},
        "/metrics": {
            "get": {**_operation("metrics", "operation", "Metrics for Prometheus"), "responses": {"200": text}}
        },
    }


def _admin() -> dict[str, Any]:
    state, file = {"200": ("GatewayState", "What is in force.")}, {"200": ("GatewayConfig", "What is served.")}
    denied, wrong, refused = ("401",), ("400", "413", "415"), ("400", "412", "413", "415", "507")
    patch = "a JSON merge patch (RFC 7396)"
    expected = [{"name": "If-Match", "in": "header", "schema": {"type": "string"}, "description": _EXPECTED}]
    paths: dict[str, Any] = {
        "/admin/state": {
            "get": _get("state", "operators", "Look at the mode and who is isolated", state, *denied),
            "patch": {
                **_get("setState", "operators", f"Set it, by {patch}", state, *denied, *wrong, "409"),
                "requestBody": _json_body("GatewayStatePatch"),
            },
        },
        "/admin/config": {
            "get": _get("config", "operators", "Look at what is served", file, *denied),
            "patch": {
                **_get("changeConfig", "operators", f"Change it, by {patch}", file, *denied, *refused),
                "parameters": expected,
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            },
            "put": {
                **_get("putConfig", "operators", "Serve another file", file, *denied, *refused),
                "parameters": expected,
                "requestBody": _json_body("GatewayConfig"),
            },
        },
        "/admin/reload": {
            "post": _get("reload", "operators", "Read the gateway's file again", file, *denied, "400", "409", "507")
        },
        "/admin/arms": {
            "get": _get(
                "arms",
                "operators",
                "Look at what was counted of canaries and of what they are to replace",
                {"200": ("GatewayArms", "Counts since the gateway started.")},
                *denied,
            )
        },
    }
    paths["/monitor/data"] = {
        "get": _get("monitor", "operators", "Look at what `/monitor` shows", {"200": ("Monitor", "As it is.")}, *denied)
    }
    for operations in paths.values():
        for operation in operations.values():
            operation["security"] = [{"operator": []}]
    return paths


def _ask(name: str, summary: str, request: str, answer: str, *, event: str = "") -> dict[str, Any]:
    """Return an operation that an expert answers, with events of a stream where it has such."""
    content: dict[str, Any] = {"application/json": {"schema": _reference(answer)}}
    if event:
        description = f"Events `data: {{json}}`, each a {event}, then `data: [DONE]`."
        content["text/event-stream"] = {"schema": {"description": description}}
    return {
        **_operation(name, "experts", summary),
        "requestBody": _json_body(request),
        "responses": {
            "200": {
                "description": "The expert's answer"
                + ("; server-sent events when `stream` is true." if event else "."),
                "headers": _headers(*HEADERS),
                "content": content,
            },
            **_errors(*_OF_EXPERTS),
            "default": _answer("Error", "Another 4xx of the expert, passed on unchanged."),
        },
    }


def _operation(name: str, tag: str, summary: str) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "tags": [tag]}


def _get(name: str, tag: str, summary: str, answers: dict[str, tuple[str, str]], *errors: str) -> dict[str, Any]:
    return {
        **_operation(name, tag, summary),
        "responses": {
            **{status: _answer(schema, text) for status, (schema, text) in answers.items()},
            **_errors(*errors),
        },
    }


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _answer("Error", _ERRORS[status]) for status in statuses}


def _answer(schema: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _headers("x-request-id"),
        "content": {"application/json": {"schema": _reference(schema)}},
    }


def _linked(answer: dict[str, Any], **parameters: str) -> dict[str, Any]:
    """Return an answer whose id leads to other operations."""
    followers = {"file_id": ("getFile", "downloadFile", "deleteFile"), "batch_id": ("getBatch", "cancelBatch")}
    ((name, source),) = parameters.items()
    links: dict[str, Any] = {
        follower: {"operationId": follower, "parameters": parameters} for follower in followers[name]
    }
    if name == "file_id":
        order = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        links["createBatch"] = {"operationId": "createBatch", "requestBody": order}
    return {**answer, "links": links}


def _json_body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _reference(schema)}}}


def _id(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _numbers(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": most}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _reference(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}
