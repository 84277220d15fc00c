"""Command lines for hosts."""

from __future__ import annotations

import shlex

from largeforge.cluster.ssh import Target, command


def test_this_machine_takes_no_ssh() -> None:
    assert command(Target("local"), ["python", "-V"]) == ["python", "-V"]


def test_a_host_is_reached_without_questions_and_a_dead_connection_is_noticed() -> None:
    words = command(Target("node-a", "me", 2222, "my_config"), ["/opt/my env/python", "-V"])
    assert words[:4] == ["ssh", "-T", "-F", "my_config"]
    assert {"BatchMode=yes", "ControlPath=none", "ServerAliveInterval=5", "ServerAliveCountMax=6"} <= set(words)
    assert words[-7:-1] == ["-p", "2222", "-l", "me", "--", "node-a"]
    assert shlex.split(words[-1]) == ["exec", "/opt/my env/python", "-V"]


def test_a_word_that_a_shell_would_take_apart_arrives_whole() -> None:
    words = command(Target("node-a"), ["echo", "$HOME; rm -rf ~"])
    assert shlex.split(words[-1]) == ["exec", "echo", "$HOME; rm -rf ~"]
