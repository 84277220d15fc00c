"""Carries a run's events to one tracker, from where the last sitting ended.

How far it came stands in `<run>/tracking/<name>.json`, by target: the same events sent to another
server begin at the beginning. The place moves on only over what is safe there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge import artifacts, events
from largeforge.errors import TrackingError
from largeforge.recipe import extensions
from largeforge.recipe.tracking import Place
from largeforge.tracking.about import about, files
from largeforge.tracking.records import Translator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from largeforge.recipe.base import Extension
    from largeforge.recipe.tracking import About, Record, Tracker

EVENTS = "events.jsonl"
FOLDER = "tracking"
_MAX_MESSAGE = 300
_PAGE = re.compile(r':? \{"data"|<!DOCTYPE|<html', re.IGNORECASE)
_MAX_BYTES = 2**20
"""Bytes of events that are read at once."""


@dataclass
class Upload:
    """One run on its way to one tracker."""

    run_dir: Path
    config: Extension
    registry: dict[str, Any]
    about: About = field(init=False)

    def __post_init__(self) -> None:
        self.about = about(self.run_dir)
        self._module = extensions.load("tracking", self.config.name)
        self._place = Place(self.run_dir / FOLDER, self.registry)
        self._to = str(self._module.destination(self.config, self.about, self._place))
        self._tracker: Tracker | None = None
        self._offset = 0
        self._begin()

    @property
    def target(self) -> str:
        """Where the run is sent, for people."""
        return self._to.strip()

    def advance(self) -> bool:
        """Send the next events; return whether there were any.

        Raises TrackingError; what was not safe is then sent again by the next call.
        """
        lines, end = _lines(self.run_dir / EVENTS, self._offset)
        if end == self._offset:
            return False
        try:
            self._write([record for line in lines for record in self._records(line)])
        except TrackingError as error:
            self._tracker = None
            self._begin()
            raise TrackingError(_shortened(str(error))) from error
        self._offset = end
        if self._tracker is None or self._tracker.durable:
            self._keep(end)
        return True

    def close(self) -> None:
        """Send the files and let the tracker finish.

        Raises TrackingError.
        """
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        try:
            tracker.close(files(self.run_dir, self.about))
        except TrackingError as error:
            raise TrackingError(_shortened(str(error))) from error
        self._keep(self._offset)

    def _begin(self) -> None:
        """Go to where the last sitting ended."""
        self._offset = self._states().get(self._to, 0)
        done = _finished(self.run_dir / EVENTS, self._offset)
        self._translator = Translator(self.about, self.run_dir, done=done)

    def _write(self, records: list[Record]) -> None:
        if records:
            self._tracker = self._tracker or self._module.connect(self.config, self.about, self._place)
            self._tracker.write(records)

    def _records(self, line: str) -> Iterator[Record]:
        event = events.decode(line)
        return iter(()) if event is None else self._translator.records(event)

    @property
    def _state(self) -> Path:
        return self.run_dir / FOLDER / f"{self.config.name}.json"

    def _states(self) -> dict[str, int]:
        try:
            found = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {to: place for to, place in found.items() if isinstance(place, int)} if isinstance(found, dict) else {}

    def _keep(self, offset: int) -> None:
        artifacts.write_json(self._state, {**self._states(), self._to: offset})


def _shortened(message: str) -> str:
    """Return a message without the page that a server may have answered with."""
    words = " ".join(_PAGE.split(message)[0].split())
    return words if len(words) <= _MAX_MESSAGE else f"{words[:_MAX_MESSAGE]}…"


def _lines(path: Path, offset: int) -> tuple[list[str], int]:
    """Return the whole lines after an offset, and where they end; half a line is left for later."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(_MAX_BYTES)
            if len(data) == _MAX_BYTES:
                data += stream.readline()  # a line may be longer
    except OSError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace").splitlines(), offset + len(whole)


def _finished(path: Path, offset: int) -> set[str]:
    """Return the stages that were finished before an offset."""
    found: set[str] = set()
    place = 0
    while place < offset:
        lines, end = _lines(path, place)
        if end == place:
            break
        place = end
        told = (events.decode(line) for line in lines if '"finished"' in line)
        found |= {str(event["stage"]) for event in told if event is not None and event["kind"] == "finished"}
    return found
