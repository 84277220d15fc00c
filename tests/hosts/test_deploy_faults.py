"""What goes wrong in a deployment.

What served before serves after, nothing is called done that was not, a re-run converges.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.workspace import wait_for
from tests.hosts import faults
from tests.hosts.build_rootfs import ASKS_PASSWORD
from tests.hosts.lab import LENT, Lab
from tests.hosts.machines import machines

SMALL = "/srv/small"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts with the first version deployed."""
    with machines(3, bind=LENT, small={SMALL: 24}) as hosts:
        made = Lab(tmp_path_factory.mktemp("lab"), hosts)
        made.prepare()
        made.deploy()
        yield made


@pytest.fixture
def lab(booted: Lab) -> Iterator[Lab]:
    """The same, with no fault left over and the first version in service."""
    yield booted
    for host in booted.hosts:
        faults.mend(host)
    booted.deploy()
    assert booted.versions() == {"v1"}


def refused(lab: Lab, *words: str, code: int = 1) -> str:
    """Deploy, which must be refused; what served before serves on."""
    ended = lab.run("+recipe=shop", *words)
    assert ended.code == code and "run done" not in ended.output, ended.output
    return ended.output


LATER = {"dies_after": "2"}
BAD = [
    pytest.param("fixed", LATER, "the engine met its end", id="dies later, no room", marks=pytest.mark.thorough),
    pytest.param("blue_green", LATER, "the engine met its end", id="dies a little later", marks=pytest.mark.thorough),
    *(
        pytest.param(strategy, files, said, id=f"{name}, {strategy}", marks=pytest.mark.thorough)
        for strategy in ("fixed", "blue_green")
        for name, files, said in (
            ("does not load", {"behaviour": "dies"}, "Engine core initialization failed"),
            ("hangs", {"behaviour": "hangs"}, "did not start"),
        )
    ),
]


@pytest.mark.parametrize(("strategy", "files", "said"), BAD)
def test_a_bad_release_is_refused_while_the_old_one_serves(
    lab: Lab, strategy: str, files: dict[str, str], said: str
) -> None:
    change = lab.model(f"bad-{'-'.join(files.values())}", **files)
    with lab.asked() as asked:
        output = refused(
            lab,
            change,
            f"deploy.update.strategy={strategy}",
            "deploy.update.watch_s=4",
            "serving.startup_timeout_s=4",
        )
    assert said in output, output
    assert lab.versions() == {"v1"} and not asked["failures"], asked
    assert set(lab.states().values()) == {"active"}


@pytest.mark.thorough
def test_weights_that_are_damaged_on_the_way_are_not_taken(lab: Lab) -> None:
    change = lab.model("v2")
    host = lab.hosts["h2"]
    lab.deploy(change)
    model = lab.hosts.run(host, "sh", "-c", "ls -d /opt/largeforge/models/*/version | xargs grep -l v2").stdout.strip()
    weights = Path(model).with_name("model.safetensors")
    lab.hosts.run(host, "sh", "-c", f"echo damaged > {weights}")
    assert "files are not what was verified" in lab.run("+recipe=shop", "mode=plan", change).output
    lab.deploy(change)
    assert lab.hosts.run(host, "cat", str(weights)).stdout == "weights of v2"


@pytest.mark.thorough
def test_a_host_that_is_dead_before_is_named_and_nothing_changes(lab: Lab) -> None:
    lab.hosts["h3"].power_off(hard=True)
    plan = lab.run("+recipe=shop", "mode=plan", lab.model("v2")).output
    assert "✗ h3" in plan, plan
    with lab.asked() as asked:
        output = refused(lab, lab.model("v2"))
    assert "h3: " in output and "nothing that runs was changed" in output, output
    assert lab.versions() == {"v1"} and not asked["failures"], asked


@pytest.mark.thorough
@pytest.mark.parametrize("step", ["systemd reads unit files", "starting release", "ready after", "is in service"])
def test_a_host_that_dies_in_the_middle_comes_back_with_what_it_served(lab: Lab, step: str) -> None:
    change = lab.model("v2", takes_s="0")
    with lab.asked() as asked:
        process = lab.start("+recipe=shop", change, "deploy.update.watch_s=20")
        lab.await_line(process, step)
        lab.hosts["h2"].power_off(hard=True)
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 1 and "h2" in output, output
    assert lab.versions() == {"v1"} and not asked["failures"], asked
    lab.hosts["h2"].reap()
    lab.hosts["h2"].power_on()
    wait_for(lambda: set(lab.states().values()) == {"active"}, timeout_s=60)
    assert lab.versions() == {"v1"}
    lab.deploy(change)
    assert lab.versions() == {"v2"}


