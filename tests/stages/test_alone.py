"""A stage waits for the process of an earlier attempt."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from largeforge.errors import StageError
from largeforge.events import Events
from largeforge.stages import alone

HOLD = """
import sys, pathlib, io
from largeforge.events import Events
from largeforge.stages.alone import alone
alone(pathlib.Path(sys.argv[1]), Events("train", io.StringIO()))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folders that a test holds are left at its end, and not only at that of this process."""
    held: list[IO[str]] = []
    monkeypatch.setattr(alone, "_held", held)
    yield
    for stream in held:
        stream.close()


def test_a_stage_waits_until_the_one_before_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(alone, "LONGEST_S", 0.0)
        with pytest.raises(StageError, match=f"process {other.pid} still works in"):
            alone.alone(tmp_path, Events("train", told))
        assert f"waiting for process {other.pid} of an earlier attempt to end" in told.getvalue()
        other.stdin.close()
        monkeypatch.setattr(alone, "LONGEST_S", 60.0)
        alone.alone(tmp_path, Events("train", told))
