"""What a check found: one line for people, and a cure to paste."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "skipped", "warning", "error"]

LEVELS: tuple[Level, ...] = ("ok", "skipped", "warning", "error")
"""From what may be ignored to what stops a run."""


@dataclass(frozen=True)
class Finding:
    """One line of a check's result."""

    level: Level
    text: str
    """One sentence without a full stop."""
    cure: str = ""
    """A command to paste or an override; empty where there is nothing to cure."""
    check: str = ""
    """Name of the check; set by whoever runs it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        stop = "" if self.text.endswith("?") else "."
        cure = f" Cure: {self.cure}" if self.cure else ""
        return f"{self.check}: {self.text}{stop}{cure}"


def ok(text: str) -> Finding:
    """Return that all is well, with what was seen."""
    return Finding("ok", text)


def skipped(reason: str) -> Finding:
    """Return that there was nothing to look at, and why."""
    return Finding("skipped", reason)


def warning(text: str, cure: str) -> Finding:
    """Return something that may go wrong."""
    return Finding("warning", text, cure)


def error(text: str, cure: str) -> Finding:
    """Return something that a run cannot get past."""
    return Finding("error", text, cure)
