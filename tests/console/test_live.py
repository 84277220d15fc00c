"""The live console: what stands on a terminal, at several widths."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import rich.console
from rich.cells import cell_len

from largeforge.console.live import LiveConsole
from largeforge.console.rows import RunningView
from tests.fakes import trained

HERE = Path(__file__).parent
EVENTS = [json.loads(line) for line in (HERE / "quickstart.jsonl").read_text().splitlines()]
START = EVENTS[0]["time"]
KINDS = (
    "started", "progress", "eval", "checkpoint", "sample", "table", "gate", "answer", "finished", "run_finished", "new",
)  # fmt: skip
ODD_FIELDS: list[dict[str, Any]] = [
    {}, {"step": "x", "total": [], "loss": {}, "metrics": {"a": "b"}, "mfu": "x"}, {"columns": 3, "rows": [1, {}]},
]  # fmt: skip
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Screen:
    """A terminal of a width, with a clock that stands at the last event."""

    def __init__(self, width: int, encoding: str = "utf-8", height: int = 50):
        self.raw = io.BytesIO()
        stream = io.TextIOWrapper(self.raw, encoding=encoding, write_through=True)
        self.rich = rich.console.Console(
            file=stream, width=width, height=height, force_terminal=True, color_system=None
        )
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
        size = {"width": self.rich.width, "height": self.rich.height}
        paper = rich.console.Console(file=io.StringIO(), force_terminal=True, color_system=None, **size)
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
        assert "loss 1.545" in text and "5.1k tok/s" in text and "0:31 left" in text
        assert ("█▇▆▅▄▄▃▂▂▂▁▁" if width < 96 else "██▇▆▅▅▆▄▄▄▄▃▃▃▂▂▂▂▂▂▁▁▁▁") in text


def side_by_side(*jobs: str) -> list[dict[str, Any]]:
    names = [f"{job}.train" for job in jobs]
    told = itertools.chain.from_iterable(trained.training(name, until=320) for name in names)
    return [trained.started(*names), *sorted(told, key=lambda one: float(one["time"]))]


def test_a_training_tells_all_its_figures() -> None:
    screen = Screen(80, height=24)
    with screen.live:
        screen.show(trained.started("prepare", "train"), *trained.training(until=320))
        screen.now += 3
        assert [line.rstrip() for line in screen.running()[2:]] == [
            "  loss 0.880 █▆▅▄▃▃▂▂▂▁▁▁   held out 1.097 at 300   lr 7.23e-6   grad norm 1.093",
            "  12.1k tok/s   MFU 41%   GPU 97%   memory 61.2 of 79.2 GiB",
            "  so far 5:23, $0.32   to go $0.18   saved 300 (best)",
            "  0 of 2 stages  5:33",
        ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
@pytest.mark.parametrize("height", [10, 24, 50])
def test_trainings_side_by_side_fit_the_terminal(width: int, height: int) -> None:
    screen = Screen(width, height=height)
    with screen.live:
        screen.show(*side_by_side("general", "mapper", "support"))
        lines = screen.running()
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= height or width < 60
    text = "\n".join(lines)
    assert text.count("320/500") == 3
    assert text.count("MFU 41%") == (3 if height >= 24 else 0)


def test_a_training_that_continues_shows_the_time_of_all_attempts() -> None:
    screen = Screen(100)
    with screen.live:
        screen.show(event("started"), event("progress", 10, step=10, total=40, loss=1.0, seconds_so_far=3600.0))
        screen.now += 5
        assert "so far 1:00:05" in "\n".join(screen.running())


def test_a_finished_training_says_how_it_went() -> None:
    screen = Screen(100)
    with screen.live:
        screen.show(*trained.training(), trained.event("finished", 520, seconds=510.0))
    told = " ".join(screen.text[screen.text.index("✓ train") :].split())
    assert all(word in told for word in ("loss 0.793", "held out 0.937", "500 steps", "MFU 41%", "$0.50", "8 min 30 s"))


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


@pytest.mark.parametrize(
    "fields",
    [{}, {"step": "x", "total": [], "loss": {}, "metrics": {"a": "b"}, "mfu": "x"}, {"columns": 3, "rows": [1, {}]}],
)
@pytest.mark.parametrize(
    "kind",
    [
        "started",
        "progress",
        "eval",
        "checkpoint",
        "sample",
        "table",
        "gate",
        "answer",
        "finished",
        "run_finished",
        "new",
    ],
)
def test_odd_events_do_not_stop_a_run(kind: str, fields: dict[str, Any]) -> None:
    screen = Screen(80)
    with screen.live:
        screen.show(event(kind, **fields), event("note", text="still here"))
    assert "still here" in screen.text
