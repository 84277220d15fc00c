"""What every console does: order events, hand each kind to its method, close in any case."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from largeforge.console.board import Board, Stage
from largeforge.console.text import clean_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Event = dict[str, Any]


class Console(ABC):
    """Shows events; safe to call from several threads."""

    def __init__(self) -> None:
        self.board = Board()
        self._lock = threading.RLock()
        self._methods: dict[str, Callable[[Event, Stage], None]] = {
            "run_started": self._run_started,
            "started": self._started,
            "progress": self._progress,
            "eval": self._eval,
            "note": self._note,
            "table": self._table,
            "gate": self._gate,
            "answer": self._answer,
            "finished": self._finished,
            "failed": self._failed,
            "run_finished": self._run_finished,
            "run_failed": self._run_failed,
        }

    def show(self, event: Event) -> None:
        """Show one event; kinds that are not known are ignored."""
        with self._lock:
            stage = self.board.take(event)
            method = self._methods.get(str(event.get("kind")))
            if method is not None:
                method(event, stage)

    @abstractmethod
    def close(self) -> None:
        """Give the terminal back as it was; may be called more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_error(self, event: Event) -> list[str] | None:
        """Return the lines of an error, or None when it was shown before.

        A stage may report its failure and the runner again; the run then fails with the same words.
        """
        message = "\n".join(line.rstrip() for line in clean_lines(event.get("error") or "")).strip("\n")
        name = str(event.get("stage", ""))
        earlier = [shown for place, shown in self.board.errors if place == name or not name]
        if any(message in shown or shown in message for shown in earlier):
            return None
        self.board.errors.append((name, message))
        return message.split("\n") if message else []

    @abstractmethod
    def _run_started(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _started(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _progress(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _eval(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _note(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _table(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _gate(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _answer(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _finished(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _failed(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _run_finished(self, event: Event, stage: Stage) -> None: ...

    @abstractmethod
    def _run_failed(self, event: Event, stage: Stage) -> None: ...
