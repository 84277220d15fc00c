"""`GET /monitor`, a page that anybody may load and that holds nothing, and `GET /monitor/data`, for operators.

The page is one file and asks for nothing but its data. Its policy allows its own script and style by their hashes, and
makes the browser refuse text as HTML, whatever the data has in it.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from starlette.responses import HTMLResponse
from starlette.routing import Route

from largeforge.gateway.endpoint import Endpoint, answer
from largeforge.gateway.monitor import telling
from largeforge.gateway.monitor.history import History

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from largeforge.gateway.admin.access import Access
    from largeforge.gateway.admin.controls import Controls
    from largeforge.gateway.crew.whole import Whole
    from largeforge.gateway.live import Live
    from largeforge.gateway.metrics import Metrics
    from largeforge.gateway.monitor.telling import Rollouts

PATH, DATA_PATH = "/monitor", "/monitor/data"
QUESTION = "monitor"
"""What workers ask each other."""
_FOLDER = Path(__file__).parent


class Monitor:
    """The page and its data; enter it to keep the history."""

    def __init__(
        self,
        live: Live,
        metrics: Metrics,
        controls: Controls,
        whole: Whole,
        access: Access,
        *,
        in_flight: Callable[[], int],
        wall_clock: Callable[[], float],
        rollouts: Rollouts = lambda: (),
    ):
        """`in_flight` returns how many requests this worker answers now."""
        self._live, self._metrics, self._controls = live, metrics, controls
        self._whole, self._access, self._rollouts = whole, access, rollouts
        self._in_flight, self._wall_clock = in_flight, wall_clock
        self._history = History(metrics=metrics, in_flight=in_flight, queued=live.waiting.total, wall_clock=wall_clock)
        self._stack = AsyncExitStack()
        whole.answer(QUESTION, self._own)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._history)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        page, policy = _page()

        async def show(_: Request) -> Response:
            return HTMLResponse(page, headers=policy)

        data = Endpoint(GET=self._data)
        return [Route(PATH, show), Route(DATA_PATH, data, methods=data.methods)]

    async def _data(self, request: Request) -> Response:
        self._access.check(request.scope)
        parts = (await self._whole.ask(QUESTION)).values()
        response = answer(
            telling.document(
                list(parts), self._live, self._controls.now,
                bounds=self._metrics.bounds, rollouts=self._rollouts(), now=self._wall_clock(),
            )
        )  # fmt: skip
        response.headers["cache-control"] = "no-store"
        return response

    async def _own(self, _: bytes) -> bytes:
        return telling.told(self._live, self._history, in_flight=self._in_flight())


def _page() -> tuple[str, dict[str, str]]:
    """Return the page, and the headers that say what it may do."""
    html, style, script = ((_FOLDER / name).read_text("utf-8") for name in ("page.html", "style.css", "monitor.js"))
    page = html.replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
    return page, {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
