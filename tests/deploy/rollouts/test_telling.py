"""What people and programs are told of rollouts."""

from __future__ import annotations

from rich.console import Console

from largeforge.deploy.rollouts import plain, telling
from tests.deploy.rollouts.test_looking import counted, document, group, watched


def printed(*parts: object) -> str:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()


def test_a_plan_says_how_long_it_takes_and_what_sends_it_back() -> None:
    both = document(group("code"), group("chat", strategy="shadow"))
    text = printed(*telling.planned(both))
    assert "canary 0.1 → 1: 10 s and 100 requests each at least" in text
    assert "more than 0.01 errors, more than 0.01 of requests above 500 ms" in text and "(alpha 0.01)" in text
    assert "chat  shadow of 1 of the requests" in text and "registry:shop/1 → registry:shop/2" in text
    begun = watched(document(), [counted(0, 0), counted(1, 9)])
    assert "is under way, and would be gone on with" in printed(*telling.planned(begun))


def test_the_newest_is_shown_whole_with_what_was_decided_and_why() -> None:
    after = watched(document(), [counted(20 * number, 180 * number, bad=9 * number) for number in range(9)])
    over = after.over("rolled_back", after.why)
    text = printed(telling.shown("shop", [document(), over]))
    assert text.count(over.id) == 2 and "rolled back" in text and "roll back" in text
    assert "of the canary" in text and "requests of canary" in text and "errors" in text
    assert "under way" in text.splitlines()[-1], "those before in a line each"
    assert "no rollout" in printed(telling.shown("shop", []))


def test_programs_are_told_the_same() -> None:
    after = watched(document(), [counted(20 * number, 180 * number) for number in range(4)])
    told = plain.as_dict(after)
    assert told["ended"] == "" and told["servers"][0]["share"] == 0.1
    assert told["servers"][0]["observed"]["canary"]["requests"] == 60
    assert [entry["action"] for entry in told["servers"][0]["log"]] == ["step"]
    assert plain.as_dict(document())["servers"][0]["phase"] == "observing"
