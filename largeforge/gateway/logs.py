"""Log as JSON lines on standard error; `extra={"fields": {...}}` adds fields to a line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Lines:
    """Writes log lines of one kind that are many: one write for all that come in one turn of the event loop."""

    def __init__(self, descriptor: int, logger: str):
        self._loop: asyncio.AbstractEventLoop | None = None
        self._descriptor = descriptor
        self._logger = logger
        self._waiting: list[bytes] = []
        self._second = 0
        self._stamp = ""

    def __call__(self, message: str, fields: Mapping[str, Any]) -> None:
        """Add a line, as `JsonFormatter` would write it; call on the event loop."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line = {
            "time": f"{self._stamp}.{int((now - second) * 1000):03d}Z", "level": "info", "logger": self._logger,
            "message": message, **fields,
        }  # fmt: skip
        self._waiting.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        with suppress(OSError):  # nobody reads the log any more, which is no reason not to serve
            while data:
                data = data[os.write(self._descriptor, data) :]


def set_up() -> None:
    """Send all logs of this process to standard error as JSON lines; call once, from the entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
