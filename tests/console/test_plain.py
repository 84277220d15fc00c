"""The plain console: what stands in a log."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge.console import make_console
from tests.fakes import trained

HERE = Path(__file__).parent
EVENTS = [json.loads(line) for line in (HERE / "quickstart.jsonl").read_text().splitlines()]
KINDS = (
    "started", "progress", "eval", "checkpoint", "sample", "table", "gate", "answer", "finished", "run_finished", "new",
)  # fmt: skip
ODD_FIELDS: list[dict[str, Any]] = [
    {}, {"step": "x", "total": [], "loss": {}, "metrics": {"a": "b"}, "mfu": "x"}, {"columns": 3, "rows": [1, {}]},
]  # fmt: skip


def log(events: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    with make_console(stream) as console:
        for event in events:
            console.show(event)
    return stream.getvalue()


def event(kind: str, time: float = 0.0, stage: str = "general.train", **fields: Any) -> dict[str, Any]:
    return {"time": 1e9 + time, "stage": stage, "kind": kind, **fields}


def test_a_run_reads_as_the_golden_log() -> None:
    """After a wanted change, write `log(EVENTS)` to quickstart.log and read the difference."""
    assert log(EVENTS) == (HERE / "quickstart.log").read_text()


def test_data_cannot_move_the_cursor_or_forge_lines() -> None:
    nasty = "\x1b[2Jgone\x1b]0;title\x07 \r\n0.0s run done\x00\x9b31m\u202e[red]x[/red]"
    for kind, field in [("note", "text"), ("answer", "text"), ("failed", "error"), ("started", "title")]:
        text = log([event(kind, **{field: nasty})])
        assert "gone" in text and "[red]x[/red]" in text
        assert all(character.isprintable() or character == "\n" for character in text)
        assert not any(line.startswith("0.0s run done") for line in text.splitlines())


def test_progress_is_sparse_and_the_last_step_is_shown() -> None:
    steps = [event("progress", step / 10, step=step, total=10_000, loss=1.0) for step in range(1, 10_001)]
    lines = log([event("started"), *steps]).splitlines()[1:]
    assert 20 < len(lines) < 120
    times = [float(line.split("s")[0]) for line in lines[:-1]]
    assert all(after - before >= 4.9 for before, after in itertools.pairwise(times))
    assert "step 10000/10000" in lines[-1] and "left" not in lines[-1]


def test_a_training_tells_its_figures_in_a_line() -> None:
    lines = log(trained.training(until=320)).splitlines()
    assert lines[-1].split(maxsplit=2)[2] == (
        "step 320/500  loss 0.880  lr 7.23e-6  12.1k tok/s  MFU 41%  GPU 97%  memory 61.2 of 79.2 GiB  "
        "3:00 left  $0.32 of $0.50  saved 300 (best)"
    )
    assert [line.split(maxsplit=2)[2] for line in lines if "held out" in line][-1] == (
        "held out at step 300  loss 1.097  mean_token_accuracy 0.781"
    )


def test_interleaved_stages_keep_their_own_pace() -> None:
    both = [event("progress", t, stage=s, step=t, total=100) for t in range(100) for s in ("a.train", "b.train")]
    text = log(both)
    assert text.count("a.train") == text.count("b.train") == 20


def test_a_loss_that_is_not_a_number_is_said() -> None:
    assert "loss nan" in log([event("progress", step=1, total=2, loss="nan")])


def test_an_error_is_printed_once() -> None:
    error = "general.train: out of memory\n  batch_size = 64: the nearest that fits is 16"
    text = log(
        [
            event("failed", 1, error=error),
            event("failed", 2, error=error),
            event("run_failed", 3, stage="", error=error, exit_code=1, resume_command="python -m largeforge +recipe=x"),
        ]
    )
    assert text.count("out of memory") == 1 and text.count("nearest that fits") == 1
    assert "run FAILED" in text and "    python -m largeforge +recipe=x\n" in text


def test_two_stages_may_fail_for_the_same_reason() -> None:
    text = log([event("failed", stage="a", error="no space left"), event("failed", stage="b", error="no space left")])
    assert text.count("no space left") == 2


def test_an_interruption_is_not_a_failure() -> None:
    text = log([event("run_failed", stage="", error="", exit_code=130)])
    assert "interrupted" in text and "FAILED" not in text


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
    assert "still here" in log([event(kind, **fields), event("note", text="still here")])


def test_unknown_kinds_are_ignored() -> None:
    assert log([event("checkpoint", path="x")]) == ""


def test_text_that_the_stream_cannot_encode_is_replaced() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    make_console(stream, plain=True).show(event("note", text="Zürich → 東京 \ud800"))
    assert "Z?rich" in raw.getvalue().decode("ascii")


def test_each_line_reaches_a_pipe_at_once_and_a_closed_pipe_does_not_end_the_run() -> None:
    program = """
import sys
from largeforge.console import make_console
note = {"time": 1.0, "stage": "a", "kind": "note", "text": "first"}
with make_console() as console:
    console.show(note)
    sys.stdin.readline()
    for _ in range(3):
        console.show(note)
print("the run went on", file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        assert "first" in process.stdout.readline()
        process.stdout.close()
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stderr.read() == "the run went on\n"
    assert process.returncode == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "is_plain"),
    [
        ({"TERM": "xterm"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True),
        ({"TERM": "dumb"}, True),
        ({"TERM": ""}, True),
    ],
)
def test_the_view_follows_the_terminal(
    environment: dict[str, str], is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delitem(os.environ, name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    with make_console(stream) as console:
        console.show(event("started", title="Train"))
    assert ("\x1b" not in stream.getvalue()) is is_plain
