"""What clients send and see of ratings, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from largeforge.gateway.quality.feedback import ID, MOST_COMMENT_CHARS, MOST_NAME_CHARS
from largeforge.gateway.wire import Open

_ONE_OF_BOTH: dict[str, Any] = {
    "oneOf": [
        {"required": ["rating"], "properties": {"rating": {"enum": ["up", "down"]}, "score": {"enum": [None]}}},
        {"required": ["score"], "properties": {"score": {"type": "number"}, "rating": {"enum": [None]}}},
    ]
}


class FeedbackRequest(Open):
    """Body of `/v1/feedback`: either `rating` or `score`."""

    model_config = ConfigDict(json_schema_extra=_ONE_OF_BOTH)

    request_id: str = Field(pattern=f"^{ID.pattern}$", examples=["4f1a6c0e9b7d4c52a3f8e1d20b6c7a95"])
    """`x-request-id` of the answer."""
    rating: Literal["up", "down"] | None = None
    score: float | None = Field(default=None, ge=0, le=1)
    """From 0.5 on it is a good one."""
    comment: str | None = Field(default=None, max_length=MOST_COMMENT_CHARS)
    """For gateways that keep comments; this one neither keeps nor logs it."""
    expert: str | None = Field(default=None, max_length=MOST_NAME_CHARS)
    """`x-largeforge-expert` of the answer; needed when the gateway has forgotten the request, as after a restart."""
    model: str | None = Field(default=None, max_length=MOST_NAME_CHARS)
    """`x-largeforge-model` of the answer; needed as well then."""


class Feedback(Open):
    """What became of a rating."""

    object: Literal["feedback"] = "feedback"
    request_id: str
    expert: str
    """Who answered the request."""
    model: str
    counted: bool
    """Whether it was the first of its request; another one is logged, and not counted again."""
