"""Inputs that were brought to a host."""

from __future__ import annotations

from pathlib import Path

from brought import place
from disk import hashes


def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(base: Path) -> None:
    for name in ("incoming/k", "inputs"):
        (base / name).mkdir(parents=True)
    (base / "incoming/k/a").write_text("x")
    files = hashes(str(base / "incoming/k"))
    (base / "incoming/k/a").write_text("y")
    said = place({"home": str(base), "key": "k", "files": files})
    assert said == {"kept": False, "wrong": ["a"]}
    assert not (base / "incoming/k").exists() and not (base / "inputs/k").exists()