@pytest.mark.thorough
def test_a_link_that_is_down_for_half_a_minute_only_delays(lab: Lab) -> None:
    change = lab.model("v2")
    with lab.asked() as asked:
        process = lab.start("+recipe=shop", change, "deploy.update.unreachable_s=90")
        lab.await_line(process, "general: starting release")
        faults.link(lab.hosts["h2"], "down")
        time.sleep(30)
        faults.link(lab.hosts["h2"], "up")
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 0 and lab.versions() == {"v2"}, output
    assert not asked["failures"], asked


@pytest.mark.thorough
def test_a_link_that_stays_down_ends_the_run_and_the_others_serve(lab: Lab) -> None:
    change = lab.model("v2")
    with lab.asked() as asked:
        process = lab.start("+recipe=shop", change)
        lab.await_line(process, "general: starting release")
        faults.link(lab.hosts["h2"], "down")
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 1 and "h2: the connection is lost" in output, output
    assert lab.versions() == {"v1"} and not asked["failures"], (asked, output)
    faults.link(lab.hosts["h2"], "up")
    lab.deploy(change)
    assert lab.versions() == {"v2"}


@pytest.mark.thorough
def test_a_full_disk_is_told_and_nothing_changes(lab: Lab) -> None:
    lab.inventory["hosts"]["h3"]["paths"] = {"root": f"{SMALL}/root"}
    lab.write_inventory()
    faults.fill_disk(lab.hosts["h3"], SMALL)
    try:
        output = refused(lab, lab.model("v2"))
        assert "No space left on device" in output, output
    finally:
        del lab.inventory["hosts"]["h3"]["paths"]
        lab.write_inventory()
    assert lab.versions() == {"v1"}


@pytest.mark.thorough
def test_a_controller_that_is_killed_leaves_no_lock_and_the_next_goes_on(lab: Lab) -> None:
    change = lab.model("v2")
    with lab.asked() as asked:
        process = lab.start("+recipe=shop", change)
        lab.await_line(process, "starting release")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        lab.deploy(change)
    assert lab.versions() == {"v2"} and not asked["failures"], asked
    assert set(lab.states().values()) == {"active"}


@pytest.mark.thorough
def test_of_two_controllers_the_second_is_refused(lab: Lab) -> None:
    first = lab.start("+recipe=shop", lab.model("v2"), "deploy.update.watch_s=15")
    lab.await_line(first, "starting release")
    output = refused(lab, lab.model("v3"))
    assert "is changing this deployment" in output, output
    assert first.communicate(timeout=240)[0] and first.returncode == 0
    assert lab.versions() == {"v2"}


@pytest.mark.thorough
def test_a_wrong_password_for_sudo_is_told_and_never_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.inventory["hosts"]["h3"] |= {"user": "asks", "sudo_password": "env:LAB_SUDO"}
    lab.write_inventory()
    try:
        monkeypatch.setenv("LAB_SUDO", "hunter2-wrong")
        output = refused(lab, lab.model("v2"))
        assert "h3" in output and "hunter2-wrong" not in output, output
        monkeypatch.setenv("LAB_SUDO", ASKS_PASSWORD)
        lab.deploy(lab.model("v2"))
        assert lab.versions() == {"v2"}
    finally:
        del lab.inventory["hosts"]["h3"]["user"], lab.inventory["hosts"]["h3"]["sudo_password"]
        lab.write_inventory()
    for path in lab.folder.rglob("*"):
        if path.is_file():
            assert ASKS_PASSWORD not in path.read_text(errors="replace"), path


@pytest.mark.thorough
def test_a_host_key_that_has_changed_is_refused(lab: Lab) -> None:
    faults.change_host_key(lab.hosts["h2"])
    output = refused(lab, lab.model("v2"))
    assert "h2" in output and "key" in output.lower(), output
    faults.restore_host_key(lab.hosts["h2"])
    assert lab.versions() == {"v1"}


@pytest.mark.thorough
def test_a_host_that_loses_power_between_deployments_serves_again_by_itself(lab: Lab) -> None:
    lab.hosts["h1"].power_off(hard=True)
    lab.hosts["h1"].reap()
    lab.hosts["h1"].power_on()
    wait_for(lambda: lab.states().get("gateway") == "active", timeout_s=60)
    assert lab.versions() == {"v1"}
