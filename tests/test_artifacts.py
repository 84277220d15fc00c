"""Files that grow: what a kill cut short in the middle of a line damages nothing that comes after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from largeforge.artifacts import append_line, drop_unfinished_line
from largeforge.data.rows import read_rows


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"a": 2', b'{"a": 1}\n'),
        (b'{"a"', b""),
        (b"x\n" + b"y" * 200_000, b"x\n"),
        (b"y" * 200_000, b""),
        (b"y" * 65_536 + b"\n" + b"z" * 65_536, b"y" * 65_536 + b"\n"),
    ],
    ids=["empty", "whole", "cut", "only a cut one", "long", "only a long one", "a page each"],
)
def test_an_unfinished_line_is_dropped_and_no_other(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(before)
    drop_unfinished_line(path)
    assert path.read_bytes() == after


def test_a_file_that_is_not_there_yet_is_left_so(tmp_path: Path) -> None:
    drop_unfinished_line(tmp_path / "events.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_line_that_is_added_after_a_cut_one_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rates.jsonl"
    append_line(path, json.dumps({"é": 1}, ensure_ascii=False))
    assert read_rows(path) == [{"é": 1}]
    with path.open("a") as stream:
        stream.write('{"b": ')
    append_line(path, '{"c": 3}')
    append_line(path, '{"d": 4}')
    assert path.read_text(encoding="utf-8").splitlines() == ['{"é": 1}', '{"b": ', '{"c": 3}', '{"d": 4}']
