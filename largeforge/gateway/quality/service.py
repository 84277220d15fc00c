"""Judge answers after they were sent: under their schema, against those of a shadow, and by a judge.

A request that asks for none of this costs a look into its fields. What is to be judged waits in a bounded queue; what
does not fit is left out and counted, and never keeps a request waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from largeforge.gateway.quality import judging
from largeforge.gateway.quality.answers import choices
from largeforge.gateway.quality.checker import Checker, CheckFailed
from largeforge.gateway.routing import ServiceFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.live import Live
    from largeforge.gateway.metrics import Metrics, Signal
    from largeforge.gateway.request import Request
    from largeforge.recipe.sections.quality import Quality as Settings

logger = logging.getLogger(__name__)

MOST_WAITING = 256
"""Answers that wait to be judged."""
MOST_WAITING_BYTES = 16 * 2**20
MOST_ANSWER_BYTES = 2**20
"""Longest answer that is judged."""
JUDGED_AT_ONCE = 4
"""Questions that a judge gets at once."""
_CHECKED = ("json_schema", "json_object")
_KINDS = ("chat", "completion")


class Answer(NamedTuple):
    """What was answered, and by whom."""

    expert: str
    model: str
    body: bytes
    is_stream: bool


@dataclass(eq=False)
class Seen:
    """A request whose answer is to be judged."""

    request: Request
    schema: bool
    judge: bool
    shadow: bool
    own: Answer | None = None
    other: Answer | None = None
    """That of the shadow."""
    pieces: list[bytes] | None = field(default_factory=list)
    """Of the stream that answers; None once they are too many."""
    _bytes: int = 0

    def add(self, piece: bytes) -> None:
        """Take a piece of the stream."""
        if self.pieces is not None:
            self._bytes += len(piece)
            self.pieces.append(piece)
            if self._bytes > MOST_ANSWER_BYTES:
                self.pieces = None


@dataclass(frozen=True)
class _Job:
    signal: Signal
    seen: Seen
    num_bytes: int


class Quality:
    """What judges answers; enter it to begin."""

    def __init__(
        self,
        live: Live,
        metrics: Metrics,
        state: Callable[[], State],
        *,
        checker: Checker | None = None,
        draw: Callable[[], float] = random.random,
    ):
        """`state` returns what operators have set, `draw` a number below 1."""
        self._live, self._metrics, self._state, self._draw = live, metrics, state, draw
        self._checker = checker or Checker()
        self._can_check_schemas = True
        self._waiting: deque[_Job] = deque()
        self._bytes = 0
        self._there_is_work = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._judging: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._working = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._working is not None
        for task in (self._working, *self._judging):
            task.cancel()
        await asyncio.gather(self._working, *self._judging, return_exceptions=True)
        await self._checker.stop()

    def look(self, request: Request, settings: Settings, *, has_shadow: bool) -> Seen | None:
        """Return what to keep of a request, None where its answer will not be judged."""
        wanted, share = request.payload.get("response_format"), settings.judge.share
        if (wanted is None and not share and not has_shadow) or request.kind not in _KINDS or self._state().spares:
            return None
        is_checked = isinstance(wanted, dict) and wanted.get("type") in _CHECKED and self._can_check_schemas
        schema, judge = is_checked and self._draw() < settings.schema_share, self._draw() < share
        return Seen(request, schema, judge, has_shadow) if schema or judge or has_shadow else None

    def answered(self, seen: Seen, exchange: Exchange, body: bytes | None) -> None:
        """Take the answer that the client got: a whole one, or None for the stream that was kept."""
        seen.own = self._answer(seen, exchange.expert, exchange.model, body)
        if seen.own is None:
            return
        for signal, is_wanted in (("schema_valid", seen.schema), ("judge", seen.judge)):
            if is_wanted:
                self._add(signal, seen)  # type: ignore[arg-type]
        self._compare(seen)

    def shadowed(self, seen: Seen, expert: str, model: str, body: bytes, *, is_stream: bool) -> None:
        """Take the answer of the shadow."""
        seen.other = Answer(expert, model, body, is_stream)
        self._compare(seen)

    def _answer(self, seen: Seen, expert: str, model: str, body: bytes | None) -> Answer | None:
        pieces, seen.pieces = seen.pieces, None
        whole = body if body is not None else b"".join(pieces) if pieces is not None else None
        if whole is None or len(whole) > MOST_ANSWER_BYTES:
            for signal, is_wanted in (("schema_valid", seen.schema), ("judge", seen.judge), ("agreement", seen.shadow)):
                if is_wanted:
                    self._metrics.left_out(signal, "too-large")  # type: ignore[arg-type]
            return None
        return Answer(expert, model, whole, body is None)

    def _compare(self, seen: Seen) -> None:
        if seen.own is not None and seen.other is not None and seen.own.expert != seen.other.expert:
            self._add("agreement", seen)

    def _add(self, signal: Signal, seen: Seen) -> None:
        size = len(seen.request.body) + sum(len(one.body) for one in (seen.own, seen.other) if one)
        if len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES:
            self._metrics.left_out(signal, "full")
            return
        self._bytes += size
        self._waiting.append(_Job(signal, seen, size))
        self._there_is_work.set()

    async def _work(self) -> None:
        while True:
            await self._there_is_work.wait()
            while self._waiting:
                job = self._waiting.popleft()
                self._bytes -= job.num_bytes
                await self._do(job)
            self._there_is_work.clear()

    async def _do(self, job: _Job) -> None:
        try:
            if job.signal == "judge":
                self._begin_to_judge(job)
            else:
                await self._check(job)
        except CheckFailed as failed:
            self._metrics.left_out(job.signal, str(failed))
            if str(failed).startswith("no-") and self._can_check_schemas and job.signal == "schema_valid":
                self._can_check_schemas = False
                logger.warning("answers are not checked under their schemas: %s", failed)
        except Exception:
            self._metrics.left_out(job.signal, "failed")
            logger.exception("an answer could not be judged")

    async def _check(self, job: _Job) -> None:
        seen, settings = job.seen, self._live.now.file.gateway.quality
        assert seen.own is not None
        asked: dict[str, Any] = {"kind": job.signal, "answer": _told(seen.own)}
        judged = seen.own
        if job.signal == "agreement":
            assert seen.other is not None
            judged = seen.other
            asked |= {"other": _told(seen.other), "least_f1": settings.agreement_f1}
        else:
            asked["format"] = seen.request.payload["response_format"]
        for good in await self._checker.ask(asked):
            self._metrics.judged(judged.expert, judged.model, job.signal, good=good)

    def _begin_to_judge(self, job: _Job) -> None:
        if len(self._judging) >= JUDGED_AT_ONCE:
            self._metrics.left_out("judge", "full")
            return
        task = asyncio.create_task(self._judge(job.seen))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge(self, seen: Seen) -> None:
        """Ask the judge, unless it is out of service."""
        now, settings, state = self._live.now, self._live.now.file.gateway.quality.judge, self._state()
        assert seen.own is not None
        found = choices(seen.own.body, is_stream=seen.own.is_stream)
        asked = judging.question(settings, seen.request, found[0]) if found else None
        who = settings.expert or settings.url
        is_away = settings.expert in state.experts or (settings.expert and now.targets[settings.expert].is_down)
        if asked is None or not who or is_away or state.spares:
            self._metrics.left_out("judge", "unreadable" if asked is None else "away")
            return
        good, why = None, "unreadable"
        with suppress(ServiceFailed, TimeoutError):
            why = "failed"
            async with asyncio.timeout(settings.timeout_s):
                reply = await self._live.servers.post_json(who, judging.PATH, asked, head=judging.head(settings))
            good, why = judging.verdict(reply), "unreadable"
        if good is None:
            self._metrics.left_out("judge", why)
        else:
            self._metrics.judged(seen.own.expert, seen.own.model, "judge", good=good)


def _told(answer: Answer) -> dict[str, Any]:
    return {"body": answer.body.decode(errors="replace"), "is_stream": answer.is_stream}
