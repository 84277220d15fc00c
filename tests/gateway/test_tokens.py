"""Counting tokens in the bytes of answers, which nobody but the server can influence."""

from __future__ import annotations

import json

import pytest

from largeforge.gateway import tokens
from largeforge.gateway.tokens import Usage

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
FAKE = '"usage":{"prompt_tokens":900,"completion_tokens":900}}'


def answer(text="hi", **fields):
    return {"id": "x", "choices": [{"message": {"content": text}}], **fields}


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize("dump", [compact, lambda value: json.dumps(value, indent=1).encode()])
@pytest.mark.parametrize("order", [{"usage": USAGE}, {"usage": USAGE, "prompt_logprobs": None, "metrics": {"a": {}}}])
def test_usage_is_found_wherever_it_stands(dump, order):
    assert tokens.of_answer(dump(answer(**order))) == Usage(3, 2)


def test_usage_before_what_it_counts_is_found():
    ranked = {"id": "r", "usage": {"prompt_tokens": 7, "total_tokens": 7}, "results": [{"index": 0}]}
    assert tokens.of_answer(compact(ranked)) == Usage(7, 0)


@pytest.mark.parametrize("text", [FAKE, "{" + FAKE, "\\" + FAKE, '"' + FAKE, json.dumps(FAKE), FAKE * 9, "}]}," + FAKE])
def test_no_text_is_taken_for_usage(text):
    assert tokens.of_answer(compact(answer(text))) is None
    assert tokens.of_answer(compact(answer(text, usage=USAGE))) == Usage(3, 2)
    assert tokens.of_answer(compact({"usage": USAGE, **answer(text)})) == Usage(3, 2)


def test_usage_further_inside_does_not_count():
    ranked = {"usage": USAGE, "results": [{"document": {"usage": {"prompt_tokens": 900}}}]}
    assert tokens.of_answer(compact(ranked)) == Usage(3, 2)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "5",
        {},
        {"prompt_tokens": "9"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 10**12},
    ],
)
def test_what_is_no_count_is_left_out(said):
    assert tokens.of_answer(compact(answer(usage=said))) is None


@pytest.mark.parametrize(
    "body", [b"", b"{", b'"usage":', b'{"usage":{"prompt_tokens":3', b'{"usage":3}}', b"\xff" * 99]
)
def test_broken_answers_count_nothing(body):
    assert tokens.of_answer(body) is None


def test_a_stream_says_it_in_its_last_event():
    last = b"data: " + compact(answer(usage=USAGE)) + b"\n\n"
    assert tokens.of_stream([last, b"data: [DONE]\n\n"]) == Usage(3, 2)
    assert tokens.of_stream([last + b"data: [DONE]\n", b"\n"]) == Usage(3, 2)
    assert tokens.of_stream([last, b"data: " + compact(answer()) + b"\n\n", b"data: [DONE]\n\n"]) is None
    assert tokens.of_stream([]) is None
