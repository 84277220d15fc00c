"""Whoever knocks at the port where hosts meet before a training: he may say anything, at any speed."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from largeforge.cluster import link

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_what_a_host_says_and_what_follows_it(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(b'{"host": "h2", "key": "x"}\n{"failed"')
    assert link.hello(ends[0]) == ({"host": "h2", "key": "x"}, b'{"failed"')


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"[" * 4096, b"[1]\n", b"\xff\xfe\n", b"x" * 9000])
def test_what_is_no_sense_is_nothing(ends: tuple[socket.socket, socket.socket], words: bytes) -> None:
    ends[1].sendall(words)
    ends[1].shutdown(socket.SHUT_WR)
    assert link.hello(ends[0]) == ({}, b"")


def test_one_who_drips_does_not_keep_the_others_waiting(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HELLO_S", 0.3)
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.05):
            ends[1].sendall(b" ")

    dripping = threading.Thread(target=drip)
    dripping.start()
    found = link.hello(ends[0])
    over.set()
    dripping.join()
    assert found == ({}, b"")
