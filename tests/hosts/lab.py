"""A folder from which servers are deployed to the test hosts: an inventory, a recipe, models, commands.

The gateway is on `h1`; the others serve with the stand-in for vLLM, which starts at once and behaves as its model's
folder says. Everything else runs with this environment's packages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.e2e.workspace import wait_for
from tests.hosts.machines import ROOT, Machines

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

PYTHON = "/opt/lent/bin/python"
"""Interpreter on the hosts with this environment's packages."""
STAND_IN = "/opt/stand-in/python"
"""The same, but for vLLM, which is a stand-in."""
SITE = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
LENT = {str(Path(sys.base_prefix).resolve()): "/opt/python", str(SITE): "/opt/packages", str(ROOT): "/opt/checkout"}
"""What the hosts are lent, at places that a service without rights may read."""
PORT = 8080
SERVERS = tuple(range(18000, 18008))
"""Ports that model servers of a few releases have."""
INSTALL = f"""
set -e
echo /opt/python/lib > /etc/ld.so.conf.d/lent.conf; ldconfig
/opt/python/bin/python3 -m venv --without-pip /opt/lent
printf '/opt/checkout\\n/opt/packages\\n' > /opt/lent/lib/python3.{sys.version_info.minor}/site-packages/lent.pth
mkdir -p /opt/stand-in
cat > {STAND_IN} <<'END'
#!/bin/sh
case "$2" in vllm.*) exec /usr/bin/python3 /opt/checkout/tests/serving/fake_vllm.py "$@";; *) exec {PYTHON} "$@";; esac
END
chmod 755 {STAND_IN}
"""
RECIPE = """\
# @package _global_
# The recipe of the tests.
defaults:
  - /topology: single
  - /router: keyword
  - /serving: vllm_cpu
  - override /hardware: cpu
  - override /hosts: lab
  - _self_
name: shop
topology:
  experts:
    general: {model: "path:models/v1", replicas: REPLICAS}
gateway: {host: 0.0.0.0, health_interval_s: 0.5}
serving: {startup_timeout_s: 60}
deploy: {update: {watch_s: 1, drain_timeout_s: 10, unreachable_s: 15, strategy: fixed}}
"""


