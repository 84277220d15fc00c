"""Which host is named when a training on several fails."""

from __future__ import annotations

import pytest

from largeforge.cluster.blame import Ending, cause

PEER = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:17452"
MEMORY = "out of memory: 12 GiB were asked for"

KILLED = ["Root Cause (first observed failure):", "[0]:", "  time      : 2026-11-21_12:00:00", "  host      : node-b",
          "  rank      : 3 (local_rank: 1)", "  exitcode  : -9 (pid: 7)"]  # fmt: skip


def ending(host: str, **fields: object) -> Ending:
    return Ending(host, f"10.0.0.{ord(host) - 96}", 1, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("endings", "words"),
    [
        ([ending("a", error=PEER), ending("b", error=MEMORY)], "host b (10.0.0.2): out of memory"),
        ([ending("a", error=PEER), ending("b", lost=True, words=["Timeout, server 10.0.0.2 not responding."])],
         "host b (10.0.0.2): the connection was lost (Timeout, server 10.0.0.2 not responding.)"),
        ([ending("a", error=PEER), ending("b", error=PEER, words=KILLED)],
         "host b (10.0.0.2): one of its worker processes (rank 3) was killed by SIGKILL (often the kernel"),
        ([ending("a", words=[line.replace("-9", "-15") for line in KILLED]), ending("b", error=MEMORY)],
         "host b (10.0.0.2): out of memory"),
        ([ending("a", error=PEER), ending("b", error=PEER)], "host a (10.0.0.1): RuntimeError"),
        ([ending("a", lost=True, words=["{'loss': 1.0}"])], "host a (10.0.0.1): the connection was lost. The "),
    ],
)  # fmt: skip
def test_the_host_that_the_others_follow_is_named(endings: list[Ending], words: str) -> None:
    assert cause(endings).message().startswith(words)


def test_a_host_is_called_what_the_user_calls_it() -> None:
    assert Ending("here", "local", 137).message().startswith("host here: its processes were killed by SIGKILL")
    assert Ending("node-a", "node-a", 3).message().startswith("host node-a: its processes ended with exit code 3")
