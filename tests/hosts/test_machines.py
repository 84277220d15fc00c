"""The test hosts themselves: what tests of deployments build on."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import faults, leftovers
from tests.hosts.build_rootfs import ASKS_PASSWORD
from tests.hosts.conftest import SMALL
from tests.hosts.machines import ROOT, Machines, machines

SPIN = "import time; end = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"

HOLD = """
import sys, time
from tests.hosts.machines import machines
with machines(2, small={"/srv/small": 8}) as made:
    print(made.bridge.name, made["h1"].pid, made["h1"].groups[0], flush=True)
    time.sleep(600)
"""


def test_three_hosts_run_systemd_with_nothing_failed(hosts: Machines) -> None:
    assert [machine.name for machine in hosts] == ["h1", "h2", "h3"]
    for machine in hosts:
        failed = machine.enter("systemctl", "--failed", "--no-legend").stdout
        assert hosts.run(machine, "systemctl", "is-system-running").stdout == "running\n", failed
        assert hosts.run(machine, "cat", "/proc/1/comm").stdout == "systemd\n"
        assert hosts.run(machine, "hostname").stdout == f"{machine.name}\n"


def test_deploy_may_use_sudo_and_asks_must_give_a_password(hosts: Machines) -> None:
    first = hosts["h1"]
    assert hosts.run(first, "sudo", "-n", "id", "-un", user="deploy").stdout == "root\n"
    refused = hosts.run(first, "sudo", "-n", "id", "-un", user="asks")
    assert refused.returncode == 1
    assert "a password is required" in refused.stderr
    argv = hosts.ssh(first, "sudo", "-S", "-k", "id", "-un", user="asks")
    for password, output in ((ASKS_PASSWORD, "root\n"), ("wrong", "")):
        ended = subprocess.run(argv, input=f"{password}\n", capture_output=True, text=True)
        assert ended.stdout == output, ended.stderr


@pytest.mark.thorough
def test_hosts_reach_each_other_and_nobody_else(hosts: Machines) -> None:
    first, second = hosts["h1"], hosts["h2"]
    (first.disk / "root/id").write_bytes(hosts.key.read_bytes())
    (first.disk / "root/id").chmod(0o600)
    (first.disk / "etc/ssh/ssh_known_hosts").write_text(hosts.known_hosts.read_text())
    assert hosts.run(first, "ssh", "-i", "/root/id", "deploy@h2", "hostname").stdout == f"{second.name}\n"
    away = hosts.run(first, "curl", "--silent", "--show-error", "--max-time", "5", "http://192.0.2.1")
    assert away.returncode == 7, "TEST-NET-1 (RFC 5737): there should be no route at all"


def test_a_host_runs_this_python_on_this_checkout_and_cannot_change_it(hosts: Machines) -> None:
    code = "import largeforge, pydantic; print(largeforge.__file__)"
    python = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-c", code)
    ended = hosts.run(hosts["h1"], *python, user="deploy")
    assert ended.stdout == f"{ROOT}/largeforge/__init__.py\n", ended.stderr
    refused = hosts.run(hosts["h1"], "touch", str(ROOT / "touched"))
    assert "Read-only file system" in refused.stderr
    assert hosts.run(hosts["h1"], "python3", "--version").stdout.startswith("Python 3.11")


@pytest.mark.thorough
def test_a_cable_that_is_out_cuts_ssh_off_until_it_is_in_again(hosts: Machines) -> None:
    first, second = hosts["h1"], hosts["h2"]
    faults.link(first, "down")
    ended = _connects(hosts, "h1")
    assert ended.returncode == 255
    assert any(reason in ended.stderr for reason in ("timed out", "No route to host")), ended.stderr
    assert hosts.run(second, "true").returncode == 0
    faults.link(first, "up")
    assert _connects(hosts, "h1").returncode == 0


@pytest.mark.thorough
def test_a_slow_link_is_slow_and_a_lossy_one_loses(hosts: Machines) -> None:
    first = hosts["h1"]
    argv = hosts.ssh(first, "wc", "-c")
    faults.rate(first, "2mbit")
    started = time.monotonic()
    assert subprocess.run(argv, input=b"x" * 500_000, capture_output=True).stdout == b"500000\n"
    assert time.monotonic() - started > 1.5, "500 kB are 4 Mbit"
    faults.rate(first, None)
    faults.loss(first, 99)
    assert _connects(hosts, "h1").returncode == 255
    faults.loss(first, None)
    assert _connects(hosts, "h1").returncode == 0


@pytest.mark.thorough
def test_power_that_is_cut_ends_everything_and_keeps_files(hosts: Machines) -> None:
    first = hosts["h1"]
    hosts.run(first, "sh", "-c", "echo kept > /var/lib/kept; systemd-run --unit=work sleep 600")
    first.power_off(hard=True)
    assert first.pid == 0
    assert hosts.run(first, "true").returncode == 255
    first.power_on()
    assert hosts.run(first, "cat", "/var/lib/kept").stdout == "kept\n"
    assert hosts.run(first, "systemctl", "is-active", "work").stdout == "inactive\n"
    assert "Started" in hosts.journal(first, "work"), "the journal outlives the boot"


@pytest.mark.thorough
def test_a_host_shuts_down_and_reboots(hosts: Machines) -> None:
    second, third = hosts["h2"], hosts["h3"]
    boot = hosts.run(second, "cat", "/proc/1/stat").stdout.split()[21]
    second.reboot()
    assert hosts.run(second, "cat", "/proc/1/stat").stdout.split()[21] != boot
    third.power_off()
    assert third.pid == 0
    third.power_on()
    assert "Stopped" in hosts.journal(third, "ssh.service"), "it had time to stop its services"


@pytest.mark.thorough
def test_limits_of_units_hold(hosts: Machines) -> None:
    second = hosts["h2"]
    grow = ("systemd-run", "--wait", "--pipe", "-p", "MemoryMax=64M", "python3", "-c")
    ended = hosts.run(second, *grow, "len(bytearray(200 << 20)); print('grown')")
    assert ended.returncode != 0
    assert "grown" not in ended.stdout
    assert "code=killed" in ended.stderr
    assert "grown" in hosts.run(second, *grow, "len(bytearray(20 << 20)); print('grown')").stdout
    half = hosts.run(second, "systemd-run", "--wait", "--pipe", "-p", "CPUQuota=20%", "python3", "-c", SPIN)
    assert float(half.stdout) < 1.0, "of 2 s"


@pytest.mark.thorough
def test_a_host_has_no_more_than_its_memory_and_processors(booted: Machines) -> None:
    with machines(1, memory_mib=200, cpus=0.2) as made:
        grown = made.run(made["h1"], "python3", "-c", "len(bytearray(300 << 20)); print('grown')")
        assert grown.returncode != 0
        assert "grown" not in grown.stdout
        assert float(made.run(made["h1"], "python3", "-c", SPIN).stdout) < 1.0, "of 2 s"
        assert booted.run(booted["h1"], "true").returncode == 0, "they do not share a network"


@pytest.mark.thorough
def test_a_full_disk_says_so(hosts: Machines) -> None:
    first = hosts["h1"]
    write = ("dd", "if=/dev/zero", f"of={SMALL}/more", "bs=1M", "count=4")
    faults.fill_disk(first, SMALL)
    assert "No space left on device" in hosts.run(first, *write, user="deploy").stderr
    assert hosts.run(hosts["h2"], *write).returncode == 0
    faults.free_disk(first, SMALL)
    assert hosts.run(first, "rm", "-f", f"{SMALL}/more").returncode == 0
    assert hosts.run(first, *write, user="deploy").returncode == 0


@pytest.mark.thorough
def test_another_host_key_is_noticed(hosts: Machines) -> None:
    first = hosts["h1"]
    faults.change_host_key(first)
    refused = hosts.run(first, "true")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
    faults.restore_host_key(first)
    assert hosts.run(first, "true").returncode == 0


@pytest.mark.thorough
def test_without_its_server_a_host_refuses(hosts: Machines) -> None:
    faults.stop_sshd(hosts["h1"])
    assert "Connection refused" in hosts.run(hosts["h1"], "true").stderr
    faults.mend(hosts["h1"])
    assert hosts.run(hosts["h1"], "true").returncode == 0


def _connects(hosts: Machines, name: str) -> subprocess.CompletedProcess[str]:
    """Try for a second to log in."""
    argv = hosts.inside("ssh", "-F", str(hosts.ssh_config), "-o", "ConnectTimeout=1", name, "true")
    return subprocess.run(argv, capture_output=True, text=True)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, booted: Machines) -> Path:
    """A cache of its own, where hosts can be, with the file system that is built already."""
    folder = Path(tempfile.mkdtemp(dir=booted.folder)) / "largeforge-test-hosts"
    folder.mkdir()
    root = booted.all[0].rootfs
    (folder / root.name).symlink_to(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    return folder


@pytest.fixture
def holder(cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has two hosts."""
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()
    leftovers.sweep(cache / "running")


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, marks=pytest.mark.thorough),
    ],
)
def test_nothing_is_left_of_hosts_whose_process_ended(
    cache: Path, holder: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert holder.stdout is not None
    name, pid, group = holder.stdout.readline().split()
    folder = cache / "running" / name
    assert _left(name, int(pid), Path(group), folder) == {"space", "process", "group", "mount", "folder"}
    holder.send_signal(number)
    holder.wait()
    if number == signal.SIGKILL:
        assert {"space", "group", "mount", "folder"} <= _left(name, int(pid), Path(group), folder)
        with leftovers.claimed(cache / "running"):
            assert _left(name, int(pid), Path(group), folder) == set()
    assert _left(name, int(pid), Path(group), folder) == set()


def _left(name: str, pid: int, group: Path, folder: Path) -> set[str]:
    """Return the kinds of things that there still are."""
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    processes = subprocess.run(["pgrep", "--full", name], capture_output=True, text=True).stdout
    there = {
        "space": name in spaces, "process": bool(processes) or _lives(pid),
        "group": any(group.parent.glob(f"{name}*")), "mount": name in Path("/proc/self/mountinfo").read_text(),
        "folder": folder.exists(),
    }  # fmt: skip
    return {kind for kind, found in there.items() if found}


def _lives(pid: int) -> bool:
    """Return whether a process is there, and no mere entry that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
