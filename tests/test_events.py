"""One event is one line, for every reader of lines."""

from __future__ import annotations

from largeforge import events


def test_an_answer_with_other_ends_of_lines_stays_one_event() -> None:
    event = {"time": 1.0, "stage": "train", "kind": "sample", "text": "one\u2028two\u0085three\u2029four\x0bfive\nsix"}
    line = events.encode(event)
    assert line.splitlines() == [line]
    assert events.decode(line) == event
