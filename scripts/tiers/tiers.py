"""Which tests belong to which tier."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tier:
    """Tests that run together; `check` is not pytest's."""

    name: str
    marks: str = ""
    """Expression over markers; those named like folders are set in tests/conftest.py."""
    folder: str = "tests"
    """Where its tests are, so that others need not be collected."""


_ELSEWHERE = ("recipes", "golden", "e2e", "system", "hosts", "gpu")

TIERS = (
    Tier("check"),
    Tier("unit", f"not ({' or '.join(_ELSEWHERE)})"),
    Tier("recipes", "recipes", "tests/recipes"),
    Tier("golden", "golden", "tests/golden"),
    Tier("e2e", "e2e and not system"),
    Tier("system", "system"),
    Tier("hosts", "hosts and not system", "tests/hosts"),
    Tier("gpu", "gpu and not system", "tests/gpu"),
)
"""In the order in which they run. A tier whose folder does not exist (yet) is left out."""


def pytest_arguments(tier: Tier, given: list[str], *, has_paths: bool) -> list[str]:
    """Return pytest's arguments for a tier, with those of the command line."""
    own = [] if has_paths else [tier.folder]
    return ["-m", tier.marks, *own, *given]
