"""Keep what operators have set in force: in a file that outlives the process and that several workers share.

A change is written first and obeyed then; the other workers see the file change and obey within `LOOK_EVERY_S`. That a
controller still looks after a rollout, which it tells every few seconds, goes to a small file of its own, and nobody is
told. Files are written in a thread: a disk that is busy with a model of many GiB makes an operator wait, and no client.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from largeforge.artifacts import write_text
from largeforge.errors import Problem, RecipeError
from largeforge.gateway.admin import heartbeats, rollout_view
from largeforge.gateway.admin.state import State, patched
from largeforge.gateway.errors import ApiError
from largeforge.gateway.identity import MAX_CHARS, TENANT
from largeforge.recipe.base import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1


class Document(Strict):
    """The file."""

    state: State = State()
    since: float = 0.0
    """When the state was changed last, in seconds since the epoch."""
    config: str = ""
    """Digest of the gateway file that is to be in force; empty for the one that a process started with."""


class Controls:
    """The state in force; `path` is its file, None keeps it in memory only."""

    def __init__(self, path: Path | None, *, wall_clock: Callable[[], float]):
        """Take up what was set before this process started.

        Raises RecipeError when the file is there and cannot be read: what was isolated must not come back by accident.
        """
        self._path = path
        self._wall_clock = wall_clock
        self._stamp: tuple[int, ...] = ()
        self._listeners: list[Callable[[Document], None]] = []
        self._listeners_to_others: list[Callable[[], None]] = []
        self._turn = asyncio.Lock()
        """Held while a change is written and obeyed, so that none is obeyed after a later one."""
        self._changes: set[asyncio.Task[Document]] = set()
        self._document = self._read()
        self._note_stamp()

    @property
    def now(self) -> State:
        """What is in force."""
        return self._document.state

    @property
    def document(self) -> Document:
        """What is in force, since when, and with which gateway file."""
        return self._document

    def listen(self, obey: Callable[[Document], None]) -> None:
        """Have `obey` called now and after each change."""
        self._listeners.append(obey)
        obey(self._document)

    def listen_to_others(self, look: Callable[[], None]) -> None:
        """Have `look` called whenever another process has written, also where that changed nothing."""
        self._listeners_to_others.append(look)

    async def patch(self, patch: Any, check: Callable[[State], None]) -> Document:
        """Change the state by a merge patch, and return what is in force then.

        Raises ApiError (400) when the patch is wrong, and what `check` raises of the new state.
        """

        def change(document: Document) -> Document:
            state, now = patched(document.state, patch), round(self._wall_clock(), 3)
            check(state)
            state = state.model_copy(update={"rollouts": rollout_view.heard(state.rollouts, now)})
            is_told = _is_same(state, document.state, without="rollouts")
            return document.model_copy(update={"state": state, "since": document.since if is_told else now})

        return await self._change(change)

    async def take_out(self, expert: str, reason: str, *, after_s: float) -> bool:
        """Take an expert's canary out of use, unless that was done or a controller has looked within `after_s`; return
        whether it was taken out."""
        taken = False

        def change(document: Document) -> Document:
            nonlocal taken
            state, now = document.state, round(self._wall_clock(), 3)
            view = state.rollouts.get(expert)
            taken = state.canaries.get(expert, 0.0) > 0 and not (view and view.has_controller(now, after_s))
            if not taken:
                return document
            update = {
                "canaries": {**state.canaries, expert: 0.0}, "guarded": {**state.guarded, expert: reason},
                "shadows": {name: share for name, share in state.shadows.items() if name != expert},
            }  # fmt: skip
            return document.model_copy(update={"state": state.model_copy(update=update), "since": now})

        await self._change(change)
        return taken

    async def follow_config(self, digest: str, *, keep: Callable[[str], None] = lambda _: None) -> None:
        """Have all workers serve the gateway file of this digest, which `keep` writes where they find it.

        `keep` is given the digest that they are to serve until then. Raises what it raises, and nobody follows then.
        """

        def change(document: Document) -> Document:
            keep(document.config)
            return document.model_copy(update={"config": digest})

        await self._change(change)

    def refuse(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise ApiError when a request is not to be answered: in maintenance, or of an isolated tenant."""
        state = self._document.state
        if state.mode == "maintenance":
            raise in_maintenance(state)
        if state.tenants:
            for name, value in headers:
                if name == TENANT and value.decode("latin-1")[:MAX_CHARS] in state.tenants:
                    raise tenant_isolated()

    async def watch(self) -> None:
        """Obey what other processes write, until cancelled."""
        while self._path is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            async with self._turn:
                if self._stamp != self._stamps():
                    self._take_up()

    def _take_up(self) -> None:
        """Obey the file; one that cannot be read changes nothing."""
        self._note_stamp()
        try:
            found = self._read()
        except RecipeError as error:
            logger.error("what is in force stays: %s", error)
            return
        self._obey(found)
        for look in self._listeners_to_others:
            look()

    async def _change(self, change: Callable[[Document], Document]) -> Document:
        """Change the document in a thread and obey it, to the end, even when nobody waits for it any more."""
        task = asyncio.create_task(self._changed(change))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _changed(self, change: Callable[[Document], Document]) -> Document:
        async with self._turn:
            document = await asyncio.to_thread(self._change_file, change)
            self._obey(document)
        return document

    def _change_file(self, change: Callable[[Document], Document]) -> Document:
        with self._locked():
            before = self._read() if self._path else self._document
            document = change(before)
            if self._path is not None and document is not before:
                self._write(self._path, document, before)
                self._note_stamp()
        return document

    def _write(self, path: Path, document: Document, before: Document) -> None:
        """Write what is another than before: when controllers looked last apart from all else."""
        times, old = (rollout_view.seen(one.state.rollouts) for one in (document, before))
        if times == old or document != _with_times(before, times):
            write_text(path, document.model_dump_json(indent=2) + "\n")
        if times != old:
            heartbeats.write(path, times)

    def _obey(self, document: Document) -> None:
        before = _with_times(self._document, rollout_view.seen(document.state.rollouts))
        self._document = document
        if document == before:
            return
        for expert, view in document.state.rollouts.items():
            if view != before.state.rollouts.get(expert):
                logger.warning("rollout of '%s': %s, step %d, share %g", expert, view.phase, view.step + 1, view.share)
        if not _is_same(document.state, before.state, without="rollouts"):
            logger.warning("operators: %s", document.state.model_dump_json(exclude_defaults=True, exclude={"rollouts"}))
        elif document.config == before.config:
            return
        for listener in self._listeners:
            listener(document)

    def _read(self) -> Document:
        if self._path is None:
            return Document()
        try:
            document = Document.model_validate_json(self._path.read_bytes())
            if not document.state.rollouts:
                return document
            return _with_times(document, heartbeats.read(self._path))
        except FileNotFoundError:
            return Document()
        except OSError as error:
            problem = Problem("state", f"cannot be read: {error.strerror}", where=str(self._path))
        except ValidationError as error:
            said = error.errors(include_url=False, include_input=False)[0]["msg"]
            rule = f"is damaged ({said}); mend it, or remove it to begin with nothing isolated or drained"
            problem = Problem("state", rule, where=str(self._path))
        raise RecipeError([problem])

    def _note_stamp(self) -> None:
        self._stamp = self._stamps()

    def _stamps(self) -> tuple[int, ...]:
        return (*_stamp(self._path), *_stamp(heartbeats.path_of(self._path))) if self._path else ()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the file in between."""
        if self._path is None:
            yield
            return
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def in_maintenance(state: State) -> ApiError:
    """Return the error for a request in maintenance."""
    because = f": {state.reason}" if state.reason else ""
    message = f"The gateway takes no new requests{because}."
    return ApiError(503, message, code="maintenance", retry_after_s=state.retry_after_s)


def tenant_isolated() -> ApiError:
    """Return the error for a request of an isolated tenant."""
    return ApiError(403, "Requests of this tenant are not answered at present.", code="tenant_isolated")


def expert_isolated(expert: str) -> ApiError:
    """Return the error for a request whose expert was isolated while it answered."""
    return ApiError(503, f"Expert '{expert}' was taken out of service.", code="expert_isolated", retry_after_s=1)


def _stamp(path: Path) -> tuple[int, ...]:
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return ()


def _is_same(state: State, other: State, *, without: str) -> bool:
    """Whether two states are the same but for one field."""
    return all(getattr(state, name) == getattr(other, name) for name in State.model_fields if name != without)


def _with_times(document: Document, times: Mapping[str, float]) -> Document:
    """Return a document with when controllers looked last."""
    rollouts = rollout_view.with_seen(document.state.rollouts, times)
    return document.model_copy(update={"state": document.state.model_copy(update={"rollouts": rollouts})})
