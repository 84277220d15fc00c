"""Places to compute, each one GPU or the processors: which there are, who has them, and the lock that is the lease."""

from __future__ import annotations

import fcntl
import json
import os
import time

from disk import loaded, write
from facts import gpus

FOREIGN_BYTES = 1 << 30
"""Memory of a GPU from which on somebody computes there who did not queue."""


def candidates(request):
    """Return the places that would do, taken or not."""
    if not request["gpus"]:
        return ["cpu"]
    names = request.get("gpu_names") or ()
    found = [gpu["uuid"] for gpu in gpus() if not names or gpu["name"] in names]
    return found[: request["limit"]] if request.get("limit") else found


def holder(base, place):
    """Return who computes at a place, nothing where it is free."""
    path = os.path.join(base, "queue", place)
    if is_locked(path + ".lock"):
        return {"place": place, **(loaded(path + ".json") or {"who": "somebody", "what": "", "since": 0})}
    foreign = [gpu for gpu in gpus() if gpu["uuid"] == place and gpu["used_bytes"] > FOREIGN_BYTES]
    if foreign:
        gib = foreign[0]["used_bytes"] / (1 << 30)
        return {"place": place, "who": "another program", "what": "%.0f GiB of its memory" % gib, "since": 0}
    return None


def announce(base, place, job):
    """Write down for others whose job a place is given to; it has the place when it has the lock."""
    path = os.path.join(base, "queue", place)
    info = {"id": job["id"], "who": job["who"], "what": job["what"], "since": job["began"]}
    open(path + ".lock", "a", encoding="utf-8").close()
    write(path + ".json", json.dumps(info))


def take(path):
    """Return a descriptor that holds the lock of a place as long as this process lives, nothing if another has it."""
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(50):  # those who only look hold it for a moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(0.1)
    return None


def is_locked(path):
    """Tell whether somebody holds a lock on a file."""
    try:
        with open(path, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
