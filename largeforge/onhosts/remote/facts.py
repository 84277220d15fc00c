"""What this host is and has, as its kernel and its driver say."""

from __future__ import annotations

import csv
import socket
import subprocess


def machine():
    """Return what tells this host from all others, whatever it is called."""
    try:
        with open("/etc/machine-id", encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def boot():
    """Return what is another one after each start of this host."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as stream:
        return stream.read().strip()


def memory_bytes():
    """Return the memory of this host."""
    with open("/proc/meminfo", encoding="utf-8") as stream:
        return int(stream.readline().split()[1]) * 1024


def memory_kills():
    """Return how many processes the kernel has killed for want of memory."""
    with open("/proc/vmstat", encoding="utf-8") as stream:
        return sum(int(line.split()[1]) for line in stream if line.startswith("oom_kill "))


def gpus():
    """Return the NVIDIA GPUs of this host."""
    query = "--query-gpu=uuid,name,memory.total,memory.used"
    try:
        said = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=20,
        ).stdout.decode()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in row] for row in csv.reader(said.splitlines())]
    return [
        {"uuid": row[0], "name": row[1], "memory_bytes": mebibytes(row[2]), "used_bytes": mebibytes(row[3])}
        for row in rows
        if len(row) == 4
    ]


def mebibytes(text):
    """Return a number of MiB as bytes; a driver writes `[N/A]` where memory is shared with the processors."""
    return int(text) << 20 if text.isdigit() else 0


def free_port():
    """Return a port at which nobody listens here."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
