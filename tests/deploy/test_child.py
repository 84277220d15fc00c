"""The process with pyinfra, started as `Fleet` starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

NOBODY = {"ssh_hostname": "127.0.0.1", "ssh_port": 1, "ssh_strict_host_key_checking": "yes", "ssh_key": ""}
OPENING = {"hosts": [{"name": "box", "data": NOBODY}], "passwords": {}, "parallel": 1, "connect_timeout_s": 5}


def test_plugins_of_other_packages_are_not_loaded(tmp_path):
    about = tmp_path / "boom-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: boom\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[gevent.plugins.monkey.will_patch_all]\nboom = boom:boom\n[pyinfra.connectors]\nboom = boom:boom\n"
    )
    (tmp_path / "boom.py").write_text("raise SystemExit('a plugin was loaded')\n")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-m", "largeforge.deploy.child"], input=json.dumps(OPENING) + "\n", capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    failed, done = map(json.loads, ended.stdout.splitlines())
    assert (failed["kind"], failed["host"], failed["when"]) == ("failed", "box", "connect"), failed
    assert "Could not connect" in failed["error"] and done == {"kind": "done"}
