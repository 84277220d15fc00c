"""Hosts for the tests of this folder: booted once, whole again after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts import faults
from tests.hosts.machines import Machines, machines, this_python

SMALL = "/srv/small"
"""A file system of 32 MiB on each host."""


@pytest.fixture(scope="session")
def booted() -> Iterator[Machines]:
    """Three hosts, to which this Python and this checkout are lent."""
    with machines(3, bind=this_python(), small={SMALL: 32}) as made:
        yield made


@pytest.fixture
def hosts(booted: Machines) -> Iterator[Machines]:
    """The same three hosts; a test's faults are undone after it, files that it made are kept."""
    yield booted
    for machine in booted:
        faults.mend(machine)
