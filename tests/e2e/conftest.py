from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.workspace import Workspace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty working directory."""
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def quickstart(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Workspace, subprocess.CompletedProcess[str]]]:
    """A working directory in which the quickstart has run, and what it printed."""
    workspace = Workspace(tmp_path_factory.mktemp("quickstart"))
    yield workspace, workspace.run("+recipe=quickstart", timeout_s=1500)
