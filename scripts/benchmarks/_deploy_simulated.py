"""Updates of many hosts whose servers are played: the real decisions, in the real order, with nothing at the other end.

What is measured is what the controller itself needs. What hosts would need follows from the order: servers that stand
beside the old ones start on `parallel` hosts at a time, those that take their place start one after the other.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from largeforge.deploy.update import Event, Release, Replacement, Update
from largeforge.errors import DeployError

LOAD_S = 60.0
"""Seconds that a server takes to load, on paper."""
PARALLEL = 10
"""Hosts that are worked on at a time: the default of `deploy.parallel`."""


class Played:
    """Hosts that do at once what they are told; the release `bad` does not start."""

    def __init__(self, bad: str = ""):
        self.bad = bad
        self.told, self.sent_bytes = 0, 0

    def check(self) -> None:
        """Hold the lock."""

    def switch(self, replacement: Replacement, on_event: Callable[[Event], None]) -> Event:
        """Say what a switch says."""
        if replacement.new.key == self.bad:
            return {"kind": "restored", "at": 1.0, "reason": "it does not load", "served": True}
        on_event({"kind": "ready", "at": 1.0, "seconds": LOAD_S, "down_s": 0.0})
        return {"kind": "committed", "at": 2.0}

    def retire(self, release: Release, *, idle_timeout_s: float) -> None:
        """Stop nothing."""

    def put_gateway_file(
        self, file: Mapping[str, Any], *, unasked: Collection[str] = (), undrained: Collection[str] = ()
    ) -> None:
        """Count what a gateway would be sent."""
        self.told += 1
        self.sent_bytes += len(json.dumps(file, indent=1))

    def drain(self, url: str, *, timeout_s: float) -> int:
        """Have nothing to answer."""
        return 0


def measure(num_hosts: int) -> list[list[str]]:
    """Return a row for each kind of update of so many hosts, each with a server of one expert."""
    rows = []
    for mode, fails in (("blue_green", False), ("fixed", False), ("fixed", True)):
        replacements = [
            Replacement(_release(number, "new"), _release(number, "old"), mode) for number in range(num_hosts)
        ]
        played = Played(bad=replacements[-1].new.key if fails else "")
        sections = {"gateway": {}, "router": {}, "topology": {"experts": {"general": {}}}}
        live = [one.old for one in replacements if one.old is not None]
        update = Update(
            played, live=live, sections=sections, report=lambda host, text: None, drain_timeout_s=0, parallel=PARALLEL
        )
        began, refused = time.perf_counter(), False
        try:
            update.run(replacements, removed=(), sections=sections, verify=lambda: None)
        except DeployError:
            refused = True
        seconds = time.perf_counter() - began
        assert refused is fails
        assert all(update.serves(one.new.host, "general", "old" if fails else one.new.key) for one in replacements)
        loads = math.ceil(num_hosts / PARALLEL) if mode == "blue_green" else num_hosts * (2 if fails else 1)
        what = f"{mode}, the last one fails" if fails else mode
        rows.append([
            str(num_hosts), what, f"{seconds:.2f} s", str(played.told), f"{played.sent_bytes / 1e6:.1f} MB",
            f"{loads * LOAD_S / 60:.0f} min",
        ])  # fmt: skip
    return rows


def _release(number: int, key: str) -> Release:
    key = f"{key}{number}" if key == "new" else key
    answers = {"general": {"served_model": "general", "model": f"registry:general/{key}", "lock": key, "limit": 256}}
    port = 18000 + (key != "old")
    return Release(
        f"host{number}", "general", key, f"largeforge-shop-general-{key}.service", port,
        address=f"10.0.{number // 250}.{number % 250}", answers=answers,
    )  # fmt: skip
