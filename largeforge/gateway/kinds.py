"""The kinds of requests: where clients send each, where experts take it, and which experts can answer it."""

from __future__ import annotations

from typing import Literal

Kind = Literal["chat", "completion", "embedding", "rerank", "score"]
Task = Literal["generate", "embed", "score"]

PATHS: dict[str, Kind] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
    "/v1/rerank": "rerank",
    "/v1/score": "score",
    "/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/score": "score",
}
"""Where clients send requests; the last three are vLLM's own other names, which clients of Jina and Cohere use."""

UPSTREAM_PATHS: dict[Kind, str] = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
    "rerank": "/rerank",
    "score": "/score",
}
"""Where experts take them. vLLM answers `/v1/score` as well, but complains about it in its log each time."""

TASKS: dict[Kind, tuple[Task, ...]] = {
    "chat": ("generate",),
    "completion": ("generate",),
    "embedding": ("embed",),
    "rerank": ("score", "embed"),
    "score": ("score", "embed"),
}
"""Tasks of experts that can answer a kind: a model of embeddings also compares, by the angle between two."""

WRITTEN: tuple[Kind, ...] = ("chat", "completion")
"""Kinds whose answers a model writes."""

DOING: dict[Kind, str] = {
    "chat": "write answers",
    "completion": "write answers",
    "embedding": "embed",
    "rerank": "rerank",
    "score": "score",
}
"""What an expert does that answers a kind, for messages."""
