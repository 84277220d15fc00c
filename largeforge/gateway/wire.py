"""The shapes that clients see, as models from which the OpenAPI document is generated.

Documentation only: requests and answers of experts pass through as bytes and are never
validated against these. Fields beyond these are allowed; vLLM documents what it accepts.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Open(BaseModel):
    """A shape that may have more than is said here."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class ContentPart(Open):
    """One part of a message."""

    type: str
    """`text`, `image_url`, ..."""
    text: str = ""
    """The text of a `text` part."""


class Message(Open):
    """One message of a chat."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str | list[ContentPart] | None = None


class _Sampling(Open):
    model: str = Field(default="auto", examples=["auto"])
    """An expert's name, or `auto` to let the router choose; other names go to the fallback expert."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens."""
    temperature: float | None = Field(default=None, ge=0)
    """0 is greedy."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool = False
    """Send the answer as server-sent events, the last one `[DONE]`."""
    stream_options: dict[str, Any] | None = None
    """For example `{"include_usage": true}`."""


class ChatRequest(_Sampling):
    """Body of `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, examples=[[{"role": "user", "content": "Where is my order?"}]])


class CompletionRequest(_Sampling):
    """Body of `/v1/completions`."""

    prompt: str | list[Any] = Field(examples=["Once upon a time"])
    """Text, a list of texts, or token ids."""


class Usage(Open):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int | None = None
    total_tokens: int


class ChatChoice(Open):
    """One answer."""

    index: int
    message: Message
    finish_reason: str | None = None


class ChatCompletion(Open):
    """A whole answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class ChatDelta(Open):
    """What is new in this event."""

    role: str | None = None
    content: str | None = None


class ChatChunkChoice(Open):
    """Part of one answer."""

    index: int
    delta: ChatDelta
    finish_reason: str | None = None


class ChatCompletionChunk(Open):
    """The data of one event of a streamed chat."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class TextChoice(Open):
    """One answer, or a part of it when streamed."""

    index: int
    text: str
    finish_reason: str | None = None


class Completion(Open):
    """An answer to a prompt, or the data of one event of it when streamed."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None


class ErrorDetail(Open):
    """What went wrong."""

    message: str
    type: str
    """`invalid_request_error` for the caller's mistakes, `server_error` for ours; experts have their own."""
    param: str | None = None
    """The parameter that is meant."""
    code: str | int | None = None
    """A word for programs, such as `expert_down`; experts send the status."""


class Error(Open):
    """The body of every answer that is an error, and the data of the event that ends a broken stream."""

    error: ErrorDetail


class ModelCard(Open):
    """An expert, or `auto`."""

    id: str
    """What to put in `model`."""
    object: Literal["model"] = "model"
    created: int
    """When this gateway started, in seconds since the epoch."""
    owned_by: str = "largeforge"
    description: str = ""
    """What the expert is for."""
    root: str = ""
    """The model reference; empty for `auto`."""
    task: Literal["generate", "embed", "score"] = "generate"
    """What it does: write answers, turn texts into vectors (and compare them), or score pairs of texts."""


class ModelList(Open):
    """All names that `model` may have."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class RouteQuestion(Open):
    """Body of `/v1/route`: that of a chat, or of a completion with `prompt`."""

    model: str = "auto"
    messages: list[dict[str, Any]] = Field(min_length=1, examples=[[{"role": "user", "content": "My order?"}]])


class RouterOpinion(Open):
    """What one router of a chain says."""

    router: str
    expert: str
    """Expert that it would choose; empty when it has no opinion."""
    reason: str
    score: float
    threshold: float
    """Least score that lets it decide."""
    decides: bool
    """Whether its score reaches the threshold."""
    scores: dict[str, float]


class RouteExplained(Open):
    """Where a request would go, and why."""

    object: Literal["route"] = "route"
    expert: str
    """Expert that would answer."""
    reason: str
    """As in the header `x-largeforge-route`."""
    score: float
    """How sure the router is, from 0 to 1."""
    requested: str
    """Expert that was meant, where another answers in its place."""
    fallback: str
    """`unknown-model` when `model` names no expert, else empty."""
    shadow: str
    """Expert that would also be asked, and whose answer is thrown away."""
    scores: dict[str, float]
    """What speaks for each expert, where the router has such a thing."""
    routers: list[RouterOpinion]
    """What each router of a chain says, whether or not it was its turn."""
    flags: dict[str, bool]
    """All flags as they are for this request."""


class Alive(Open):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ExpertHealth(Open):
    """The state of an expert: up when one of its servers is."""

    state: Literal["unknown", "up", "down", "isolated"]
    reason: str
    """Why it is not up."""
    since: float
    """Since when, in seconds since the epoch."""
    replicas: list[dict[str, Any]] = []
    """Its servers: `url`, `state`, `reason`, `since`, `breaker`, and `outstanding` requests."""


class Readiness(Open):
    """Whether requests can be answered."""

    ready: bool
    """Whether the fallback expert is up, and new requests are taken."""
    mode: Literal["normal", "high_load", "degraded", "maintenance", "emergency"]
    """What operators have set."""
    reasons: list[str]
    """Why not, or what is missing."""
    experts: dict[str, ExpertHealth]
