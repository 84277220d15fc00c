"""An interpreter of a host is compared with this one."""

from __future__ import annotations

from largeforge.onhosts.python import differences


def test_builds_of_one_version_are_equal_and_others_are_named() -> None:
    here = {"largeforge": "0.1.0", "torch": "2.13.0+cpu", "trl": "1.16.0"}
    assert differences(here, {"largeforge": "0.1.0", "torch": "2.13.0+cu128", "trl": "1.16.0"}) == []
    assert differences(here, {"largeforge": "0.1.0", "torch": "2.12.0"}) == [
        "torch is 2.12.0, and 2.13.0+cpu here",
        "trl is not there, and 1.16.0 here",
    ]
