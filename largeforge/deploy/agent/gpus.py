"""Write what nvidia-smi says of the GPUs for the node exporter: `gpus.py FILE`. The file is the old one or the new."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

FIELDS = ("index", "uuid", "utilization.gpu", "memory.used", "memory.total", "power.draw", "temperature.gpu")
TIMEOUT_S = 10
METRICS = (
    ("largeforge_gpu_use_ratio", "Share of time in which a kernel ran.", lambda row: number(row[2]) / 100),
    ("largeforge_gpu_memory_use_ratio", "Share of memory in use.", lambda row: number(row[3]) / number(row[4])),
    ("largeforge_gpu_power_watts", "Power draw.", lambda row: number(row[5])),
    ("largeforge_gpu_temperature_celsius", "Temperature.", lambda row: number(row[6])),
)


def main(path):
    """Write the file; nothing is left of an old one when the driver does not answer."""
    text = written(asked())
    aside = "%s.new" % path
    with open(aside, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(aside, 0o644)
    os.replace(aside, path)


def asked():
    """Return the rows that the driver tells, none where it does not."""
    try:
        ended = subprocess.run(
            ["nvidia-smi", "--query-gpu=%s" % ",".join(FIELDS), "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if ended.returncode:
        return []
    rows = csv.reader(ended.stdout.decode("utf-8", "replace").splitlines())
    return [[cell.strip() for cell in row] for row in rows if len(row) == len(FIELDS)]


def written(rows):
    """Return the metrics of all GPUs; what a GPU does not tell is left out."""
    lines = []
    for name, meaning, value in METRICS:
        found = []
        for row in rows:
            try:
                found.append('%s{gpu="%s",uuid="%s"} %.6g' % (name, row[0], row[1], value(row)))
            except (ValueError, ZeroDivisionError):
                continue
        if found:
            lines += ["# HELP %s %s" % (name, meaning), "# TYPE %s gauge" % name, *found]
    return "".join(line + "\n" for line in lines)


def number(text):
    """Return a number of the driver's; raise ValueError for `[N/A]`."""
    return float(text)


if __name__ == "__main__":
    main(sys.argv[1])
