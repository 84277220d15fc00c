"""The unit of a job, a transient one: the command that starts it, and what systemd says of it."""

from __future__ import annotations

import os
import subprocess
import sys

STOP_TIMEOUT_S = 90
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "job.py")
"""What the unit runs; it stays where it is, whatever other versions come."""


def unit_command(job, folder):
    """Return the command that starts the unit of a job."""
    properties = {
        "Type": "exec",
        "WorkingDirectory": folder,
        "KillMode": "mixed",
        "TimeoutStopSec": "%ds" % STOP_TIMEOUT_S,
        "OOMPolicy": "stop",
        "ExecStopPost": "%s %s mend %s" % (sys.executable, PROGRAM, folder),
        "NoNewPrivileges": "yes",
        "ProtectSystem": "full",
        "ProtectKernelTunables": "yes",
        "ProtectKernelModules": "yes",
        "ProtectControlGroups": "yes",
        "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes",
        "LimitMEMLOCK": "infinity",
        "LimitNOFILE": "65536",
        "TasksMax": "infinity",
    }
    words = ["systemd-run", "--quiet", "--collect", "--unit", job["unit"], "--uid", job["user"]]
    words += ["--description", "LargeForge: %s for %s" % (job["what"], job["who"])]
    for name, value in properties.items():
        words += ["--property", "%s=%s" % (name, value)]
    return [*words, "--", sys.executable, PROGRAM, "work", folder]


def state(unit):
    """Return what systemd says of a unit in one word."""
    return run("systemctl", "is-active", unit)[1]


def run(*command):
    """Run a command; return its exit code and what it said."""
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return ended.returncode, ended.stdout.decode("utf-8", "replace").strip()
