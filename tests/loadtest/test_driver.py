"""What the driver lets the tool see of a stream; that the tool takes it is shown with the real one (tests/e2e)."""

from __future__ import annotations

import json

import pytest

from largeforge.loadtest.driver import is_token


def piece(**fields):
    return f"data: {json.dumps(fields)}"


def test_tokens_usage_and_ends_are_seen():
    assert is_token(piece(choices=[{"delta": {"content": 'says "error" and "role"'}}]))
    assert is_token(piece(choices=[{"delta": {"role": "assistant", "content": "Hi"}}]))
    assert is_token(piece(choices=[{"delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]))
    assert is_token(piece(choices=[], usage={"completion_tokens": 2}, error=None))
    assert is_token("data: [DONE]")
    assert is_token(': "role"')


def test_the_piece_that_only_names_the_role_is_no_token():
    assert not is_token(piece(choices=[{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "secret", "code": 500}, "500"),
        ({"message": "secret", "type": "Server"}, "Server"),
        ("secret", "unknown"),
    ],
)
def test_an_error_within_a_stream_is_raised_without_its_words(error, kind):
    with pytest.raises(RuntimeError, match=f"in an error: {kind}") as raised:
        is_token(piece(error=error))
    assert "secret" not in str(raised.value)
