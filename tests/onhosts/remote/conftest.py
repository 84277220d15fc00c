"""The files of the program on hosts, which import each other by their bare names, as they do there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import largeforge.onhosts.remote

PROGRAMS = Path(largeforge.onhosts.remote.__file__).parent
sys.path.append(str(PROGRAMS))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "queue/waiting").mkdir(parents=True)
    return tmp_path
