"""A bundle from the package index that pip is configured for here, and an environment from it without any index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge.hostenv import manifest, remote
from tests.e2e.workspace import Workspace, environment, wait_for

CHECK = """
import importlib.util, json, largeforge
import largeforge.gateway.__main__, largeforge.client, opentelemetry.sdk.trace, uvloop, orjson, re2
print(json.dumps([largeforge.__file__, importlib.util.find_spec("torch"), importlib.util.find_spec("pip")]))
"""


@pytest.mark.thorough
def test_a_gateway_gets_its_environment_without_a_network(workspace: Workspace) -> None:
    require_an_index(workspace.path)
    words = ["bundle", "--role", "gateway", "--output", "bundle"]
    process = workspace.start(*words)
    journal = workspace.path / "bundle" / ".fetched.jsonl"
    wait_for(lambda: process.poll() is not None or (journal.is_file() and journal.read_text().count("\n") >= 6))
    process.send_signal(signal.SIGKILL)
    process.wait()
    arrived = journal.read_text().count("\n")
    made = workspace.run(*words)
    assert made.returncode == 0, made.stderr
    there = int(made.stderr.splitlines()[0].split("gateway, ")[1].split()[0])
    assert there >= arrived >= 6
    folder = workspace.path / "bundle"
    assert workspace.run("bundle", "--check", "bundle").returncode == 0

    done = build(folder, workspace.path / "environments")
    assert done["event"] == "done" and done["built"], done
    assert done["packages"] == len(manifest.read(folder).needed("gateway"))
    found, torch, pip = json.loads(inside(done["python"], "-c", CHECK))
    assert found.startswith(done["folder"])
    assert (torch, pip) == (None, None)
    assert "Serve the experts of a topology" in inside(done["python"], "-m", "largeforge.gateway", "--help")
    assert "largeforge " in inside(f"{done['folder']}/bin/largeforge", "--version")
    assert "quickstart" in inside(done["python"], "-m", "largeforge")
    assert build(folder, workspace.path / "environments")["built"] is False

    pip_words = [
        "install",
        "--dry-run",
        "--no-index",
        "--find-links",
        "bundle/wheels",
        "--ignore-installed",
        "largeforge",
    ]
    offline = subprocess.run(
        [sys.executable, "-m", "pip", *pip_words], cwd=workspace.path, capture_output=True, text=True,
        env={**environment(), "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""},
    )  # fmt: skip
    assert offline.returncode == 0 and "hydra-core-" in offline.stdout, offline.stderr


def build(folder: Path, root: Path) -> dict[str, Any]:
    """Build from a bundle as a host would, with nothing in its environment, and return the last line."""
    bundle = manifest.read(folder)
    order = bundle.environment("gateway").order(
        wheels_folder=str(folder / manifest.WHEELS), wheels=bundle.needed("gateway"), pip=bundle.pip,
        machine=bundle.target.machine, root=str(root), interpreter=sys.executable,
    )  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-I", "-c", remote.source()], input=json.dumps(order), env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    last: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return last


def inside(*words: str) -> str:
    """Run a command of the new environment, far from this checkout."""
    return subprocess.run(
        words, cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    ).stdout


def require_an_index(folder: Path) -> None:
    """Skip where pip reaches no index; whatever else pip complains of is for the test to find."""
    words = ["download", "--no-deps", "-q", "--retries", "0", "--timeout", "20", "-d", str(folder / "probe"), "mdurl"]
    probe = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    if probe.returncode and "onnection" in probe.stderr:
        pytest.skip("pip reaches no package index")
