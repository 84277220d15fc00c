"""What people are told of hosts: a log for each, a table, and what to do about a failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from largeforge.deploy import telling
from largeforge.deploy.controller import Outcome
from largeforge.deploy.update import Done, Release, Replacement


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("h3: model abc: sh: 1: cannot create /srv/x: No space left on device", "paths.root"),
        ("nothing was changed: h2: ssh: connect to host 10.0.0.2 port 22: Connection timed out", "hosts check lab"),
        ("h1: Host key verification failed.", "ssh-keygen -R"),
        ("nothing was changed: h1: anna@desk (process 7) is changing this deployment; wait", "its lock goes"),
        ("h2: general: x.service did not start: RuntimeError", "logs lab shop"),
        ("h2: general: it ended 3 s after it was ready: x. NOTHING SERVES THERE NOW", "rollback lab shop"),
    ],
)
def test_a_failure_says_what_to_do(message: str, words: str) -> None:
    told = telling.advice(message, inventory="lab", deployment="shop")
    assert told.startswith("What to do:\n") and words in told and "{" not in told


def test_what_is_not_known_has_no_advice() -> None:
    assert telling.advice("something else", inventory="lab", deployment="shop") == ""


def test_each_host_has_a_log(tmp_path: Path) -> None:
    logs = telling.HostLogs(tmp_path / "hosts")
    for host, text in (("h1", "prepared"), ("", "waiting"), ("h1", "two\nlines")):
        logs.write(host, text)
    lines = (tmp_path / "hosts" / "h1.log").read_text().splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["prepared", "two", "lines"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", line) for line in lines)
    assert (tmp_path / "hosts" / "deployment.log").read_text().endswith("  waiting\n")


def test_an_error_is_told_to_the_hosts_that_it_names() -> None:
    message = "nothing that runs was changed:\nh1: sudo: a password is required\nh2: full: x\nh1: more"
    assert telling.by_host(message, {"h1": 0, "h2": 0}) == {"h1": "sudo: a password is required\nmore", "h2": "full: x"}


def test_the_table_has_a_row_for_each_host() -> None:
    old, new = (Release("h1", "general", key, f"{key}.service", 18000) for key in ("a", "b"))
    done = [Done(Replacement(new, old, "fixed"), 5.0, 2.25)]
    gone = [Release("h2", "support", "c", "c.service", 18001)]
    rows = telling.table(Outcome(changed={"h2": 0, "h1": 4, "h3": 0}, done=done, removed=gone))["rows"]
    assert rows == [
        ["h1", 4, "general replaced", "2.2 s"],
        ["h2", 0, "support stopped", "–"],
        ["h3", 0, "as they were", "–"],
    ]
