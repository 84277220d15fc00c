"""What the fake of vLLM answers: shapes as vLLM 0.32 writes them, showing in each what was asked."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def generated(asked: dict[str, Any], kind: str, text: str) -> dict[str, Any]:
    """A whole answer to a chat or a completion, with all that may be asked of one."""
    choices = [_choice(asked, kind, text, index) for index in range(asked.get("n") or 1)]
    return {
        "id": "x-1",
        "object": kind,
        "created": 1,
        "model": asked["model"],
        "choices": choices,
        "usage": USAGE,
        "system_fingerprint": f"seed-{asked.get('seed')}",
    }


def _choice(asked: dict[str, Any], kind: str, text: str, index: int) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "finish_reason": "stop", "stop_reason": asked.get("stop")}
    choice["logprobs"] = _logprobs(asked, kind) if asked.get("logprobs") else None
    if not kind.startswith("chat"):
        return {**choice, "text": text}
    message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": []}
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if schema:
        message["content"] = json.dumps(dict.fromkeys(schema["required"], text))
    elif "choice" in (asked.get("structured_outputs") or {}):
        message["content"] = asked["structured_outputs"]["choice"][-1]
    if asked.get("tools"):
        called = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"order": 7}'}
        message.update(content=None, tool_calls=[{"id": "call-1", "type": "function", "function": called}])
        choice["finish_reason"] = "tool_calls"
    return {**choice, "message": message}


def _logprobs(asked: dict[str, Any], kind: str) -> dict[str, Any]:
    if not kind.startswith("chat"):
        return {"tokens": ["I"], "token_logprobs": [-0.5], "top_logprobs": [{"I": -0.5}], "text_offset": [0]}
    top = [{"token": str(index), "logprob": -1.0, "bytes": None} for index in range(asked.get("top_logprobs") or 0)]
    return {"content": [{"token": "I", "logprob": -0.5, "bytes": [73], "top_logprobs": top}]}


def embedded(asked: dict[str, Any]) -> dict[str, Any]:
    """Vectors that tell how long each text is, as numbers or as base64 of float32."""
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    vectors: list[Any] = [[float(len(text)), 1.0][: int(asked.get("dimensions") or 2)] for text in texts]
    if asked.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    data = [{"index": index, "object": "embedding", "embedding": vector} for index, vector in enumerate(vectors)]
    return {"id": "embd-1", "object": "list", "created": 1, "model": asked["model"], "data": data, "usage": USAGE}


def reranked(asked: dict[str, Any]) -> dict[str, Any]:
    """Documents by how many words of the query they have."""
    documents = asked["documents"] if isinstance(asked["documents"], list) else [asked["documents"]]
    words = set(str(asked["query"]).split())
    scored = [
        {"index": index, "document": {"text": text}, "relevance_score": len(words & set(str(text).split())) / 10}
        for index, text in enumerate(documents)
    ]
    scored.sort(key=lambda result: result["relevance_score"], reverse=True)
    top = scored[: int(asked.get("top_n") or len(scored))]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"id": "rerank-1", "model": asked["model"], "usage": usage, "results": top}


def scored(asked: dict[str, Any]) -> dict[str, Any]:
    """How alike the first text is to each of the second."""
    pairs = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
    one, two = next((asked[a], asked[b]) for a, b in pairs if a in asked and b in asked)
    others = two if isinstance(two, list) else [two]
    data = [{"index": index, "object": "score", "score": float(one == text)} for index, text in enumerate(others)]
    return {"id": "embd-2", "object": "list", "created": 1, "model": asked["model"], "data": data, "usage": USAGE}
