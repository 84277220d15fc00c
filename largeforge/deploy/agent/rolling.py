"""Bring about at this host's gateway what a rollout has come to: `rolling.py`, which reads an order, a JSON object.

What it has come to is kept first (`path`, `text`), so that whoever goes on later begins where this ended. Then the
state of the gateway is patched (`url`, `token`, `patch`), and it is told what the gateway has counted of both sides
since it started, what it keeps beside, and which command somebody has left meanwhile (`command`, a file).
"""

from __future__ import annotations

import json
import os
import sys

from gateway import call
from switch import write


def main(order):
    """Do it and return what is to be told."""
    if order.get("text"):
        os.makedirs(os.path.dirname(order["path"]), exist_ok=True)
        write(order["path"], order["text"])
    guarded = call(order, "GET", "/admin/state").get("guarded", {})
    patch = order["patch"]
    wanted = [name for part in ("canaries", "shadows") for name, share in patch[part].items() if share]
    if set(wanted) & (set(guarded) - set(patch.get("guarded", ()))):  # nobody gives it a share again but on purpose
        patch = {"rollouts": patch["rollouts"]}
    call(order, "PATCH", "/admin/state", patch)
    arms = call(order, "GET", "/admin/arms")
    return {"arms": arms.get("workers", {}), "guarded": guarded, "command": taken(order["command"])}


def taken(path):
    """Return a command that somebody has left, once; None without one."""
    try:
        with open(path, encoding="utf-8") as stream:
            command = json.load(stream)
        os.unlink(path)
    except (OSError, ValueError):
        return None
    return command


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.load(sys.stdin))))
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
