"""Training on two hosts over ssh, each a network namespace with its own address: they meet, and they part."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import largeforge
from tests.e2e.test_training import rows
from tests.e2e.workspace import Workspace, environment, wait_for
from tests.system.network import Network, network

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root"),
]

SMALL = """\
# @package _global_
# A small model from scratch.
defaults:
  - /model: tiny_general
  - /dataset: jsonl
  - /method: sft
  - override /hardware: cpu
  - _self_
name: small
model:
  architecture: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, vocab_size: 400}
  tokenizer: {vocab_size: 400}
dataset:
  path: words.jsonl
  heldout_fraction: 0
method:
  learning_rate: 3e-3
  max_steps: 80
  per_device_train_batch_size: 8
  logging_steps: 1
  save_steps: 20
"""

INVENTORY = """\
# Two hosts.
name: pair
ssh_config: {config}
hosts:
  a: {{address: {a}}}
  b: {{address: {b}}}
"""

PAIR = ("+recipe=small", "launcher=multi_node", "method.per_device_train_batch_size=4",
        "launcher.lost_after_s=5")  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A working directory with a recipe for a small model, whose data and random weights are made once."""
    made = Workspace(tmp_path_factory.mktemp("hosts") / "work")
    made.write("recipes/small.yaml", SMALL)
    made.write("words.jsonl", rows())
    return made


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, workspace: Workspace) -> Iterator[Network]:
    """Two hosts, in the workspace's inventory."""
    with network(tmp_path_factory.mktemp("ssh"), "a", "b") as made:
        workspace.write("hosts/pair.yaml", INVENTORY.format(config=made.ssh_config, **made.hosts))
        yield made


def start(workspace: Workspace, hosts: Network, *words: str) -> subprocess.Popen[str]:
    with (workspace.path / "output.log").open("w") as log:
        return subprocess.Popen(
            hosts.inside(*workspace.command(*words)), cwd=workspace.path, env=environment(), stdout=log,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip


def run(workspace: Workspace, hosts: Network, *words: str) -> int:
    return start(workspace, hosts, *words).wait(timeout=200)


def losses(workspace: Workspace) -> dict[int, float]:
    events = map(json.loads, (workspace.run_dir("small") / "events.jsonl").read_text().splitlines())
    return {e["step"]: e["loss"] for e in events if e["kind"] == "progress" and e["stage"] == "train"}


def test_two_hosts_train_as_one_process_does_and_go_on_after_one_was_cut_off(
    workspace: Workspace, hosts: Network
) -> None:
    alone = workspace.run("+recipe=small", "launcher=single")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    expected = losses(workspace)
    assert expected[80] < expected[1] / 2

    process = start(workspace, hosts, *PAIR, "hosts=pair", "launcher.strategy.name=fsdp2")
    sealed = "checkpoints/checkpoint-20/largeforge-checkpoint.json"
    wait_for(lambda: list(workspace.path.glob(f"runs/small/*/train/work/{sealed}")) or process.poll() is not None)
    hosts.link("b", "down")
    assert process.wait(timeout=100) == 1, workspace.output
    assert f"host b ({hosts.hosts['b']}): the connection was lost" in workspace.output
    assert workspace.output.count("error:") == 1
    wait_for(lambda: not hosts.processes("a", "largeforge") and not hosts.processes("b", "largeforge"), timeout_s=60)
    assert max(losses(workspace)) < 80

    hosts.link("b", "up")
    assert run(workspace, hosts, *PAIR, "hosts=pair", "launcher.strategy.name=fsdp2") == 0, workspace.output
    assert "continuing from checkpoint-" in workspace.output
    found = losses(workspace)
    assert found.keys() == expected.keys()
    assert all(abs(found[step] - loss) < 1e-4 for step, loss in expected.items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopping_the_run_leaves_nothing_on_the_hosts(workspace: Workspace, hosts: Network, number: int) -> None:
    process = start(workspace, hosts, *PAIR, "hosts=pair", "method.max_steps=100000")
    work = ["largeforge.stages", "torch.distributed.run"]
    wait_for(lambda: process.poll() is not None or all(hosts.processes(host, word) for host in "ab" for word in work))
    assert process.poll() is None, workspace.output
    os.kill(process.pid, number)
    assert process.wait() in (130, -signal.SIGKILL), workspace.output
    wait_for(lambda: not hosts.processes("a", "largeforge") and not hosts.processes("b", "largeforge"), timeout_s=60)


def test_a_host_without_the_shared_storage_is_named(tmp_path: Path, workspace: Workspace, hosts: Network) -> None:
    with network(tmp_path / "ssh", "a", "b", number=8, hiding={"b": workspace.path / "runs"}) as apart:
        workspace.write("hosts/apart.yaml", INVENTORY.format(config=apart.ssh_config, **apart.hosts))
        assert run(workspace, apart, *PAIR, "hosts=apart") == 1
    assert f"host b ({apart.hosts['b']}): {workspace.path}/runs" in workspace.output
    assert "must be on storage that all hosts share" in workspace.output


def test_a_host_that_does_not_answer_is_named(workspace: Workspace, hosts: Network) -> None:
    workspace.write("hosts/gone.yaml", INVENTORY.format(config=hosts.ssh_config, a=hosts.hosts["a"], b="10.83.7.99"))
    assert run(workspace, hosts, *PAIR, "hosts=gone", "launcher.connect_timeout_s=3") == 1
    assert "host b (10.83.7.99)" in error(workspace)
    assert not hosts.processes("a", "largeforge")


def test_a_host_that_does_not_take_the_key_is_named(workspace: Workspace, hosts: Network, tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    ours = hosts.ssh_config.read_text()
    theirs = ours.replace("Host *", f"Host {hosts.hosts['b']}").replace(str(hosts.folder / "id"), str(key))
    config = workspace.write("ssh_config", ours.replace("Host *", f"Host {hosts.hosts['a']}") + theirs)
    workspace.write("hosts/locked.yaml", INVENTORY.format(config=config, **hosts.hosts))
    assert run(workspace, hosts, *PAIR, "hosts=locked") == 1
    assert f"host b ({hosts.hosts['b']}) cannot be reached: " in workspace.output
    assert re.search(r"Permission denied \(publickey[a-z,-]*\)\.$", error(workspace))


def test_a_host_with_another_version_is_named(workspace: Workspace, hosts: Network) -> None:
    python = workspace.write(
        "python",
        f"""#!/bin/sh
exec {sys.executable} -c 'import largeforge, runpy; largeforge.__version__ = "9.9"
runpy.run_module("largeforge.cluster.agent", run_name="__main__")'
""",
    )
    python.chmod(0o755)
    inventory = INVENTORY.format(config=hosts.ssh_config, **hosts.hosts)
    address = hosts.hosts["b"]
    workspace.write("hosts/older.yaml", inventory.replace(address, f"{address}, python: {python}"))
    assert run(workspace, hosts, *PAIR, "hosts=older") == 1
    assert f"hosts must have the same packages: a has largeforge {largeforge.__version__}, b has 9.9" in error(
        workspace
    )


def error(workspace: Workspace) -> str:
    """Return the one line that says what went wrong."""
    lines = workspace.output.partition("error: ")[2].splitlines()
    assert len(lines) == 1, workspace.output
    return lines[0]
