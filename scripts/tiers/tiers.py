"""Which tests belong to which tier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from largeforge import processor

TESTS = Path(__file__).resolve().parents[2] / "tests"


@dataclass(frozen=True)
class Tier:
    """Tests that run together; `check` is not pytest's."""

    name: str
    marks: str = ""
    """Expression over markers; those named like folders are set in tests/conftest.py."""
    folder: str = "tests"
    """Where its tests are, so that others need not be collected."""
    marked: str = ""
    """A mark that its tests have, wherever they are: only files that may set it are collected."""
    spread: bool = True
    """Whether its files of tests run side by side, on as many workers as cores and memory allow."""
    per_core: float = 1.0
    """Workers for each core: more than one where tests wait for processes and sockets much of their time."""


_ELSEWHERE = ("recipes", "golden", "e2e", "system", "hosts", "gpu")

TIERS = (
    Tier("check"),
    Tier("unit", f"not ({' or '.join(_ELSEWHERE)})", per_core=1.5),
    Tier("recipes", "recipes", "tests/recipes"),
    Tier("golden", "golden", "tests/golden"),
    Tier("e2e", "e2e and not system", marked="e2e"),
    Tier("system", "system", marked="system", per_core=1.5),
    Tier("hosts", "hosts and not system", "tests/hosts", spread=False),
    Tier("gpu", "gpu and not system", "tests/gpu", spread=False),
)
"""In the order in which they run. A tier whose folder does not exist (yet) is left out."""


WORKER_GIB = 6.0
"""What one worker may need: a test of the whole chain trains and serves."""


def workers(per_core: float = 1.0) -> int:
    """Return how many files of tests this machine can run at once, at most eight."""
    return max(1, min(int(processor.cores() * per_core), int(processor.memory_limit_gib() / WORKER_GIB), 8))


def pytest_arguments(tier: Tier, given: list[str], *, has_paths: bool) -> list[str]:
    """Return pytest's arguments for a tier, with those of the command line.

    Whoever names tests, or a debugger, gets one process.
    """
    own = [] if has_paths else files_with(tier.marked) if tier.marked else [tier.folder]
    number = workers(tier.per_core)
    side_by_side = tier.spread and number > 1 and not has_paths and "--pdb" not in given
    spread = ["-n", str(number), "--dist", "loadfile", "--no-loadscope-reorder"] if side_by_side else []
    return ["-m", tier.marks, *spread, *own, *given]


def files_with(mark: str, tests: Path = TESTS) -> list[str]:
    """Return the folder named like a mark, and the files elsewhere that set it: to import all takes far longer."""
    folder = tests / mark
    elsewhere = (path for path in sorted(tests.rglob("test_*.py")) if not path.is_relative_to(folder))
    setting = [path for path in elsewhere if f"mark.{mark}" in path.read_text(encoding="utf-8")]
    return [str(path.relative_to(tests.parent)) for path in ([folder] if folder.is_dir() else []) + setting]
