"""Stands for a stage process: speaks the events protocol and does what its config says.

Config keys: `write` (text of the artifact), `fail` (message), `exit` (code), `die` (signal to
itself), `wait_for` (path that must appear before it ends), `append` (path that gets a line at start).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from largeforge.secrets import restored

spec = restored(json.loads(Path(sys.argv[1]).read_text()))
config, out = spec["config"], Path(spec["out"])


def emit(kind: str, **fields: object) -> None:
    print(json.dumps({"time": time.time(), "stage": spec["stage"], "kind": kind, **fields}), flush=True)


if config.get("append"):
    with Path(config["append"]).open("a") as stream:
        stream.write(f"{spec['stage']} {os.environ['OMP_NUM_THREADS']}\n")
print("a library prints something that is not an event", flush=True)
print("a line for the log", file=sys.stderr, flush=True)
emit("progress", step=1, total=2, unit="steps", loss=1.0)
if config.get("die"):
    os.kill(os.getpid(), config["die"])
while config.get("wait_for") and not Path(config["wait_for"]).exists():
    time.sleep(0.02)
if config.get("fail"):
    emit("failed", error=config["fail"], exit_code=config.get("exit", 1), reason=config.get("reason", ""))
    sys.exit(config.get("exit", 1))
if config.get("exit"):
    sys.exit(config["exit"])
inputs = {name: (Path(path) / "artifact.txt").read_text() for name, path in spec["inputs"].items()}
(out / "artifact.txt").write_text(config.get("write", "") + "".join(inputs.values()))
emit("result", metrics={"length": float(len(config.get("write", "")))}, info={})
