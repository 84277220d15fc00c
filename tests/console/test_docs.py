"""What docs/watch.md shows is what stands on a terminal."""

from __future__ import annotations

import re
from pathlib import Path

from tests.console.test_live import Screen
from tests.console.test_plain import log
from tests.fakes import trained

PAGE = (Path(__file__).parents[2] / "docs" / "watch.md").read_text(encoding="utf-8")
STAGES = ("prepare", "train", "evaluate", "register")


def block(name: str) -> list[str]:
    found = re.search(rf"<!-- {name}: .*? -->\n```\n(.*?)\n```", PAGE, re.S)
    assert found, f"docs/watch.md has no block {name}"
    return [line.rstrip() for line in found[1].split("\n")]


def events(until: int) -> list[trained.Event]:
    prepared = [trained.event("started", 1, "prepare"), trained.event("finished", 3, "prepare", seconds=2.0)]
    return [trained.started(*STAGES), *prepared, *trained.training(until=until)]


def test_the_live_view() -> None:
    screen = Screen(80, height=24)
    with screen.live:
        screen.show(*events(320))
        screen.now += 3
        shown = [line.rstrip() for line in screen.running()]
    assert [re.sub("^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "⠋", line) for line in shown] == block("live")


def test_the_plain_lines() -> None:
    assert block("plain")[0] in log(events(320)).splitlines()
