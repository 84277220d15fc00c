"""The beginning of a job whose turn it is: places, folder, unit, and whether the unit got the places."""

from __future__ import annotations

import fcntl
import os
import time

from brought import sweep_inputs
from disk import loaded
from folders import attempt_file, login, own_folder
from places import announce, candidates, holder
from prepare import prepared
from talk import tell
from unit import run, state, unit_command

HOLD_TIMEOUT_S = 20.0


def begin(request, order):
    """Start the job as a unit that takes the places itself, and say how that went."""
    home = own_folder(request["base"], login())
    folder = os.path.join(home, "jobs", request["id"])
    with open(os.path.join(request["base"], "queue", ".starting"), "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        job, reason = started(request, order, folder)
    if reason:
        tell(kind="refused", reason=reason)
        return 1
    sweep_inputs(home)
    tell(kind="started", folder=folder, attempt=job["attempt"], unit=job["unit"], places=job["places"])
    return 0


def started(request, order, folder):
    """Return the job, and why its unit has not got its places; nobody else may be starting one."""
    base, wanted = request["base"], max(1, request["gpus"])
    free = [place for place in candidates(request) if not holder(base, place)][:wanted]
    if len(free) < wanted:
        return None, "the place was taken by another program meanwhile"
    job = prepared(folder, request, order, places=free, user=login())
    for place in free:
        announce(base, place, job)
    code, said = run(*unit_command(job, folder))
    return job, "systemd-run: %s" % said if code else held(folder, job)


def held(folder, job):
    """Wait until a unit has its places; return why it has not."""
    deadline = time.monotonic() + HOLD_TIMEOUT_S
    while time.monotonic() < deadline:
        if os.path.exists(attempt_file(folder, job, "events", "jsonl")):
            return ""
        ended = loaded(attempt_file(folder, job, "ended", "json"))
        if ended:
            return ended.get("error") or "it ended at once"
        if state(job["unit"]) in ("failed", "inactive", ""):
            time.sleep(0.3)
            ended = loaded(attempt_file(folder, job, "ended", "json")) or {}
            return ended.get("error") or "its unit ended at once: journalctl --unit %s says why" % job["unit"]
        time.sleep(0.05)
    return "its unit did not get the places in %.0f s" % HOLD_TIMEOUT_S
