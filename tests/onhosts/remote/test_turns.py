"""Who has the next turn on a host."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import places
from turns import standing, ticket, waiting

if TYPE_CHECKING:
    import pytest


def request(base: Path, name: str, **changed: Any) -> dict[str, Any]:
    found = {"base": str(base), "id": name, "who": f"{name}@desk", "what": "small, train", "gpus": 0}
    return {**found, "gpu_names": [], "limit": 0, **changed}


@contextmanager
def taken(base: Path, place: str, who: str) -> Iterator[None]:
    """A place that somebody computes at."""
    (base / f"queue/{place}.json").write_text(json.dumps({"who": who, "what": "big, train", "since": 1.0}))
    with (base / f"queue/{place}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_the_first_in_line_has_its_turn_when_the_place_is_free(base: Path) -> None:
    with ExitStack() as stack:
        anna, ben = request(base, "anna"), request(base, "ben")
        first, second = (
            stack.enter_context(ticket(str(base), anna)),
            stack.enter_context(ticket(str(base), ben)),
        )
        with taken(base, "cpu", "carl@home"):
            said = standing(str(base), anna, first)
            assert (said["kind"], said["position"]) == ("waiting", 1)
            assert [one["who"] for one in said["holders"]] == ["carl@home"]
        assert standing(str(base), anna, first) == {"kind": "turn"}
        behind = standing(str(base), ben, second)
        assert (behind["position"], [one["who"] for one in behind["ahead"]]) == (2, ["anna@desk"])


def test_a_ticket_whose_holder_died_is_removed(base: Path) -> None:
    dead = base / "queue/waiting/00000000000000000001-dead0"
    dead.write_text(json.dumps({"id": "dead", "who": "x", "what": "y", "gpus": 0}))
    with ticket(str(base), request(base, "anna")) as mine:
        assert standing(str(base), request(base, "anna"), mine) == {"kind": "turn"}
    assert not dead.exists() and waiting(str(base)) == []


def test_gpus_are_leased_one_by_one_and_one_that_others_use_is_not_free(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [{"uuid": f"GPU-{i}", "name": "L40S", "memory_bytes": 48 << 30, "used_bytes": 0} for i in range(2)]
    monkeypatch.setattr(places, "gpus", lambda: gpus)
    one = request(base, "anna", gpus=1)
    with taken(base, "GPU-0", "carl@home"), ticket(str(base), one) as mine:
        assert standing(str(base), one, mine) == {"kind": "turn"}
        two = {**one, "gpus": 2}
        assert standing(str(base), two, mine)["free"] == 1
        gpus[1]["used_bytes"] = 5 << 30
        said = standing(str(base), one, mine)
        assert [(held["who"], held["what"]) for held in said["holders"]][1] == (
            "another program",
            "5 GiB of its memory",
        )
    assert places.candidates({**one, "gpu_names": ["H100"]}) == []
    assert places.candidates({**one, "limit": 1}) == ["GPU-0"]
