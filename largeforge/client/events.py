"""Read a streamed chat: bytes in as they come, pieces of text out, the rest collected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from largeforge.client.answer import Answer, RequestFailed, answer_of, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class StreamReader:
    """The state of one stream; `feed` it to the end, then ask for the `answer`."""

    def __init__(self, status: int, headers: Mapping[str, str]):
        self._status = status
        self._headers = headers
        self._rest = b""
        self._pieces: list[str] = []
        self._model = ""
        self._usage: Any = None
        self._finish_reason: Any = None
        self._is_done = False

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the pieces of text in `data`.

        Raises RequestFailed when the server reports an error in the stream.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if piece := self._read(line.strip()):
                self._pieces.append(piece)
                yield piece

    def broken(self, error: Exception) -> RequestFailed:
        """Return the error for a connection that failed before the end of the stream."""
        reason = str(error) or type(error).__name__
        return self._failure(f"The stream broke off before its end: {reason}.")

    def answer(self, *, latency_ms: float) -> Answer:
        """Return what the stream added up to.

        Raises RequestFailed when the server did not say that it is complete.
        """
        if not self._is_done:
            raise self._failure("The stream broke off before its end.")
        return answer_of(
            self._headers,
            text="".join(self._pieces),
            model=self._model,
            usage=self._usage,
            finish_reason=self._finish_reason,
            latency_ms=latency_ms,
        )

    def _read(self, line: bytes) -> str:
        if not line.startswith(b"data:"):
            return ""
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self._is_done = True
            return ""
        try:
            event = json.loads(data)
        except ValueError:
            raise self._failure("The stream holds an event that is not JSON.") from None
        if not isinstance(event, dict):
            raise self._failure("The stream holds an event that is not an object.")
        message, code = error_of(event)
        if message:
            raise self._failure(message, code)
        return self._take(event)

    def _take(self, event: dict[str, Any]) -> str:
        self._model = event.get("model") or self._model
        self._usage = event.get("usage") or self._usage
        if not event.get("choices"):
            return ""
        choice = event["choices"][0]
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return choice.get("delta", {}).get("content") or ""

    def _failure(self, message: str, code: str = "") -> RequestFailed:
        request_id = self._headers.get("x-request-id", "")
        return RequestFailed(message, status=self._status, code=code, request_id=request_id)