def driver(used_mib: int) -> str:
    """Return a script that puts what stands for the driver of one GPU on a host."""
    return f"""\
cat > /usr/local/bin/nvidia-smi <<'END'
#!/bin/sh
case "$1" in
    *utilization*) echo "0, GPU-7, 25, {used_mib}, 24576, 120.5, 61";;
    --query-gpu*) echo "0, GPU-7, NVIDIA GeForce RTX 4090, 24576, {used_mib}, 580.1, 8.9";;
esac
END
chmod 755 /usr/local/bin/nvidia-smi
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str
    seconds: float


class Lab:
    """The folder, and the commands that are given in it."""

    def __init__(self, folder: Path, hosts: Machines):
        self.folder, self.hosts = folder, hosts
        names = [host.name for host in hosts]
        servers = names[1:] or names
        self.inventory: dict[str, Any] = {
            "name": "lab", "known_hosts": str(hosts.known_hosts), "host_key_checking": "yes",
            "common": {"user": "deploy", "key": str(hosts.key), "python": STAND_IN},
            "hosts": {
                name: {
                    "address": hosts[name].address,
                    "roles": [*(["gateway"] if name == names[0] else []), *(["serve"] if name in servers else [])],
                }
                for name in names
            },
        }  # fmt: skip
        for name in ("hosts", "recipes", "models"):
            (folder / name).mkdir(parents=True)
        self.write_inventory()
        (folder / "recipes" / "shop.yaml").write_text(RECIPE.replace("REPLICAS", str(len(servers))))
        for name in ("v1", "v2", "v3"):
            self.model(name)

    def write_inventory(self) -> None:
        """Write the inventory as it is now."""
        (self.folder / "hosts" / "lab.yaml").write_text(yaml.safe_dump(self.inventory, sort_keys=False))

    def model(self, name: str, **files: str) -> str:
        """Write a model's folder; `files` say how its server behaves. Return its override."""
        folder = self.folder / "models" / name
        folder.mkdir(exist_ok=True)
        for file, text in {
            "config.json": "{}",
            "model.safetensors": f"weights of {name}",
            "version": name,
            **files,
        }.items():
            (folder / file).write_text(text)
        return f"topology.experts.general.model=path:models/{name}"

    def prepare(self) -> None:
        """Put on the hosts what a user's hosts have."""
        for host in self.hosts:
            done = self.hosts.run(host, "sh", "-c", INSTALL)
            assert done.returncode == 0, done.stderr

    def command(self, *words: str) -> list[str]:
        """Return the command line of LargeForge where the hosts can be reached."""
        return self.hosts.inside(sys.executable, "-m", "largeforge", *words)

    def run(self, *words: str, timeout_s: float = 240) -> Ended:
        """Run a command to its end."""
        started = time.monotonic()
        ended = subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout + ended.stderr, time.monotonic() - started)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command, in a process group of its own."""
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def deploy(self, *words: str, timeout_s: float = 600) -> Ended:
        """Deploy, which must succeed."""
        ended = self.run("+recipe=shop", *words, timeout_s=timeout_s)
        assert ended.code == 0, ended.output
        return ended

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the commands: tables are as wide as their rows."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def deployed(self) -> dict[str, Any]:
        """Return what the newest deployment wrote down of itself."""
        found = sorted(
            (self.folder / "runs" / "shop").glob("*/deploy/out/deployed.json"), key=lambda path: path.stat().st_mtime
        )
        content: dict[str, Any] = json.loads(found[-1].read_text())
        return content

    def versions(self, *, at: str = "h1") -> set[str]:
        """Return which models answer, asked through the gateway of a host."""
        url = f"http://{self.hosts[at].address}:{PORT}"
        script = (
            "import httpx,sys\n"
            f"found = httpx.get('{url}/v1/models', trust_env=False).json()\n"
            "body = {'model': 'general', 'messages': [{'role': 'user', 'content': 'Hello'}]}\n"
            f"for _ in range(6): print(httpx.post('{url}/v1/chat/completions', json=body, trust_env=False)"
            ".json()['choices'][0]['message']['content'])\n"
        )
        asked = subprocess.run(self.hosts.inside(sys.executable, "-c", script), capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        return {line.rpartition("(")[2].rstrip(")") for line in asked.stdout.splitlines()}

    def versions_of_models(self, *, at: str = "h1") -> set[str]:
        """Return the references of the models that answer, asked through the gateway of a host."""
        body = {"model": "general", "messages": [{"role": "user", "content": "Hello"}]}
        url = f"http://{self.hosts[at].address}:{PORT}/v1/chat/completions"
        argv = self.hosts.inside(
            "curl", "-s", "-o", "/dev/null", "-D", "-", "--noproxy", "*", "--json", json.dumps(body), url
        )
        heads = [subprocess.run(argv, capture_output=True, text=True).stdout for _ in range(6)]
        lines = [line for head in heads for line in head.splitlines() if line.lower().startswith("x-largeforge-model:")]
        return {line.partition(":")[2].strip() for line in lines}

    def reaches(self, host: str, *ports: int, of: str = "", as_plain: bool = False) -> bool:
        """Return whether somebody, this machine or a host, can connect to one of a host's ports, or be answered in
        plain HTTP there."""
        address = self.hosts[host].address
        script = (
            "import socket, sys\n"
            "for port in map(int, sys.argv[2:]):\n"
            "    try:\n"
            "        with socket.create_connection((sys.argv[1], port), 1) as found:\n"
            "            found.settimeout(2)\n"
            f"            if not {as_plain} or (found.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n'), found.recv(9))[1]"
            " == b'HTTP/1.1 ':\n"
            "                sys.exit(0)\n"
            "    except OSError:\n"
            "        pass\n"
            "sys.exit(1)\n"
        )
        argv = ["python3", "-c", script, address, *map(str, ports)]
        if of:
            return self.hosts.run(self.hosts[of], *argv).returncode == 0
        return subprocess.run(self.hosts.inside(*argv)).returncode == 0

    def states(self) -> dict[str, str]:
        """Return the state of each service."""
        ended = self.run("status", "lab", "--json")
        return {row["service"]: row["state"] for row in json.loads(ended.output)["services"]}

    @contextmanager
    def asked(self, *, at: str = "h1", timeout_s: float = 30, **more: Any) -> Iterator[dict[str, Any]]:
        """Keep asking the gateway, with more in the requests; what became of it is there at the end."""
        report = self.folder / f"asked-{time.monotonic_ns()}.json"
        url = f"http://{self.hosts[at].address}:{PORT}"
        argv = [sys.executable, str(Path(__file__).parent / "client.py"), url, "general", str(report), str(timeout_s)]
        argv.append(json.dumps(more))
        client = subprocess.Popen(self.hosts.inside(*argv), stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None and client.stdout.readline() == "asking\n"
        found: dict[str, Any] = {}
        try:
            yield found
        finally:
            client.send_signal(signal.SIGTERM)
            client.wait(timeout=30 + timeout_s)
            client.stdout.close()
        found.update(json.loads(report.read_text()))

    def await_line(self, process: subprocess.Popen[str], words: str) -> str:
        """Return what a command has printed once a line has these words."""
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if words in line:
                return said
        raise AssertionError(f"it ended without {words!r}:\n{said}")

    def await_versions(self, *wanted: str) -> None:
        """Wait until these models answer, and no others."""
        wait_for(lambda: self.versions() == set(wanted), timeout_s=60)


def unit(host: Machine, hosts: Machines, service: str) -> str:
    """Return the unit of a service that is up on a host."""
    listed = hosts.run(host, "systemctl", "list-units", "--plain", "--no-legend", f"largeforge-shop-{service}-*").stdout
    return next(line.split()[0] for line in listed.splitlines() if " active " in line)
