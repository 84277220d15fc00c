"""The compact set says what Python's own says."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from largeforge.data.key_set import KeySet


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5)))
def test_it_is_a_set(keys: list[int]) -> None:
    ours, theirs = KeySet(), set[int]()
    for key in keys:
        key = key or 1  # 0 and 1 are one key: of a hash, both are as good as impossible
        assert ours.add(key) == (key not in theirs)
        theirs.add(key)
        assert len(ours) == len(theirs)
    assert all((key in ours) == ((key or 1) in theirs) for key in [*keys, 0, 7, 2**63])


def test_it_grows() -> None:
    chance = random.Random(5)
    keys = [chance.getrandbits(64) for _ in range(20_000)]
    ours = KeySet()
    assert all(ours.add(key) for key in keys)
    assert not any(ours.add(key) for key in keys)
    assert not any(chance.getrandbits(64) in ours for _ in range(20_000))
