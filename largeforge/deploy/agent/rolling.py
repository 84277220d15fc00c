"""Bring about at this host's gateway what a rollout has come to: `rolling.py`, which reads an order, a JSON object.

What it has come to is kept first (`path`, `text`), so that whoever goes on later begins where this ended; who comes
late, with less than what is kept, changes nothing. Then the state of the gateway is patched (`url`, `token`, `patch`),
and it is told what the gateway has counted of both sides since it started, what it keeps beside, and which command
somebody has left meanwhile for this rollout (`command`, a file, and `id`).
"""

from __future__ import annotations

import json
import os
import sys

from gateway import call
from switch import write

KEPT = 20
"""Rollouts that are remembered."""


class Late(Exception):
    """Somebody else has gone on with the rollout, or ended it."""


def main(order):
    """Do it and return what is to be told."""
    if order.get("text"):
        keep(order["path"], order["text"])
    guarded = call(order, "GET", "/admin/state").get("guarded", {})
    patch = order["patch"]
    wanted = [name for part in ("canaries", "shadows") for name, share in patch[part].items() if share]
    if set(wanted) & (set(guarded) - set(patch.get("guarded", ()))):  # nobody gives it a share again but on purpose
        patch = {"rollouts": patch["rollouts"]}
    call(order, "PATCH", "/admin/state", patch)
    arms = call(order, "GET", "/admin/arms")
    return {"arms": arms.get("workers", {}), "guarded": guarded, "command": taken(order["command"], order["id"])}


def keep(path, text):
    """Write down what a rollout has come to, and forget the oldest ones."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    new, old = json.loads(text), {}
    try:
        with open(path, encoding="utf-8") as stream:
            old = json.load(stream)
    except (OSError, ValueError):
        pass
    if old.get("number", 0) > new["number"] or (old.get("ended") and not new["ended"]):
        ending = old.get("ended") or "gone on with"
        raise Late("this rollout was %s by somebody else meanwhile" % ending.replace("_", " "))
    write(path, text)
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".json"))[:-KEPT]:
        os.unlink(os.path.join(folder, name))


def taken(path, rollout):
    """Return a command that somebody has left for a rollout, once; None without one."""
    try:
        with open(path, encoding="utf-8") as stream:
            command = json.load(stream)
        os.unlink(path)
    except (OSError, ValueError):
        return None
    return command if command.get("rollout") == rollout else None


if __name__ == "__main__":
    os.umask(0o022)  # what it writes, others look at
    try:
        print(json.dumps(main(json.load(sys.stdin))))
    except (OSError, Late) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
