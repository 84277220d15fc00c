"""Replicas on real hosts follow the load: they start under it and stop without it, and no request fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.workspace import wait_for
from tests.hosts import faults
from tests.hosts.lab import LENT, Lab
from tests.hosts.machines import machines

SCALED = (
    "autoscaling=slo", "autoscaling.interval_s=1", "autoscaling.up_s=3", "autoscaling.down_s=6",
    "autoscaling.in_flight=0.5", "serving.max_num_seqs=4",
)  # fmt: skip
"""Each replica is meant for two requests in flight; the client of the tests has four."""
TO_ZERO = (
    *SCALED, "autoscaling.min_replicas=0", "autoscaling.idle_s=5", "autoscaling.start_s=20", "gateway.queue.wait_s=60",
)  # fmt: skip


GATEWAY_FILE = "/var/lib/largeforge/shop/gateway/gateway.json"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts, two of them with a replica that takes a third of a second for each answer."""
    with machines(3, bind=LENT) as hosts:
        made = Lab(tmp_path_factory.mktemp("scaled"), hosts)
        made.model("v1", takes_s="0.3")
        made.prepare()
        yield made


@contextmanager
def scaling(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Scale the deployment in the background."""
    process = lab.start("autoscale", "lab", "shop")
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise


def up(lab: Lab) -> list[str]:
    """Return the replicas that run."""
    return sorted(name for name, state in lab.states().items() if name != "gateway" and state == "active")


def test_a_replica_stops_without_load_and_starts_under_it_and_no_request_fails(lab: Lab) -> None:
    lab.deploy(*SCALED)
    assert up(lab) == ["general", "general-2"]
    with scaling(lab) as process:
        said = lab.await_line(process, "general-2 on h3: stopped")
        assert "general: 2 → 1 replicas: 1 have been enough for 6 s" in said, said
        assert up(lab) == ["general"]
        other = lab.run("autoscale", "lab", "shop", "--looks", "1")
        assert other.code == 1 and "is changing this deployment" in other.output, "only one at a time"
        restarted = lab.run("restart", "lab", "shop", "general")
        assert restarted.code == 0, restarted.output
        assert lab.hosts["h3"].address not in lab.hosts.run(lab.hosts["h1"], "cat", GATEWAY_FILE).stdout
        with lab.asked() as asked:
            said = lab.await_line(process, "general-2 on h3: answers, and gets requests")
            assert re.search(r"general: 1 → 2 replicas: \d+ requests in flight.*", said), said
            assert said.count("general-2 on h3: started") == 1
            assert up(lab) == ["general", "general-2"]
        said = lab.await_line(process, "general-2 on h3: stopped")
    assert not asked["failures"] and asked["answered"], asked
    assert up(lab) == ["general"]


def test_a_controller_that_was_killed_is_followed_by_one_that_goes_on_and_deployments_start_all(lab: Lab) -> None:
    first = lab.start("autoscale", "lab", "shop")
    with lab.asked() as asked:
        lab.await_line(first, "general-2 on h3: started")
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=30)
        with scaling(lab) as second:
            said = lab.await_line(second, "general-2 on h3: answers, and gets requests")
            assert "→" not in said, "it wants what the first has decided"
            lab.deploy(*SCALED, lab.model("v2", takes_s="0.3"))
            assert lab.versions() == {"v2"} and up(lab) == ["general", "general-2"]
            lab.await_line(second, "another deployment is in force")
    assert not asked["failures"], asked


def test_the_last_replica_stops_when_nobody_asks_and_the_first_request_waits_for_it(lab: Lab) -> None:
    lab.deploy(*TO_ZERO, lab.model("v2", takes_s="0.3"))
    with scaling(lab) as process:
        said = lab.await_line(process, "general on h2: stopped")
        assert "nobody has asked for" in said, said
        assert up(lab) == []
        with lab.asked(timeout_s=60) as asked:
            said = lab.await_line(process, "general on h2: answers, and gets requests")
            assert "wakes up" in said, said
            wait_for(lambda: up(lab) != [], timeout_s=20)
    assert not asked["failures"] and asked["answered"], asked


@pytest.mark.thorough
def test_a_host_that_is_away_is_made_up_for_and_the_controller_stays(lab: Lab) -> None:
    lab.deploy(*SCALED, lab.model("v2"))
    with scaling(lab) as process:
        lab.await_line(process, "general-2 on h3: stopped")
        faults.link(lab.hosts["h2"], "down")
        said = lab.await_line(process, "general-2 on h3: answers, and gets requests")
        assert said.count("h2 cannot be looked at") == 1, said
        assert lab.versions() == {"v2"}
        faults.link(lab.hosts["h2"], "up")
        lab.await_line(process, "general-2 on h3: stopped")
        assert lab.versions() == {"v2"} and up(lab) == ["general"]


def test_what_is_deployed_without_it_is_not_scaled(lab: Lab) -> None:
    lab.deploy(lab.model("v2"))
    refused = lab.run("autoscale", "lab", "shop", "--looks", "1")
    assert refused.code == 1 and "deploy it with autoscaling=slo" in refused.output, refused.output
