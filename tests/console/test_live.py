"""The live console: what stands on a terminal, at several widths."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import rich.console
from rich.cells import cell_len

from largeforge.console.live import LiveConsole
from largeforge.console.rows import RunningView

HERE = Path(__file__).parent
EVENTS = [json.loads(line) for line in (HERE / "quickstart.jsonl").read_text().splitlines()]
START = EVENTS[0]["time"]
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Screen:
    """A terminal of a width, with a clock that stands at the last event."""

    def __init__(self, width: int, encoding: str = "utf-8"):
        self.raw = io.BytesIO()
        stream = io.TextIOWrapper(self.raw, encoding=encoding, write_through=True)
        self.rich = rich.console.Console(file=stream, width=width, height=50, force_terminal=True, color_system=None)
        self.now = START
        self.live = LiveConsole(self.rich, clock=lambda: self.now, auto_refresh=False)

    def show(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.now = event["time"]
            self.live.show(event)

    @property
    def text(self) -> str:
        return self.raw.getvalue().decode(self.rich.encoding)

    def running(self) -> list[str]:
        """What the moving part shows now."""
        paper = rich.console.Console(file=io.StringIO(), width=self.rich.width, force_terminal=True, color_system=None)
        with paper.capture() as captured:
            paper.print(RunningView(self.live.board, lambda: self.now, is_ascii=False))
        return captured.get().splitlines()


def event(kind: str, time: float = 0.0, stage: str = "general.train", **fields: Any) -> dict[str, Any]:
    return {"time": START + time, "stage": stage, "kind": kind, **fields}


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_run_shows_at_any_width(width: int) -> None:
    screen = Screen(width)
    with screen.live:
        screen.show(*EVENTS)
    for word in ("quickstart", "✓ general.train", "heldout_loss", "✗ json_valid", "Lisbon.", "champion", "Done in"):
        assert word in screen.text
    command = EVENTS[-1]["next"][1]["command"]
    assert command in screen.text, "a command must stay one line, to be copied"


@pytest.mark.parametrize("width", [40, 60, 100, 160])
def test_running_stages_fit_the_width(width: int) -> None:
    screen = Screen(width)
    with screen.live:
        screen.show(*[event for event in EVENTS if event["time"] < START + 20])
        lines = screen.running()
    assert all(cell_len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "general.train" in text and "180/500" in text and "3 of 14 stages  0:20" in text
    if width >= 60:
        assert "loss 1.545" in text and "5.1k tok/s" in text and "0:31 left" in text and "█▇▆▅▄▄▃▂▂▂▁▁" in text


def test_time_left_counts_down_between_events() -> None:
    screen = Screen(100)
    with screen.live:
        screen.show(event("started"), event("progress", 10, step=10, total=40))
        assert "0:30 left" in screen.running()[0]
        screen.now += 7
        assert "0:23 left" in screen.running()[0]


def test_a_stage_without_steps_shows_its_title_and_time() -> None:
    screen = Screen(100)
    with screen.live:
        screen.show(event("started", stage="serve", title="Start vLLM"))
        screen.now += 65
        assert "serve  Start vLLM" in screen.running()[0] and screen.running()[0].rstrip().endswith("1:05")


def test_text_from_events_is_never_markup() -> None:
    nasty = "[bold red]x[/bold red] :smile: [/] \x1b[31m"
    screen = Screen(100)
    with screen.live:
        screen.show(
            event("started", title=nasty),
            event("note", text=nasty),
            event("table", title=nasty, columns=[nasty], rows=[[nasty]]),
            event("gate", metric=nasty, condition=nasty, value=nasty, passed=False),
            event("answer", prompt=nasty, text=nasty, expert=nasty, client=nasty, latency_ms="x", stream=False),
            event("failed", error=nasty),
            event("run_failed", stage="", error=nasty, exit_code=1, resume_command=nasty),
        )
    assert screen.text.count("[bold red]x[/bold red] :smile: [/]") >= 9
    assert "\x1b[31m" not in screen.text


def test_an_error_is_shown_once_with_how_to_go_on() -> None:
    screen = Screen(80)
    with screen.live:
        screen.show(
            event("started"),
            event("failed", error="out of memory"),
            event("run_failed", stage="", error="out of memory", exit_code=1, resume_command="largeforge +recipe=x"),
        )
    assert screen.text.count("out of memory") == 1
    assert "✗ general.train failed" in screen.text and "largeforge +recipe=x" in screen.text


def test_the_cursor_comes_back_when_something_goes_wrong() -> None:
    screen = Screen(80)
    with pytest.raises(KeyError), screen.live:
        screen.show(event("started"))
        assert screen.text.endswith(HIDE_CURSOR) or HIDE_CURSOR in screen.text
        raise KeyError
    assert screen.text.rindex(SHOW_CURSOR) > screen.text.rindex(HIDE_CURSOR)
    screen.live.close()


def test_a_terminal_without_unicode_gets_ascii() -> None:
    screen = Screen(100, encoding="ascii")
    with screen.live:
        screen.show(*[event for event in EVENTS if event["time"] < START + 60])
    assert "ok general.train" in screen.text and "ok exact_match" in screen.text


@pytest.mark.parametrize("fields", [{}, {"step": "x", "total": [], "loss": {}}, {"columns": 3, "rows": [1, {}]}])
@pytest.mark.parametrize("kind", ["started", "progress", "table", "gate", "answer", "finished", "run_finished", "new"])
def test_odd_events_do_not_stop_a_run(kind: str, fields: dict[str, Any]) -> None:
    screen = Screen(80)
    with screen.live:
        screen.show(event(kind, **fields), event("note", text="still here"))
    assert "still here" in screen.text
