"""Why a stage failed, by what each of its hosts said and wrote down."""

from __future__ import annotations

from typing import Any

import pytest

from largeforge.onhosts import ends
from largeforge.onhosts.following import Ending

LOST = "host {} (10.0.0.2): the connection was lost. The processes on all other hosts were ended."


def end(last: dict[str, Any] | None = None, **ended: Any) -> Ending:
    return Ending({"code": 1, **ended}, [20], {"kind": "failed", **last} if last else {})


def lost(host: str) -> dict[str, Any]:
    return {"error": LOST.format(host), "exit_code": 1, "reason": "", "host": host, "lost": True}


KILLED = {"code": None, "result": "signal", "status": "KILL"}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"a": end(**KILLED)}, "its unit on a was killed (signal KILL)"),
        ({"a": end({"error": "loss is NaN"})}, "loss is NaN"),
        ({"a": end(lost("b")), "b": end(**KILLED)},
         "its unit on b was killed (signal KILL); the other hosts ended with it"),
        ({"a": end(**KILLED), "b": end(lost("a"))},
         "its unit on a was killed (signal KILL); the other hosts ended with it"),
        ({"a": end(lost("b")), "b": end(code=None, restarted=True)},
         "b was restarted while the stage ran there; the other hosts ended with it"),
        ({"a": end(lost("b")), "b": None},
         "b was lost while it trained, and is still out of reach; the other hosts ended with it"),
        ({"a": end(lost("b")), "b": end(lost("a"))}, LOST.format("b")),
        ({"a": end(lost("b")), "b": end({"error": "host b does not reach a", "host": "b", "lost": False})},
         "host b does not reach a"),
        ({"a": end({"error": "host b: no disk", "host": "b", "lost": False}), "b": end()}, "host b: no disk"),
        ({"a": end({"error": "host b: killed", "host": "b", "lost": False}), "b": end(memory=True)},
         "out of memory: the kernel of b killed its process"),
        ({"a": end(cancelled=True), "b": end(lost("a"))}, "it was ended on a (python -m largeforge cancel)"),
    ],
)  # fmt: skip
def test_the_cause_is_told_as_well_as_anybody_knows_it(found: dict[str, Ending | None], text: str) -> None:
    assert ends.why(found).text == text


def test_what_a_training_says_of_its_memory_is_handed_on() -> None:
    last = {"error": "too little", "exit_code": 5, "reason": "out_of_memory", "memory_gib": 7.5, "host": "b"}
    assert ends.why({"a": end(last), "b": end()}) == ends.Reason("too little", 5, "out_of_memory", 7.5)


class Followed:
    """A host that says at once how it ended, or is out of reach."""

    def __init__(self, name: str, found: Ending | None):
        self.host, self.found, self.patience_s = type("Host", (), {"name": name}), found, 3600.0

    def run(self) -> Ending:
        from largeforge.errors import DeployError

        if self.found is None:
            raise DeployError(f"{self.host.name}: out of reach")
        return self.found


def test_hosts_out_of_reach_are_not_waited_for_once_all_is_over() -> None:
    followers: list[Any] = [Followed("a", end(lost("b"))), Followed("b", None)]
    assert ends.of_all(followers) == {"a": end(lost("b")), "b": None}
    assert {each.patience_s for each in followers} == {ends.HURRY_S}


def test_the_others_are_not_waited_for_when_the_artifact_is_there() -> None:
    done = Ending({"code": 0, "files": {}}, [], {"kind": "result"})
    followers: list[Any] = [Followed("a", done), Followed("b", None)]
    assert ends.of_all(followers)["a"] is done
    assert followers[1].patience_s == 3600
