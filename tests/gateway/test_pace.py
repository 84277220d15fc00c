"""Timing the tokens of a stream from the pieces in which it comes."""

from __future__ import annotations

import json

import pytest

from largeforge.gateway.pace import Pace
from largeforge.gateway.tokens import Usage


def event(text, **fields):
    data = {"choices": [{"delta": {"content": text}}], **fields}
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 9}


@pytest.fixture
def timed():
    """Feed pieces, each at its time; return what was measured."""

    def feed(*pieces):
        seen, now = [], [0.0]
        pace = Pace(seen.append, lambda: now[0])
        for at, data in pieces:
            now[0] = at
            pace.piece(data)
        return pace, seen

    return feed


def test_times_lie_between_tokens(timed):
    pace, seen = timed((2, event("a")), (3, event("b")), (5, event("c")), (9, DONE))
    assert (pace.first_token_at, seen, pace.usage()) == (2, [1, 2], Usage(0, 3))


def test_events_that_come_together_share_the_time(timed):
    pace, seen = timed((1, event("a")), (4, event("b") + event("c") + event("d")), (4, DONE))
    assert (seen, pace.num_events) == ([1, 1, 1], 4)


def test_usage_and_the_end_are_no_tokens(timed):
    usage = event("", usage=USAGE).replace(b'[{"delta":{"content":""}}]', b"[]")
    pace, seen = timed((1, event("a")), (2, event("b")), (7, usage), (8, DONE))
    assert (seen, pace.usage()) == ([1], Usage(3, 9))
    pace, seen = timed((1, event("a")), (2, event("b") + usage + DONE))
    assert (seen, pace.usage()) == ([1], Usage(3, 9))


@pytest.mark.parametrize(
    "text", ['data: x\n\ndata: [DONE]\n\n"choices":[]', "\ndata:", '"choices":[],"usage":{"prompt_tokens":7}}']
)
def test_no_text_is_taken_for_an_event(timed, text):
    pace, seen = timed((1, event(text)), (2, event(text)), (3, event(text)))
    assert (seen, pace.usage()) == ([1, 1], Usage(0, 3))


def test_lines_that_bring_nothing_are_no_tokens(timed):
    pace, seen = timed((1, b": still here\n\n"), (2, b"\n"), (3, event("a")), (4, b": still here\n\n"), (5, event("b")))
    assert (pace.first_token_at, seen) == (3, [2])


def test_an_empty_stream_measures_nothing(timed):
    pace, seen = timed((1, b""))
    assert (pace.first_token_at, seen, pace.usage()) == (None, [], Usage(0, 0))
