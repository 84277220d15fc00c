"""What is told of a file that grows."""

from __future__ import annotations

from pathlib import Path

from follow import grown


def test_only_whole_lines_are_told_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("one\ntw")
    assert list(grown(str(path), 0, to_the_end=False)) == [("one\n", 4)]
    assert list(grown(str(path), 4, to_the_end=False)) == []
    assert list(grown(str(path), 4, to_the_end=True)) == [("tw", 6)]
