"""Another name for the model changes nothing else in a body; depth is found however a body is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from largeforge.gateway.errors import ApiError
from largeforge.gateway.request import MAX_DEPTH, parse

TEXTS = st.one_of(
    st.sampled_from(["model", '"model"', 'say "model', "auto", ': "auto"', "\\", '\\"model']), st.text(max_size=8)
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150)
@given(extra=st.dictionaries(TEXTS, VALUES, max_size=4), name=TEXTS, is_last=st.booleans(), ascii_only=st.booleans())
def test_another_name_changes_nothing_else(extra, name, is_last, ascii_only):
    extra.pop("model", None)
    rest = {**extra, "prompt": "x"}
    payload = {**rest, "model": name} if is_last else {"model": name, **rest}
    body = json.dumps(payload, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        request = parse(body, "completion")
    except ApiError:
        return  # it is refused, so nobody is asked
    assert json.loads(request.body_for("expert-1")) == {**payload, "model": "expert-1"}


def test_depth_is_found_however_many_brackets_there_are():
    flat = json.dumps({"prompt": "[{" * 500, "stop": [[1], [2]] * 300})
    assert parse(flat.encode(), "completion").model == "auto"
    deep = json.dumps({"prompt": "x"})[:-1] + ', "deep": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}"
    with pytest.raises(ApiError, match="nested"):
        parse(deep.encode(), "completion")
