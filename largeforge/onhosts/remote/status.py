"""A job as others see it: how it stands, how it is ended from outside, and how it is forgotten."""

from __future__ import annotations

import glob
import os
import re
import shutil
import time

from disk import loaded, write
from facts import boot
from folders import attempt_file, login, own_folder
from unit import run, state


def status(folder):
    """Return how a job stands, nothing where there is none."""
    job = loaded(os.path.join(folder, "job.json"))
    if not job:
        return None
    ended = loaded(attempt_file(folder, job, "ended", "json"))
    active = not ended and state(job["unit"]) in ("active", "activating", "deactivating", "reloading")
    if not ended and not active:
        time.sleep(0.5)  # it may have ended just now
        ended = loaded(attempt_file(folder, job, "ended", "json")) or {"code": None, "restarted": job["boot"] != boot()}
    kept = {key: job[key] for key in ("id", "who", "what", "mark", "attempt", "unit", "places", "began")}
    return {**kept, "folder": folder, "active": active, "ended": ended, "checkpoints": checkpoints(folder)}


def checkpoints(folder):
    """Return the steps of the checkpoints that are whole, the last one first."""
    sealed = glob.glob(
        os.path.join(folder, "stage", "work", "checkpoints", "checkpoint-*", "largeforge-checkpoint.json")
    )
    steps = (re.search(r"checkpoint-(\d+)/", path) for path in sealed)
    return sorted((int(step.group(1)) for step in steps if step), reverse=True)


def cancel(request):
    """End a job; it saves a checkpoint first, if it can."""
    folder = os.path.join(own_folder(request["base"], login()), "jobs", request["id"])
    before = status(folder)
    if before and before["active"]:
        write(attempt_file(folder, before, "cancelled", "txt"), "")
        run("systemctl", "stop", before["unit"])
    return {"before": before, "after": status(folder)}


def remove(request):
    """Forget a job that does not run."""
    folder = os.path.join(own_folder(request["base"], login()), "jobs", request["id"])
    found = status(folder)
    if found and not found["active"]:
        shutil.rmtree(folder, ignore_errors=True)
    return {"removed": bool(found and not found["active"])}
