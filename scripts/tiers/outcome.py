"""What came of a tier, read from pytest's JUnit file."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scripts.tables import columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """Numbers of one tier; errors outside of tests count as failed."""

    tier: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    """Why tests were skipped, and how many for each reason."""


def read(tier: str, path: Path, *, exit_code: int, seconds: float) -> Outcome:
    """Return the outcome that a JUnit file tells; a pytest that died without one counts as a failure."""
    if not path.is_file():
        return Outcome(tier, failed=1, seconds=seconds)
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    failed = sum(int(suite.get(kind, 0)) for suite in suites for kind in ("failures", "errors"))
    reasons = Counter(skip.get("message", "no reason given") for suite in suites for skip in suite.iter("skipped"))
    skipped = sum(reasons.values())
    passed = sum(int(suite.get("tests", 0)) for suite in suites) - failed - skipped
    nothing_collected = 5
    if exit_code not in (0, nothing_collected) and not failed:
        failed = 1
    return Outcome(tier, max(passed, 0), failed, skipped, seconds, dict(reasons))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return one line per tier."""
    rows = [("tier", "passed", "failed", "skipped", "seconds")]
    rows += [(o.tier, str(o.passed), str(o.failed), str(o.skipped), f"{o.seconds:.1f}") for o in outcomes]
    return columns(rows)


def total(outcomes: Sequence[Outcome]) -> str:
    """Return the last line: `N passed, N failed, N skipped`."""
    sums = {name: sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {name}" for name, count in sums.items())
