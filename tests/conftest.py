"""What holds for all tests: no way out of this machine, and marks for the tiers that are folders."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", DO_NOT_TRACK="1", VLLM_NO_USAGE_STATS="1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin would starve the tests beside this one
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # the loopback must not go through a proxy
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # a busy machine is no failure

THOROUGH = "LARGEFORGE_THOROUGH"
"""Variable that has all tests run; without it, of some that take minutes and are alike, one runs for the others."""
LOOPBACK = ["127.0.0.1", "::1", "localhost"]
FOLDER_TIERS = ("recipes", "golden", "hosts", "gpu")
"""Folders of tests/ whose tests form a tier of `scripts/test`; the other tiers are marks."""

LONGEST = ("test_quickstart", "test_quantize", "test_methods", "test_distill_grpo", "test_training", "test_launchers")
"""Files that take minutes: they are begun first, so that at the end no core waits for one of them."""

_addresses: dict[str, set[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born ignoring it
    for name in FOLDER_TIERS:
        config.addinivalue_line("markers", f"{name}: tests below tests/{name} (set by their folder)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if folder in FOLDER_TIERS:
            item.add_marker(folder)
        if item.get_closest_marker("thorough") and not os.environ.get(THOROUGH):
            item.add_marker(pytest.mark.skip(reason=f"thorough tests run with {THOROUGH}=1"))
    longest = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: longest.get(item.path.stem, len(longest)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse connections to other machines, in every test; pytest-socket lifts this after each."""
    socket_allow_hosts(LOOPBACK, allow_unix_socket=True, resolution_cache=_addresses)
