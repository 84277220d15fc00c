"""A Slurm cluster of one node in a folder: its own munge, controller and node daemon. Needs root, slurm and munge."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.workspace import wait_for
from tests.ports import free_port

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/node.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    configuration: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands find it."""
        return {"SLURM_CONF": str(self.configuration)}

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout

    def state(self, job: str) -> str:
        """Return the state of a job, as the controller knows it."""
        return self.ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a cluster and end it; in a folder with a short path, for munge's socket."""
    with tempfile.TemporaryDirectory(prefix="lf-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        configuration = folder / "slurm.conf"
        ports = {"controller_port": free_port(), "node_port": free_port()}
        cores = os.cpu_count() or 1
        configuration.write_text(
            CONFIGURATION.format(folder=folder, host=socket.gethostname(), cores=cores, **ports)
        )  # fmt: skip
        made = Cluster(configuration)
        daemons: list[subprocess.Popen[bytes]] = []
        try:
            for command in _daemons(folder):
                with (folder / "daemons.log").open("ab") as log:
                    environment = {**os.environ, **made.environment, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
                    daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
                wait_for(lambda: (folder / "munge.socket").exists(), timeout_s=20)
            wait_for(lambda: "idle" in made.ask("sinfo", "--noheader", "--format=%t"), timeout_s=60)
            yield made
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                daemon.wait(timeout=30)


def _daemons(folder: Path) -> list[list[str]]:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    return [
        ["munged", "--force", "--foreground", *files, f"--socket={folder}/munge.socket"],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D"],
    ]
