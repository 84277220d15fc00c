"""Judge answers after they were sent: under their schema, against those of shadows, and by a judge.

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

from largeforge.gateway.kinds import WRITTEN
from largeforge.gateway.quality import judging
from largeforge.gateway.quality.answers import choices
from largeforge.gateway.quality.checker import Checker, CheckFailed
from largeforge.gateway.readable import is_mistake
from largeforge.gateway.routing import ServiceFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from largeforge.gateway.access import Exchange
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.arms import Arms
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


class Answer(NamedTuple):
    """What was answered, and by whom."""

    expert: str
    model: str
    body: bytes
    is_stream: bool
    side: str = "stable"
    """Of a rollout."""
    is_counted: bool = False
    """Whether what is said of it counts for that side."""
    is_copy: bool = False
    """Whether nobody got it."""
    is_refused: bool = False
    """Whether it is none: the server refused the request."""


@dataclass(eq=False)
class Seen:
    """A request whose answer is to be judged."""

    request: Request
    schema: bool
    judge: bool
    shadow: bool
    own: Answer | None = None
    others: list[Answer] = field(default_factory=list)
    """Those of shadows."""
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
    judged: Answer
    num_bytes: int


class Quality:
    """What judges answers; enter it to begin."""

    def __init__(
        self,
        live: Live,
        metrics: Metrics,
        state: Callable[[], State],
        *,
        arms: Arms,
        checker: Checker | None = None,
        draw: Callable[[], float] = random.random,
    ):
        """`state` returns what operators have set, `draw` a number below 1; `arms` is told of experts with a canary."""
        self._live, self._metrics, self._state, self._draw = live, metrics, state, draw
        self._arms = arms
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
        if (wanted is None and not share and not has_shadow) or request.kind not in WRITTEN or self._state().spares:
            return None
        is_checked = isinstance(wanted, dict) and wanted.get("type") in _CHECKED and self._can_check_schemas
        schema, judge = is_checked and self._draw() < settings.schema_share, self._draw() < share
        return Seen(request, schema, judge, has_shadow) if schema or judge or has_shadow else None

    def beside_copy(self, request: Request, seen: Seen | None) -> Seen | None:
        """Return what to keep of a request whose answer is to be compared with that to its copy."""
        if seen is None and request.kind in WRITTEN and not self._state().spares:
            seen = Seen(request, schema=False, judge=False, shadow=True)
        if seen is not None:
            seen.shadow = True
        return seen

    def answered(self, seen: Seen, exchange: Exchange, body: bytes | None) -> None:
        """Take the answer that the client got: a whole one, or None for the stream that was kept."""
        seen.own = own = self._answer(seen, exchange, body)
        if own is None:
            return
        self._add_signals(seen, own)
        for other in seen.others:
            self._compare(seen, own, other)

    def shadowed(self, seen: Seen, answer: Answer) -> None:
        """Take the answer of a shadow."""
        seen.others.append(answer)
        if answer.is_counted and not answer.is_refused:
            self._add_signals(seen, answer)
        if seen.own is not None:
            self._compare(seen, seen.own, answer)

    def _answer(self, seen: Seen, exchange: Exchange, body: bytes | None) -> Answer | None:
        pieces, seen.pieces = seen.pieces, None
        whole = body if body is not None else b"".join(pieces) if pieces is not None else None
        if whole is None or len(whole) > MOST_ANSWER_BYTES:
            for signal, is_wanted in (("schema_valid", seen.schema), ("judge", seen.judge), ("agreement", seen.shadow)):
                if is_wanted:
                    self._metrics.left_out(signal, "too-large")  # type: ignore[arg-type]
            return None
        side = self._arms.side(exchange)
        return Answer(
            exchange.expert, exchange.model, whole, body is None, side=side or "stable", is_counted=bool(side)
        )  # fmt: skip

    def _add_signals(self, seen: Seen, answer: Answer) -> None:
        if seen.schema:
            self._add("schema_valid", seen, answer)
        if seen.judge:
            self._add("judge", seen, answer)

    def _compare(self, seen: Seen, own: Answer, other: Answer) -> None:
        if (own.expert, own.side) == (other.expert, other.side):
            return
        if other.is_refused:
            self._count(other, "agreement", good=False)
        else:
            self._add("agreement", seen, other)

    def _count(self, answer: Answer, signal: Signal, *, good: bool) -> None:
        """Count a verdict: for who gave the answer, and for its side of a rollout."""
        if not answer.is_copy or signal == "agreement":
            self._metrics.judged(answer.expert, answer.model, signal, good=good)
        if answer.is_counted:
            self._arms.judge(answer.expert, answer.side, signal, is_good=good)

    def _add(self, signal: Signal, seen: Seen, judged: Answer) -> None:
        own = seen.own if signal == "agreement" else None
        size = len(seen.request.body) + len(judged.body) + (len(own.body) if own else 0)
        if len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES:
            self._metrics.left_out(signal, "full")
            return
        self._bytes += size
        self._waiting.append(_Job(signal, seen, judged, size))
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
        asked: dict[str, Any] = {"kind": job.signal, "answer": _told(job.judged)}
        if job.signal == "agreement":
            assert seen.own is not None
            asked |= {"answer": _told(seen.own), "other": _told(job.judged), "least_f1": settings.agreement_f1}
        else:
            asked["format"] = seen.request.payload["response_format"]
        for good in await self._checker.ask(asked):
            self._count(job.judged, job.signal, good=good)

    def _begin_to_judge(self, job: _Job) -> None:
        if len(self._judging) >= JUDGED_AT_ONCE:
            self._metrics.left_out("judge", "full")
            return
        task = asyncio.create_task(self._judge(job.seen, job.judged))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge(self, seen: Seen, judged: Answer) -> None:
        """Ask the judge, unless it is out of service; what cannot be read is bad without being shown to it."""
        now, settings, state = self._live.now, self._live.now.file.gateway.quality.judge, self._state()
        found = choices(judged.body, is_stream=judged.is_stream)
        asked = judging.question(settings, seen.request, found[0]) if found else None
        who = settings.expert or settings.url
        is_away = settings.expert in state.experts or (settings.expert and now.targets[settings.expert].is_down)
        if not who or is_away or state.spares:
            self._metrics.left_out("judge", "away")
            return
        if not found and not (judged.is_stream and is_mistake(judged.body)):
            self._count(judged, "judge", good=False)
            return
        if asked is None:
            self._metrics.left_out("judge", "unreadable")
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
            self._count(judged, "judge", good=good)


def _told(answer: Answer) -> dict[str, Any]:
    return {"body": answer.body.decode(errors="replace"), "is_stream": answer.is_stream}
