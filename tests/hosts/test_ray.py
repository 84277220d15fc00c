"""Training on a Ray cluster of two real hosts: through the command line, with a worker, the user and a host that go."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_training import rows
from tests.e2e.workspace import Workspace, wait_for
from tests.hosts.machines import ROOT, Machines, machines, this_python
from tests.system.small import SMALL

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

pytest.importorskip("ray", reason="Ray is an extra")
pytestmark = pytest.mark.system

RAY_PORT = 6379
WORKER = r"^\S*python\S* -m largeforge\.stages"
"""Command line of a training process, and not of what watches over it."""
PAIR = ("+recipe=small", "launcher=ray", "launcher.nodes=2", "launcher.lost_after_s=5",
        "method.per_device_train_batch_size=4")  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """Two hosts that are one Ray cluster, and a working directory that both share."""

    hosts: Machines
    workspace: Workspace

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command line on the first host."""
        python = ("env", "--chdir", str(self.workspace.path), f"PYTHONPATH={ROOT}", "HF_HUB_OFFLINE=1", sys.executable)
        with (self.workspace.path / "output.log").open("w") as log:
            return subprocess.Popen(
                self.hosts.ssh(self.hosts["h1"], *python, "-m", "largeforge", *words), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip

    def run(self, *words: str) -> int:
        """Run it to its end."""
        return self.start(*words).wait(timeout=200)

    def losses(self) -> dict[int, float]:
        """Return the losses of the newest run by step."""
        lines = (self.workspace.run_dir("small") / "events.jsonl").read_text().splitlines()
        told = [event for event in map(json.loads, lines) if event["kind"] == "progress"]
        return {event["step"]: event["loss"] for event in told if event["stage"] == "train"}

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        lines = self.workspace.output.partition("error: ")[2].splitlines()
        assert len(lines) == 1, self.workspace.output
        return lines[0]

    def is_free(self) -> bool:
        """Tell whether nothing of a training is left on the hosts."""
        return not any(pids(machine, "largeforge") for machine in self.hosts)


def pids(machine: Machine, pattern: str) -> list[str]:
    return machine.enter("pgrep", "--full", pattern).stdout.split() if machine.pid else []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Ray on two hosts with one CPU each."""
    workspace = Workspace(tmp_path_factory.mktemp("shared"))
    workspace.write("recipes/small.yaml", SMALL.replace("max_steps: 80", "max_steps: 60"))
    workspace.write("words.jsonl", rows())
    shared = str(workspace.path)
    with machines(2, bind=this_python(), share={shared: shared}) as hosts:
        begin(hosts, "h1", "--head", f"--port={RAY_PORT}", "--include-dashboard=false")
        begin(hosts, "h2", f"--address={hosts['h1'].address}:{RAY_PORT}")
        yield Cluster(hosts, workspace)


def begin(hosts: Machines, name: str, *options: str) -> None:
    ray = ("env", f"PYTHONPATH={ROOT}", "RAY_USAGE_STATS_ENABLED=0", sys.executable, "-m", "ray.scripts.scripts")
    own = (f"--node-ip-address={hosts[name].address}", "--num-cpus=1", "--object-store-memory=80000000")
    ended = hosts.run(hosts[name], *ray, "start", "--disable-usage-stats", *own, *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.thorough
def test_two_nodes_train_as_one_process_does_and_go_on_after_a_worker_was_killed(cluster: Cluster) -> None:
    assert cluster.run("+recipe=small", "launcher=single") == 0, cluster.workspace.output
    expected = cluster.losses()
    assert expected[60] < expected[1] / 2

    process, second = cluster.start(*PAIR), cluster.hosts["h2"]
    sealed = "runs/small/*/train/work/checkpoints/checkpoint-20/largeforge-checkpoint.json"
    alone = len(list(cluster.workspace.path.glob(sealed)))
    wait_for(lambda: len(list(cluster.workspace.path.glob(sealed))) > alone or process.poll() is not None)
    (pid,) = pids(second, WORKER)
    second.enter("kill", "-KILL", pid)
    assert process.wait(timeout=100) == 1, cluster.workspace.output
    assert cluster.error.startswith(f"train: host h2 ({second.address}): one of its worker processes (rank ")
    assert ") was killed by SIGKILL" in cluster.error
    wait_for(cluster.is_free, timeout_s=30)
    assert max(cluster.losses()) < 60

    assert cluster.run(*PAIR) == 0, cluster.workspace.output
    assert "continuing from checkpoint-" in cluster.workspace.output
    assert all(f"{machine.name} ({machine.address})" in cluster.workspace.output for machine in cluster.hosts)
    found = cluster.losses()
    assert found.keys() == expected.keys()
    assert all(abs(found[step] - loss) < 1e-4 for step, loss in expected.items())


@pytest.mark.thorough
@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_stopping_the_run_leaves_nothing_on_the_hosts_and_gives_the_room_back(cluster: Cluster, number: str) -> None:
    process = cluster.start(*PAIR, "method.max_steps=100000")
    wait_for(lambda: process.poll() is not None or all(pids(machine, WORKER) for machine in cluster.hosts))
    assert process.poll() is None, cluster.workspace.output
    (command,) = pids(cluster.hosts["h1"], r"^\S*python\S* -m largeforge \+recipe")
    cluster.hosts["h1"].enter("kill", f"-{number}", command)
    assert process.wait(timeout=60) != 0
    wait_for(cluster.is_free, timeout_s=60)


@pytest.mark.thorough
def test_what_cannot_be_had_is_said_with_what_there_is(cluster: Cluster) -> None:
    assert cluster.run(*PAIR, "launcher.nodes=3", "launcher.queue_timeout_s=2") == 1
    first, second = cluster.hosts
    assert cluster.error == (
        "train: no room within 2 s (launcher.queue_timeout_s) on the Ray cluster: 3 nodes with 1 CPU each asked for "
        f"(STRICT_SPREAD), it has 2 nodes: h1 ({first.address}): 1 of 1 CPU free; "
        f"h2 ({second.address}): 1 of 1 CPU free"
    )
    assert cluster.run(*PAIR, "method.max_steps=59", f"launcher.address={first.address}:6380") == 1
    assert cluster.error.endswith("cannot be joined: [Errno 111] Connection refused")


@pytest.mark.thorough
def test_trials_of_a_sweep_train_on_whatever_node_has_room(cluster: Cluster) -> None:
    one = ("+recipe=small", "launcher=ray", "launcher.strategy.name=single", "method.max_steps=40")
    code = cluster.run("-m", *one, "method.learning_rate=1e-3,3e-3", "sweep.jobs=2")
    assert code == 0, cluster.workspace.output
    told = [path.read_text() for path in cluster.workspace.path.glob("runs/**/log.txt")]
    for machine in cluster.hosts:
        assert any(f"training in 1 process on {machine.name} ({machine.address})" in text for text in told)


@pytest.mark.thorough
def test_folder_that_nodes_do_not_share_is_named(cluster: Cluster) -> None:
    assert cluster.run(*PAIR, "runs.root=/root/runs") == 1
    assert f"host h2 ({cluster.hosts['h2'].address}): /root/runs" in cluster.error
    assert "must be on storage that all hosts share" in cluster.error


@pytest.mark.thorough
def test_host_that_loses_its_power_ends_the_training_and_is_named(cluster: Cluster) -> None:
    process, second = cluster.start(*PAIR, "method.max_steps=100000"), cluster.hosts["h2"]
    wait_for(lambda: process.poll() is not None or "step 1/" in cluster.workspace.output)
    second.power_off(hard=True)
    assert process.wait(timeout=100) == 1, cluster.workspace.output
    assert cluster.error.startswith(f"train: host h2 ({second.address}): rank ")
    assert cluster.error.endswith(
        " is gone: the connection to it was lost. The processes on all other hosts were ended."
    )
    wait_for(cluster.is_free, timeout_s=60)
