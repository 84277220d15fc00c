"""What rules may ask about a request beside its words: how long it is, and whether it has tools or images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.gateway.request import Request

_IMAGES = frozenset(("image_url", "input_image", "image"))


def has_tools(request: Request) -> bool:
    """Tell whether the model may call tools."""
    return bool(request.payload.get("tools") or request.payload.get("functions"))


def has_images(request: Request) -> bool:
    """Tell whether any message has an image."""
    return any(part.get("type") in _IMAGES for part in _parts(request))


def streams(request: Request) -> bool:
    """Tell whether the answer is asked for piece by piece."""
    return request.payload.get("stream") is True


def chars(request: Request) -> int:
    """Return the characters of the whole conversation, or of the prompt; those of images and tools do not count."""
    messages = request.payload.get("messages")
    if not isinstance(messages, list):
        return len(request.text)
    plain = sum(len(text) for message in messages if isinstance(text := _content(message), str))
    return plain + sum(len(text) for part in _parts(request) if isinstance(text := part.get("text"), str))


def _parts(request: Request) -> Iterator[dict[str, Any]]:
    messages = request.payload.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = _content(message)
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _content(message: Any) -> Any:
    return message.get("content") if isinstance(message, dict) else None
