"""Training as a job of a real Slurm cluster of one node: submitted, followed, cancelled, put back into the queue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.test_training import rows
from tests.e2e.workspace import Workspace, environment, processes, wait_for
from tests.system.cluster import Cluster, cluster
from tests.system.small import SMALL

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="the cluster's daemons run as root")]

WORDS = (
    "+recipe=small", "launcher=slurm", "launcher.strategy.num_processes=2", "launcher.signal_delay_s=5",
    "method.per_device_train_batch_size=4", "method.max_steps=600", "method.save_steps=50", "method.logging_steps=50",
)  # fmt: skip


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("slurm"))
    made.write("recipes/small.yaml", SMALL)
    made.write("words.jsonl", rows())
    return made


def start(workspace: Workspace, slurm: Cluster, *words: str) -> subprocess.Popen[str]:
    with (workspace.path / "output.log").open("w") as log:
        return subprocess.Popen(
            workspace.command(*words), cwd=workspace.path, env={**environment(), **slurm.environment}, stdout=log,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip


def job(workspace: Workspace) -> str:
    found = re.findall(r"submitted as slurm job (\d+)", workspace.output)
    return found[-1] if found else ""


def reached(workspace: Workspace) -> int:
    """Return the last step that was reported."""
    files = list(workspace.path.glob("runs/small/*/events.jsonl"))
    events = map(json.loads, files[0].read_text().splitlines()) if files else []
    return max((event["step"] for event in events if event["kind"] == "progress"), default=0)


def hurried(slurm: Cluster, job: str) -> bool:
    """Whether a job that was put back runs again: Slurm has it wait two minutes, counted anew until its end is seen."""
    slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
    return slurm.state(job) != "PENDING"


def test_a_job_is_cancelled_with_the_run_and_goes_on_when_it_was_put_back_into_the_queue(
    workspace: Workspace, slurm: Cluster
) -> None:
    process = start(workspace, slurm, *WORDS)
    wait_for(lambda: reached(workspace) >= 50 or process.poll() is not None)
    first = job(workspace)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=90) == 130, workspace.output
    assert slurm.state(first) == "CANCELLED"

    process = start(workspace, slurm, *WORDS)
    before = reached(workspace)
    wait_for(lambda: reached(workspace) > before or process.poll() is not None)
    assert "continuing from checkpoint-" in workspace.output
    second = job(workspace)
    slurm.ask("scancel", "--signal=USR2", second)  # what Slurm sends when the time limit comes near
    wait_for(lambda: slurm.state(second) == "PENDING" or process.poll() is not None)
    wait_for(lambda: not processes(f"slurmstepd: [{second}."))
    assert process.poll() is None, workspace.output
    time.sleep(2)  # a start within the second of the requeue is refused: "Job credential revoked"
    wait_for(lambda: hurried(slurm, second) or process.poll() is not None)
    assert process.wait(timeout=300) == 0, workspace.output
    assert workspace.output.count("continuing from checkpoint-") == 2
    assert reached(workspace) == 600
    assert workspace.manifest("small", "train")["metrics"]["steps"] == 600


def test_what_the_cluster_refuses_is_said_in_its_words(workspace: Workspace, slurm: Cluster) -> None:
    words = (*WORDS, "launcher.partition=nowhere", "seed=7")  # with the same seed it is a run that has ended
    process = start(workspace, slurm, *words)
    assert process.wait(timeout=90) == 1
    assert "invalid partition specified: nowhere" in workspace.output.lower()
